"""GEMMs' forms for NPUs: the planners read GPUs' forms element by element. The proofs of those hold of these."""

import pytest

from autotune import device, registry
from autotune.errors import WrongResult
from autotune.tuning import space
from autotune.tuning.validation.cases import cases_of
from autotune.tuning.validation.validate import validate

TARGETS = {
    "gemm/bf16_grouped": "ascend910b2",
    "gemm/bf16_linear": "ascend910b2",
    "gemm/fp8_block_scaled": "ascend950pr",
    "gemm/fp8_grouped": "ascend950pr",
}


def proved(kernel, npu):
    """The largest share of the error budget of the kernel's two smallest check problems, at the NPU's default."""
    checks = sorted(space.load(kernel, npu).check, key=lambda problem: problem.bytes_moved)
    shares = []
    for problem in checks[:2]:
        config = kernel.default(problem, npu)
        shares.append(validate(kernel, problem, config, npu, cases_of(kernel, problem, config, npu, checks)))
    return max(shares)


@pytest.mark.parametrize("name", TARGETS)
def test_npu_form_is_right(name):
    assert 0 < proved(registry.load(name), device.target(TARGETS[name])) <= 1


def test_npu_form_with_other_rows_of_weights_is_wrong(monkeypatch):
    """The proof above runs the masked loads: a shift in them alone is found."""
    kernel = registry.load("gemm/bf16_linear")
    scope = kernel.jit.fn.__globals__
    right = scope["load_rows"]

    def shifted(ptr, row, inside, col, k):
        return right.fn(ptr, row + 1, inside, col, k)

    monkeypatch.setitem(scope, "load_rows", shifted)
    with pytest.raises(WrongResult):
        proved(kernel, device.target("ascend910b2"))
