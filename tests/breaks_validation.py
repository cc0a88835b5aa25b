"""Runs in a process with TRITON_INTERPRET=1: breaks a kernel in several ways and prints what validation says."""

import dataclasses

import torch

from autotune import device, registry
from autotune.errors import WrongResult
from autotune.tuning.validation.validate import validate

GPU = device.named("mi355x")
kernel = registry.load("gemm/fp8_block_scaled")
problem = kernel.problem(37, 200, 512)
config = kernel.default(problem, GPU)


def verdict(launch):
    try:
        return f"right {validate(dataclasses.replace(kernel, launch=launch), problem, config, GPU):.3f}"
    except WrongResult:
        return "wrong"


def unwritten(*args, config, device):
    kernel.launch(*args, config=config, device=device)
    return torch.empty((37, 200), dtype=torch.bfloat16)


def scaled(*args, config, device):
    return kernel.launch(*args, config=config, device=device) * 1.02


def one_element(*args, config, device):
    out = kernel.launch(*args, config=config, device=device)
    out[36, 199] += out.abs().max() * 0.05
    return out


print(verdict(kernel.launch).split()[0], verdict(unwritten), verdict(scaled), verdict(one_element))
