"""The real bench. On a machine with one CUDA or ROCm GPU: `python -m pytest -m gpu`; its arithmetic needs none."""

import pytest
import torch

from autotune import device as devices
from autotune import registry, table
from autotune.cli import main
from autotune.config import build
from autotune.tuning.jobs import measure_job
from autotune.tuning.measurement import cold_cache, gpu
from autotune.tuning.measurement.bench import Measurement
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.executors import lane
from autotune.tuning.session.noise import noise
from autotune.tuning.workers.worker import Limits

KERNEL = "norm/rms_norm_quant"
LIMITS = Limits(processes=1)


def test_input_copies_exceed_twice_the_last_level_cache():
    overfull = cold_cache.overfull_bytes(256 * 2**20)
    assert cold_cache.copies_for(64 * 2**20, overfull, 2**40) == 9
    assert cold_cache.copies_for(2**20, overfull, 2**40) == 513
    assert cold_cache.copies_for(2**10, overfull, 2**40) == 1000, "tiny inputs: as many as a graph has launches"
    assert cold_cache.copies_for(2**30, overfull, 2**40) == 2
    assert cold_cache.copies_for(2**30, overfull, 2**30) == 1, "no room: the same inputs again"


def test_graph_launch_costs_under_five_percent():
    for us in (0.5, 3.0, 40.0, 900.0):
        for copies in (1, 2, 9, 100, 1000):
            launches = cold_cache.launches_for(us, copies)
            assert launches % copies == 0
            assert launches * max(us, 1.0) >= 400


def test_copies_look_to_compiler_as_what_they_are_copies_of():
    whole = torch.arange(40.0).view(5, 8)
    inputs = (whole[:, 1:6], whole, 3, whole[0].expand(4, -1), None)
    copies = cold_cache.copied(inputs)
    for had, got in zip(inputs, copies, strict=True):
        if not isinstance(had, torch.Tensor):
            assert got == had
            continue
        assert torch.equal(got, had)
        assert (got.stride(), got.storage_offset()) == (had.stride(), had.storage_offset())
        assert got.data_ptr() != had.data_ptr()
    copies[1].zero_()
    assert copies[0].sum() == copies[3].sum() == 0, "what shares memory still does"
    assert whole.sum() == 780, "the original stays"
    assert cold_cache.launches_for(900.0, 1) == 1


pytestmark_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is visible")]


def on_gpu(test):
    for mark in pytestmark_gpu:
        test = mark(test)
    return test


def jobs(rows, count=4):
    here, kernel = devices.current(), registry.load(KERNEL)
    from autotune.tuning import space

    problem = build(kernel.problem, {"rows": rows, "cols": 7168, "dtype": here.fp8}, "test")
    configs = [kernel.default(problem, here)]
    configs += [c for c in space.feasible(space.load(kernel, here), kernel, problem, here) if c not in configs]
    return [Subject.of(kernel, here).job(problem, config) for config in configs[:count]]


@on_gpu
def test_default_is_right_and_its_times_repeat(state):
    (job,) = jobs(64, 1)
    with lane(LIMITS, state) as workers:
        asked = Measurement(gpu.Gpu(), 0, (job,), samples=20)
        first, second = (workers.submit(measure_job, asked).result() for _ in range(2))
    assert 0 <= first["errors"][0] <= 1
    assert sum(first["times"][0]) == pytest.approx(sum(second["times"][0]), rel=0.2)


@on_gpu
def test_streaming_kernels_are_not_faster_than_dram(state):
    (job,) = jobs(8192, 1)
    problem = build(registry.load(KERNEL).problem, dict(job.problem), "test")
    with lane(LIMITS, state) as workers:
        answer = workers.submit(measure_job, Measurement(gpu.Gpu(), 0, (job,), samples=20)).result()
    fastest = problem.bytes_moved / (devices.current().dram_tb_s * 1e6)
    assert min(answer["times"][0]) >= 0.9 * fastest, "the last-level cache was warm"


@on_gpu
def test_interleaved_race_of_equals_sees_no_gain(state):
    for one in noise(gpu.Gpu(), devices.current(), 0, state):
        assert abs(one.twin) <= max(one.floors[-1], 0.02)


@on_gpu
def test_session_writes_measured_rows(tmp_path, monkeypatch, state):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    name = devices.current().name
    arguments = ["tune", KERNEL, "--device", name, "--trials", "8", "--bench", "gpu"]
    assert main([*arguments, *(f"--problem=rows={rows},cols=7168" for rows in (16, 64, 256))]) == 0
    rows = table.load(next((tmp_path / "tables").rglob("*.json"))).rows
    assert {row.tier for row in rows} == {"measured"}
    assert all(row.evidence["us"] > 0 and "noise_floor" in row.evidence for row in rows)
    assert all(row.evidence["speedup_over_default"] >= 0.97 for row in rows)
