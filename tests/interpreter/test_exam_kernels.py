"""Kernels of the exam of public regressions compute what they say: a wrong kernel would prove nothing of a compiler."""

import importlib

import pytest

from autotune import device as devices
from autotune.config import Config
from autotune.tuning.validation.validate import validate

SMALL = {
    "layer_norm": ("b200", {"rows": 2, "cols": 15360}),
    "tf32x3_gemm": ("l40", {"m": 128, "n": 32, "k": 128}),
    "weight_gradient": ("mi300x", {"groups": 2, "tokens": 80, "m": 272, "n": 256}),
    "paged_attention": ("mi355x", {"length": 24, "heads": 2, "group": 16, "dim": 256, "pages": 9}),
    "extend_attention": ("mi355x", {"length": 72, "prefix": 80, "heads": 1, "slots": 99}),
    "sparse_decode": ("a100", {"batch": 2, "heads": 24, "tokens": 48}),
    "skinny_gemm": ("mi355x", {"m": 33, "n": 48, "k": 512}),
    "mxfp4_experts": ("mi300x", {"blocks": 2, "rows": 32, "n": 272, "k": 288, "experts": 4}),
}
"""Sizes with a ragged edge in every dimension that a kernel masks."""


@pytest.mark.parametrize("name", SMALL)
def test_kernel_of_exam_holds_its_reference(name):
    gpu, sizes = SMALL[name]
    kernel = getattr(importlib.import_module(f"benchmarks.check.regressions.{name}"), name)
    device, problem = devices.named(gpu), kernel.problem(**sizes)
    config = Config(kernel.default(problem, device))
    assert kernel.reject(problem, config, device) is None
    assert validate(kernel, problem, config, device) <= 1
