"""Inputs, references, checks and launchers run on a stand-in for a GPU that refuses what CUDA refuses."""

from functools import partial

import pytest
import torch
from rowless import results, without
from stand_in import cuda
from stand_in.cuda import Capturing, DeviceMismatch, standing_in

from autotune import device as devices
from autotune import registry
from autotune.config import key, resized
from autotune.errors import WrongResult
from autotune.tuning import space
from autotune.tuning.measurement import truth
from autotune.tuning.measurement.gpu import Gpu
from autotune.tuning.validation.row_batches import NoRows, silenced
from autotune.tuning.workers.worker import Job

H200, MI355X = (devices.named(name) for name in ("h200", "mi355x"))


def job(kernel, problem, device):
    return Job(kernel.name, key(problem), kernel.default(problem, device), device.name)


@pytest.mark.thorough
@pytest.mark.parametrize("name", registry.names())
def test_check_runs_on_one_device_and_finds_what_is_unwritten(name):
    """Launches do nothing, so that every output is what the allocator gave; nothing may be of the CPU before that."""
    kernel = registry.load(name)
    seen = set()
    for device in (H200, MI355X):
        with standing_in(device.name), silenced():
            meter = Gpu(kind=device.name).open(0)
            for problem in space.load(kernel, device).check:
                if problem not in seen:
                    with pytest.raises(WrongResult):
                        meter.check(job(kernel, problem, device))
                    seen.add(problem)


@pytest.mark.parametrize("name", registry.names())
def test_launchers_wait_for_nothing_while_captured(name):
    kernel = registry.load(name)
    with standing_in("h200") as mode, silenced():
        problem = space.load(kernel, H200).check[0]
        inputs = problem.inputs(0, "cuda:0")
        mode.capturing = True
        kernel.launch(*inputs, config=kernel.default(problem, H200), device=H200)


@pytest.mark.parametrize("name", registry.names())
def test_launchers_without_rows_do_nothing_while_captured(name):
    """An idle rank replays the graph that it captured without tokens: no launch, no wait, nothing on another device."""
    kernel = registry.load(name)
    problem = space.load(kernel, H200).check[-1]
    with standing_in("h200") as mode, silenced():
        inputs = without(problem, problem.VARYING[0], "cuda:0")
        config = kernel.serve(inputs, H200).config
        mode.capturing = True
        outputs = results(kernel.launch(*inputs, config=config, device=H200))
        assert all(output.device == cuda.WHERE for output in outputs)


def test_stand_in_refuses_what_cuda_refuses():
    with standing_in("h200") as mode:
        here, there = torch.ones(4), torch.ones(4, device="cuda")
        assert (here.device.type, there.device, there[1:].device) == ("cpu", cuda.WHERE, cuda.WHERE)
        mixed = (
            lambda: here + there,
            lambda: torch.where(there > 0, here, 0.0),
            lambda: here[there.long()],
            lambda: there @ here,
            lambda: torch.cat((here, there)),
            lambda: torch.func.vmap(torch.dot, (None, 0))(here, there[:, None] * torch.ones(4, 4, device="cuda")),
        )
        for call in mixed:
            with pytest.raises(DeviceMismatch):
                call()
        assert (there + torch.tensor(1.0)).device == cuda.WHERE, "a number may lie anywhere"
        assert there[torch.tensor([0])].device == cuda.WHERE, "indices may lie on the CPU"
        assert (here.to("cuda") + there).cpu().device.type == "cpu"
        assert torch.func.jacrev(lambda x: x * there)(there).device == cuda.WHERE
        mode.capturing = True
        for call in (there.tolist, lambda: bool(there[0]), there.cpu, lambda: torch.tensor([1], device="cuda")):
            with pytest.raises(Capturing):
                call()


def test_poisoned_memory_is_never_right_by_chance():
    for dtype in (torch.float32, torch.bfloat16, torch.float8_e4m3fn, torch.float8_e4m3fnuz):
        with truth.poisoned():
            assert torch.empty(9, dtype=dtype).float().isnan().all()
    with truth.poisoned():
        assert (torch.empty(9, dtype=torch.int32) == torch.iinfo(torch.int32).max).all()
    assert torch.get_deterministic_debug_mode() == 0


ROWLESS = {
    *("attention/dense_mqa", "compressor/decode_pool", "compressor/prefill_pool", "compressor/state_write"),
    *("compressor/index_key_store", "compressor/norm_rope_store", "indexer/key_gather", "indexer/key_prep"),
    *("metadata/chunk_indices", "metadata/compress_plan", "moe/align", "rope/mla_prep", "rope/qk_prep"),
}
"""Kernels that write into caches or states, or whose rows depend on others: held against their whole reference."""


def sampled(kernel, problem):
    """Sampled batches of a large problem; None where its rows are no calls of their own."""
    inputs = problem.inputs(0, "cpu")
    launch = partial(kernel.launch, config=kernel.default(problem, H200), device=H200)
    try:
        return tuple(truth._sampled(kernel, problem, inputs, launch)), kernel.reference(problem, *inputs)
    except (NoRows, LookupError):
        return None


def assert_sampled_rows_are_those_of_the_whole(kernel, base):
    problem = resized(base, kernel.problem.VARYING[0], 36)
    found = problem and sampled(kernel, problem)
    assert (found is None) == (kernel.name in ROWLESS)
    for batch in found[0] if found else ():
        for whole, rows in zip(found[1], batch.expected, strict=True):
            for value, part in ((whole.value, rows.value), (whole.bound, rows.bound)):
                there = batch.batch.rows(value, batch.first, part.shape)
                assert torch.allclose(there, part, rtol=1e-9, atol=1e-12)
    if found:
        assert {0, 36 - 16} <= {batch.first for batch in found[0]}, "the first rows, and the tail"


FEW = (
    *("attention/dense_mqa", "compressor/decode_pool", "gemm/fp8_block_scaled", "indexer/ragged_logits"),
    *("indexer/topk", "metadata/chunk_indices", "moe/mxfp4_grouped_gemm"),
)


@pytest.mark.parametrize("name", FEW)
def test_sampled_rows_are_those_of_whole(name):
    kernel = registry.load(name)
    assert_sampled_rows_are_those_of_the_whole(kernel, space.load(kernel, H200).check[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names())
def test_sampled_rows_of_every_problem_are_those_of_whole(name):
    kernel = registry.load(name)
    for base in space.load(kernel, H200).check:
        assert_sampled_rows_are_those_of_the_whole(kernel, base)
