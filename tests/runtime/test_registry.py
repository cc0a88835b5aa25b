"""Names of kernels."""

import pytest

from autotune import registry
from autotune.errors import UsageError


def test_every_listed_name_is_a_kernel():
    for name in registry.names():
        registry.check(name)


@pytest.mark.parametrize(
    "name", ["gemm", "gemm/", "gemm/_tiles", "_quant", "gemm/../gemm/bf16_linear", "", "/x", "moe/gemm"]
)
def test_other_names_are_refused(name):
    with pytest.raises(UsageError, match="unknown kernel"):
        registry.check(name)
