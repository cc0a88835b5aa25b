"""No 32-bit sum or product of any kernel overflows at a million tokens and pools past 2^31 elements."""

import pytest
from address_arithmetic import plant, verdict

from autotune import registry
from autotune.errors import ToolchainError
from autotune.toolchain import PROVE_FP4


def test_planted_overflow_is_found():
    assert "int32 overflow" in plant(False)
    assert plant(True) is None


@pytest.mark.parametrize("name", registry.names())
def test_addresses_are_exact(name):
    said = verdict(name)
    if said and PROVE_FP4.name in said:
        raise ToolchainError(said)
    assert said is None
