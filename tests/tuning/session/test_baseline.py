"""The library baseline: torch's own functions do the kernels' jobs, and stand beside default, tuned and roofline."""

import json
from dataclasses import replace
from unittest import mock

import pytest

from autotune import device, registry, table
from autotune.cli import main
from autotune.config import Config, describe
from autotune.tuning import space
from autotune.tuning.cost_model.roofline import roofline_us
from autotune.tuning.measurement.simulated import Faults, Modeled, Simulated, SimulatedMeter
from autotune.tuning.session.baseline import LibraryComparison, against_library
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.crash_log import CrashLog
from autotune.tuning.session.evaluator import Measurer
from autotune.tuning.session.executors import local
from autotune.tuning.workers.worker import Limits

H200 = device.named("h200")
WITH_LIBRARY = [name for name in registry.names() if registry.load(name).library is not None]
UNLIKE = {
    "indexer/topk": "which of equal logits are taken is left open",
    "norm/rms_norm": "on a CPU torch rounds to bf16 before it multiplies by the weight, too",
}
"""Kernels whose library may differ from the reference, and why."""


def mm(x, w, out_dtype):
    """CPUs lack torch.mm with another dtype out."""
    return (x.double() @ w.double()).to(out_dtype)


def scaled_mm(a, b, a_scale, b_scale, out_dtype):
    """CPUs lack block scales; strides are held against PyTorch's ScaledBlas.cpp, which skips those of one element."""
    (m, k), n = a.shape, b.shape[1]
    blocks = k // 128
    assert a_scale.shape == (m, blocks) and b_scale.shape == (blocks, -(-n // 128))
    assert m == 1 or a_scale.stride(0) == 1
    assert blocks == 1 or a_scale.stride(1) == m
    assert blocks == 1 or b_scale.stride(0) == 1
    assert b_scale.shape[1] == 1 or b_scale.stride(1) == -(-blocks // 4) * 4
    wide_b = b_scale.double().repeat_interleave(128, 0).repeat_interleave(128, 1)[:, :n] * b.double()
    return ((a.double() * a_scale.double().repeat_interleave(128, 1)) @ wide_b).to(out_dtype)


@pytest.mark.parametrize("name", WITH_LIBRARY)
def test_library_does_job_of_its_kernel(name):
    kernel = registry.load(name)
    right = wrong = 0
    for problem in space.load(kernel, H200).check:
        inputs = problem.inputs(0, "cpu")
        with mock.patch("torch.mm", mm), mock.patch("torch._scaled_mm", scaled_mm):
            call = kernel.library.prepare(problem, *inputs)
            if call is None:
                continue
            outputs = kernel.decode(problem, call())
        expected = kernel.reference(problem, *inputs)
        shares = [
            float(((got - want.value).abs() <= want.bound).double().mean())
            for want, got in zip(expected, outputs, strict=True)
        ]
        assert min(shares) > 0.5, f"{describe(problem)}: another job, not another precision"
        right, wrong = right + (min(shares) == 1), wrong + (min(shares) < 1)
    assert right + wrong > 0
    assert bool(wrong) == (name in UNLIKE)


def test_kernels_with_one_call_of_torch_name_it():
    assert set(WITH_LIBRARY) == {
        *("gemm/bf16_grouped", "gemm/bf16_linear", "gemm/fp8_block_scaled", "indexer/topk"),
        *("norm/layer_norm", "norm/rms_norm", "sampling/greedy"),
    }


def test_simulated_library_is_slower_than_roofline():
    kernel = registry.load("norm/rms_norm")
    problem = space.load(kernel, H200).compile[0]
    job = replace(Subject.of(kernel, H200).job(problem, Config()), library=True)
    assert Modeled(1).us(job) > roofline_us(kernel, problem, H200)
    assert Modeled(1).us(job) == Modeled(1).us(job) != Modeled(2).us(job)


def test_roofline_is_longer_of_flops_and_bytes():
    kernel = registry.load("gemm/bf16_linear")
    deep, flat = (kernel.problem(*sizes) for sizes in ((8192, 8192, 8192), (1, 8192, 8192)))
    assert roofline_us(kernel, deep, H200) == pytest.approx(2 * 8192**3 / H200.rate("bf16"))
    assert roofline_us(kernel, flat, H200) == pytest.approx(flat.bytes_moved / (1e6 * H200.dram_tb_s))


def compared(bench, state, kernel="norm/rms_norm"):
    subject = Subject.of(registry.load(kernel), H200)
    problem = space.load(subject.kernel, H200).check[0]
    default = subject.kernel.default(problem, H200)
    tuned = next(
        c for c in space.feasible(space.load(subject.kernel, H200), subject.kernel, problem, H200) if c != default
    )
    with local(Limits(processes=1), state, bench) as executors:
        measurer = Measurer(subject, bench, executors.lanes, CrashLog(state, "h200"), state)
        return against_library(measurer, problem, tuned, default)


def test_wrong_library_is_timed_and_never_counted(state):
    evidence = compared(Simulated(faults=Faults(wrong=1.0)), state)["library"]
    assert "differs from the reference" in evidence["differs"]
    assert evidence["us"] > 0 and "speedup" not in evidence
    row = table.Row((("rows", 1),), Config(), "simulated", {"us": 9.0, "roofline_us": 1.0, "library": evidence}, "", "")
    told = LibraryComparison.of(row)
    assert told.speedup is None and "differs" in told.library
    assert (told.tuned_us, told.default_us) == (evidence["tuned_us"], evidence["default_us"])


@pytest.mark.parametrize("faults", [Faults(out_of_memory=1.0), Faults(segfault=1.0)])
def test_library_that_cannot_run_is_absent(faults, state):
    told = compared(Simulated(faults=faults), state)["library"]
    assert set(told) == {"name", "absent"} and told["absent"]


def test_kernel_without_library_has_its_roofline_only(state):
    assert list(compared(Simulated(), state, "quant/fp8_group_quant")) == ["roofline_us"]


@pytest.mark.slow
def test_session_shows_default_tuned_library_and_roofline(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(SimulatedMeter, "_factor", lambda self, noise: 1.0)
    arguments = [
        "tune",
        "norm/layer_norm",
        "--device",
        "h200",
        "--bench",
        "simulated:3",
        "--trials",
        "2",
        "--jobs",
        "1",
    ]
    arguments += ["--problem", "rows=64,cols=128", "--tables", str(tmp_path)]
    assert main([*arguments, "--json"]) == 0
    (session,) = json.loads(capsys.readouterr().out)
    (one,) = session["compared"]
    assert session["tier"] == "simulated"
    assert one["problem"] == "rows=64,cols=128"
    assert one["roofline_us"] < one["tuned_us"] <= 1.05 * one["default_us"]
    assert one["library"].startswith("torch.nn.functional.layer_norm")
    assert one["speedup"] == pytest.approx(one["library_us"] / one["tuned_us"], abs=1e-3)
    (row,) = table.load(next(tmp_path.rglob("layer_norm.json"))).rows
    assert row.evidence["library"]["us"] == one["library_us"]
    assert main(arguments) == 0
    assert "roofline" in capsys.readouterr().out
