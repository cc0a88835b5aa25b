"""The real bench. On a machine with one CUDA or ROCm GPU: `python -m pytest -m gpu`; its arithmetic needs none."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from autotune import device, registry, table
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


def test_copies_of_the_inputs_exceed_twice_the_last_level_cache_where_there_is_room():
    overfull = cold_cache.overfull_bytes(256 * 2**20)
    assert cold_cache.copies_for(64 * 2**20, overfull, 2**40) == 9
    assert cold_cache.copies_for(2**20, overfull, 2**40) == 513
    assert cold_cache.copies_for(2**10, overfull, 2**40) == 1000, "tiny inputs: as many as a graph has launches"
    assert cold_cache.copies_for(2**30, overfull, 2**40) == 2
    assert cold_cache.copies_for(2**30, overfull, 2**30) == 1, "no room: the same inputs again"


def test_graphs_are_long_enough_that_launching_them_is_under_five_percent():
    for us in (0.5, 3.0, 40.0, 900.0):
        for copies in (1, 2, 9, 100, 1000):
            launches = cold_cache.launches_for(us, copies)
            assert launches % copies == 0
            assert launches * max(us, 1.0) >= 400


def test_copies_look_to_the_compiler_as_what_they_are_copies_of():
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


def test_the_code_that_asks_a_gpu_runs_on_a_stand_in():
    command = [sys.executable, str(Path(__file__).parent / "gpu_cases.py")]
    told = subprocess.run(command, capture_output=True, text=True, env={**os.environ, "TRITON_INTERPRET": "1"})
    assert told.returncode == 0, told.stderr
    found = json.loads(told.stdout)
    assert 0 < found["error"] <= 1
    assert found["checked"] == ["launch"] * 3
    for asked in ("right", "right, sampled"):
        assert all(0 < share <= 1 for share in found[asked].values()), found[asked]
    for asked in ("wrong logits of a prefill", "a wrong tail, sampled", "unwritten", "two ulps"):
        assert found[asked].startswith("WrongResult"), found[asked]
    assert found["samples"] == 6
    assert found["us"] > 0
    before, once, *probe, captured, settled, warm = found["timed"][:8]
    cold = [["cold", 1], ["sleep", 1]]
    assert before == ["launch", 2 + found["copies"]], "compiled by two launches before one graph of each copy"
    assert once == [f"replay {found['copies']}", 1]
    assert probe == [*cold, once]
    assert captured[1] > found["copies"], "a longer graph, since the first took under 400 us"
    assert (settled, warm) == ([f"replay {captured[1]}", 1], ["warm", 1])
    assert found["timed"][8:] == [*cold, settled] * 6, "the cache is cold, and the GPU busy, before each sample"
    fast, hot, fallen = found["throttled"]
    assert (fast, hot) == ("", "hardware thermal")
    assert "1980 MHz" in fallen
    kinds = [found[name] for name in ("an error", "a lost context", "no memory", "a wrong result")]
    assert kinds == ["RuntimeError", "Sticky", "OutOfMemory", "WrongResult"]


pytestmark_gpu = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="no GPU is visible")]


def on_gpu(test):
    for mark in pytestmark_gpu:
        test = mark(test)
    return test


def jobs(rows, count=4):
    here, kernel = device.current(), registry.load(KERNEL)
    from autotune.tuning import space

    problem = build(kernel.problem, {"rows": rows, "cols": 7168, "dtype": here.fp8}, "test")
    configs = [kernel.default(problem, here)]
    configs += [c for c in space.feasible(space.load(kernel, here), kernel, problem, here) if c not in configs]
    return [Subject.of(kernel, here).job(problem, config) for config in configs[:count]]


@on_gpu
def test_the_default_is_right_and_its_times_repeat(state):
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
    fastest = problem.bytes_moved / (device.current().dram_tb_s * 1e6)
    assert min(answer["times"][0]) >= 0.9 * fastest, "the last-level cache was warm"


@on_gpu
def test_an_interleaved_race_of_equals_sees_no_gain(state):
    for one in noise(gpu.Gpu(), device.current(), 0, state):
        assert abs(one.twin) <= max(one.floors[-1], 0.02)


@on_gpu
def test_a_session_writes_measured_rows(tmp_path, monkeypatch, state):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    name = device.current().name
    arguments = ["tune", KERNEL, "--device", name, "--trials", "8", "--bench", "gpu"]
    assert main([*arguments, *(f"--problem=rows={rows},cols=7168" for rows in (16, 64, 256))]) == 0
    rows = table.load(next((tmp_path / "tables").rglob("*.json"))).rows
    assert {row.tier for row in rows} == {"measured"}
    assert all(row.evidence["us"] > 0 and "noise_floor" in row.evidence for row in rows)
    assert all(row.evidence["speedup_over_default"] >= 0.97 for row in rows)
