"""Scales of FP8 products, fp32 or e8m0, applied by the matrix instruction or after it: one result."""

import pytest
import torch

from autotune import device, registry
from autotune.config import Config
from autotune.errors import UsageError
from autotune.tuning.validation.validate import validate

PROBLEMS = {
    "gemm/fp8_block_scaled": {"m": 37, "n": 200, "k": 512},
    "gemm/fp8_grouped": {"m": 19, "groups": 2, "n": 136, "k": 256},
    "moe/fp8_grouped_gemm": {"tokens": 5, "topk": 2, "experts": 4, "n": 136, "k": 256},
}
SCALES = {
    "gemm/fp8_block_scaled": (2, 3),
    "gemm/fp8_grouped": (1, 3),
    "moe/fp8_grouped_gemm": (1, 3),
}


def drawn(name, gpu):
    """Kernel, problem with e8m0 scales, inputs and the default config, which scales natively."""
    kernel = registry.load(name)
    problem = kernel.problem(**PROBLEMS[name], ue8m0=True)
    config = kernel.default(problem, gpu)
    assert config["NATIVE_SCALING"]
    return kernel, problem, list(problem.inputs(0, "cpu")), config


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize(("gpu", "depth"), [("b200", 128), ("b200", 256), ("mi355x", 256)])
def test_native_scaling_is_right(name, gpu, depth):
    gpu = device.named(gpu)
    kernel, problem, _, config = drawn(name, gpu)
    assert validate(kernel, problem, Config({**config, "BLOCK_K": depth}), gpu) <= 1


@pytest.mark.parametrize("name", PROBLEMS)
def test_e8m0_scales_mean_their_powers_of_two(name):
    gpu = device.named("mi355x")
    kernel, _, inputs, config = drawn(name, gpu)
    promoted = Config({**config, "NATIVE_SCALING": False})
    bytes_ = kernel.launch(*inputs, config=promoted, device=gpu)
    typed, wide = list(inputs), list(inputs)
    for at in SCALES[name]:
        typed[at] = inputs[at].view(torch.float8_e8m0fnu)
        wide[at] = torch.exp2(inputs[at].float() - 127)
    assert torch.equal(kernel.launch(*typed, config=promoted, device=gpu), bytes_)
    assert torch.equal(kernel.launch(*wide, config=promoted, device=gpu), bytes_)
    assert kernel.problem_of(tuple(typed), gpu).ue8m0
    assert not kernel.problem_of(tuple(wide), gpu).ue8m0


@pytest.mark.parametrize("native", [True, False])
def test_scale_of_255_makes_its_own_row_nan(native):
    gpu = device.named("b200")
    kernel, _, inputs, config = drawn("gemm/fp8_block_scaled", gpu)
    inputs[2][3, 1] = 255
    out = kernel.launch(*inputs, config=Config({**config, "NATIVE_SCALING": native}), device=gpu)
    assert out[3].isnan().all()
    assert out[torch.arange(len(out)) != 3].isfinite().all()


@pytest.mark.parametrize("name", PROBLEMS)
@pytest.mark.parametrize(
    ("first", "second", "reason"),
    [
        (torch.float32, torch.uint8, "must both be fp32 or both e8m0"),
        (torch.float8_e8m0fnu, torch.float32, "must both be fp32 or both e8m0"),
        (torch.int32, torch.int32, "torch.float32 or torch.uint8 or torch.float8_e8m0fnu"),
        (torch.bfloat16, torch.bfloat16, "torch.float32 or torch.uint8 or torch.float8_e8m0fnu"),
    ],
)
def test_scales_of_other_dtypes_are_refused(name, first, second, reason):
    gpu = device.named("b200")
    kernel, _, inputs, config = drawn(name, gpu)
    for at, dtype in zip(SCALES[name], (first, second), strict=True):
        inputs[at] = torch.empty(inputs[at].shape, dtype=dtype)
    with pytest.raises(UsageError, match=reason):
        kernel.launch(*inputs, config=config, device=gpu)
