"""No 32-bit sum or product of any kernel overflows at a million tokens and pools past 2^31 elements."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotune import registry
from autotune.errors import ToolchainError
from autotune.toolchain import PROVE_FP4


@pytest.fixture(scope="module")
def found():
    script = Path(__file__).with_name("address_cases.py")
    environment = os.environ | {"TRITON_INTERPRET": "1"}
    run = subprocess.run([sys.executable, script], env=environment, capture_output=True, text=True, check=True)
    return json.loads(run.stdout)


def test_a_planted_overflow_is_found(found):
    assert "int32 overflow" in found["planted"]
    assert found["wide"] is None


@pytest.mark.parametrize("name", registry.names())
def test_addresses_are_exact(name, found):
    if found[name] and PROVE_FP4.name in found[name]:
        raise ToolchainError(found[name])
    assert found[name] is None
