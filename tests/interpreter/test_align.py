"""One sort for both GEMMs of a layer: the same result as each sorting for itself, and none for another block_m."""

import pytest
import torch

from autotune import device, registry
from autotune.errors import UsageError
from autotune.tuning.interpreter.sanitizer import sanitized


@pytest.mark.thorough
def test_shared_alignment_gives_same_result():
    gpu = device.named("mi355x")
    align, gemm = registry.load("moe/align"), registry.load("moe/bf16_grouped_gemm")
    problem = gemm.problem(tokens=9, topk=3, experts=5, n=40, k=64)
    a, w, ids = problem.inputs(0, "cpu")
    config = gemm.default(problem, gpu)
    block_m = config.size("BLOCK_M")
    aligned = {"config": align.default(align.problem(9, 3, 5, block_m), gpu), "device": gpu}
    with sanitized():
        slots, experts, used = align.launch(ids, 5, block_m, **aligned)
        alone = gemm.launch(a, w, ids, config=config, device=gpu)
        shared = gemm.launch(a, w, ids, (slots, experts), config=config, device=gpu)
    assert torch.equal(alone, shared)
    assert int(used) == int((experts >= 0).sum()) > 0


@pytest.mark.parametrize("name", ["moe/bf16_grouped_gemm", "moe/fp8_grouped_gemm", "moe/mxfp4_grouped_gemm"])
def test_alignment_for_another_block_is_refused(name):
    gpu = device.named("mi355x")
    kernel = registry.load(name)
    problem = kernel.problem(tokens=9, topk=3, experts=5, n=128, k=128)
    inputs, config = problem.inputs(0, "meta"), kernel.default(problem, gpu)
    wrong = (torch.empty(99, dtype=torch.int32, device="meta"), torch.empty(7, dtype=torch.int32, device="meta"))
    with pytest.raises(UsageError, match=r"sorted_slots must be contiguous torch.int32 \[\d+\], got .* \[99\]"):
        kernel.launch(*inputs, wrong, config=config, device=gpu)
