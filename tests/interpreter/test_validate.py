"""Validation accepts a kernel, and refuses it when it is broken in several ways."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from autotune import device, registry
from autotune.errors import WrongResult
from autotune.tuning.validation.validate import validate

GPU = device.named("mi355x")
KERNEL = registry.load("gemm/fp8_block_scaled")
PROBLEM = KERNEL.problem(37, 200, 512)
CONFIG = KERNEL.default(PROBLEM, GPU)


def unwritten(*args, config, device):
    KERNEL.launch(*args, config=config, device=device)
    return torch.empty((37, 200), dtype=torch.bfloat16)


def scaled(*args, config, device):
    return KERNEL.launch(*args, config=config, device=device) * 1.02


def one_element(*args, config, device):
    out = KERNEL.launch(*args, config=config, device=device)
    out[36, 199] += out.abs().max() * 0.05
    return out


def test_right_kernel_is_accepted():
    assert 0 <= validate(KERNEL, PROBLEM, CONFIG, GPU) <= 1


@pytest.mark.parametrize("launch", [unwritten, scaled, one_element])
def test_broken_kernel_is_refused(launch):
    with pytest.raises(WrongResult):
        validate(replace(KERNEL, launch=launch), PROBLEM, CONFIG, GPU)


def test_kernel_with_declared_problem_is_proved():
    (name,) = registry.named(str(Path(__file__).parents[2] / "examples" / "short_softmax.py"))
    kernel = registry.load(name)
    for shape in ((3, 100), (1, 128)):
        problem = kernel.problem(*shape)
        assert 0 < validate(kernel, problem, kernel.default(problem, GPU), GPU) <= 1
    with pytest.raises(WrongResult):
        validate(replace(kernel, launch=lambda x, **given: x), problem, kernel.default(problem, GPU), GPU)
