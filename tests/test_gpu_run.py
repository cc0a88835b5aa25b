"""The ten minutes on a GPU, rehearsed: what a kill leaves, what is asked again, and what the page makes of lines."""

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from autotune import device as devices
from autotune.errors import UsageError
from benchmarks.gpu_run import lines, runner
from benchmarks.gpu_run.context import Context
from benchmarks.gpu_run.plan import STEPS, RunStep
from benchmarks.gpu_run.read import written
from benchmarks.gpu_run.runner import Run

ROOT = Path(__file__).parents[1]
KERNELS = ("moe/router", "norm/layer_norm")


def context(folder, seconds=60.0, **more):
    ends = time.monotonic() + seconds
    return Context("validate", folder, "simulated:7", devices.named("h200"), KERNELS, ends, **more)


def test_lines_survive_one_that_kill_tore(tmp_path):
    path = tmp_path / "step.jsonl"
    lines.append(path, {"unit": "a", "us": float("nan")})
    with path.open("a") as file:
        file.write('{"unit": "b", "us": 1.')
    lines.append(path, {"unit": "c", "us": 2.0})
    lines.append(path, {"unit": "a", "us": 3.0})
    assert lines.read(path) == {"a": {"unit": "a", "us": 3.0}, "c": {"unit": "c", "us": 2.0}}


def test_units_that_ended_are_not_asked_again(tmp_path):
    work = [("right", 1), ("failed", 2), ("new", 3)]
    first = context(tmp_path)
    first.add("right", us=1.0)
    first.add("failed", failed="measure")
    assert [unit for unit, _ in context(tmp_path).units(work)] == ["failed", "new"]
    assert [unit for unit, _ in context(tmp_path, again=True).units(work)] == ["right", "failed", "new"]
    late = context(tmp_path, seconds=-1.0)
    assert list(late.units(work)) == []
    assert late.missed == 2


@pytest.fixture
def sleeper(tmp_path, monkeypatch):
    """Every step hangs, with a child that hangs; limits are short."""
    script = tmp_path / "sleeper"
    script.write_text("#!/bin/sh\nsleep 300 &\necho $! >> $(dirname $0)/children\nwait\n")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(script))
    monkeypatch.setattr(runner, "_GRACE_S", 0.3)
    monkeypatch.setattr(runner, "_LEAST_S", 0.0)
    return tmp_path


def is_alive(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_step_that_hangs_is_killed_and_next_begins(sleeper):
    plan = (
        RunStep("precompile", "", 0.2, beside=True),
        RunStep("identify", "", 0.2),
        RunStep("validate", "", 0.2, after="precompile"),
    )
    out = sleeper / "out"
    runner.run(plan, Run(out, "simulated:7", "h200", ()), seconds=60.0, again=False)
    ended = lines.read(out / "steps.jsonl")
    assert {name: ended[name]["state"] for name in ended} == dict.fromkeys([step.name for step in plan], "killed")


def test_step_beyond_its_limit_is_killed_with_its_children(sleeper):
    asked = Run(sleeper / "out", "simulated:7", "h200", ())
    running = runner._begin(RunStep("identify", "", 60.0), asked, 60.0, again=False)
    children = sleeper / "children"
    while not (children.is_file() and children.read_text().endswith("\n")):
        time.sleep(0.01)
    assert not running.over()
    running.ends = 0.0
    assert running.over()
    while is_alive(children.read_text().split()[0]):  # the kernel ends it in its own time
        time.sleep(0.01)


def test_steps_beyond_time_of_run_are_named(sleeper):
    out = sleeper / "out"
    runner.run(
        (RunStep("identify", "", 9.0), RunStep("validate", "", 9.0)), Run(out, "simulated:7", "h200", ()), 2.0, False
    )
    ended = lines.read(out / "steps.jsonl")
    assert (ended["identify"]["state"], ended["validate"]["state"]) == ("killed", "not reached")


def test_folder_of_another_bench_is_refused(tmp_path):
    runner.run((), Run(tmp_path, "simulated:7", "h200", ()), 1.0, False)
    with pytest.raises(UsageError, match="another folder"):
        runner.run((), Run(tmp_path, "simulated:8", "h200", ()), 1.0, False)
    with pytest.raises(UsageError, match="holds no run"):
        written(tmp_path / "nothing")


def recorded(folder, bench):
    """Lines as a run leaves them; the figures are made up."""
    lines_of = {
        "steps": [
            {"unit": "identify", "state": "done", "why": "", "seconds": 3.0},
            {"unit": "sizes", "state": "begun", "why": ""},
        ],
        "identify": [{"unit": "versions", "torch": "2.11.0"}, {"unit": "properties", "L2_cache_size": str(60 << 20)}],
        "ceilings": [
            {
                "unit": "copy",
                "samples_us": {"read": [2000.0, 2010.0], "written": [2030.0], "none": [1990.0]},
                "flush": "read",
            }
            | {"us": 2005.0, "bytes_moved": 8_000_000_000, "flops": 0},
            {"unit": "fp8 64", "failed": "RuntimeError: no such call"},
        ],
        "numerics": [{"unit": "sums, 64 rows", "rows": 64, "bits": 13, "terms": 32}],
        "validate": [
            {"unit": f"moe/router {n}", "kernel": "moe/router", "failed": "check", "reason": "3 of 9 are wrong"}
            for n in "ab"
        ],
        "sizes": [
            {"unit": f"gemm/k{n} m={m}", "kernel": f"gemm/k{n}", "problem": {"m": m}, "us": 5.0 + 2.0 * m, "error": 0.5}
            | {"modeled_us": 4.5 + m, "terms": {"launch": 4.5, "dram": float(m)}, "factor": 1.0, "dtype": "fp8"}
            | {"bound": "dram", "roofline_us": float(m), "spread": 0.01}
            for n in range(4)
            for m in range(1, 7)
        ],
    }
    for name, told in lines_of.items():
        for line in told:
            lines.append(folder / f"{name}.jsonl", line)
    (folder / "clocks.csv").write_text(
        "1980, 2619, 400.1, 50, 0x0000000000000000, a\n1700, 2619, 690.5, 61, 0x04, b\n19"
    )
    (folder / "run.json").write_text(json.dumps({"bench": bench, "device": "h200"}))
    return written(folder).read_text()


def test_page_of_measured_lines_corrects_record_and_model(tmp_path):
    page = recorded(tmp_path, "gpu")
    for step in STEPS:
        assert f"| {step.name} | {step.about} |" in page
    assert "| sizes | every kernel at model sizes: right, time, spread, model, roofline | killed |" in page
    assert "-tb_s = 4.3 " in page
    assert "+tb_s = 4 " in page
    assert "+l2_mb = 60" in page
    assert 'tb_s = "measured: ' in page
    assert "[calibration.h200.fp8]\nlaunch_us = 5.0\nfactor = 2.00\n" in page
    assert "| validate | 2 | 3 of 9 are wrong | moe/router a |" in page
    assert "The record of sm_90 says Accumulation(bits=13, terms=32)" in page
    assert "| 64 | 13 | 32 |" in page
    assert "| power.draw | 545.3 | 400.1 | 690.5 |" in page
    assert "made these times up" not in page


def test_page_tells_trials_that_failed_from_failed_session(tmp_path):
    lines.append(tmp_path / "tune.jsonl", {"unit": "moe/router", "tried": 9, "failed trials": {"wrong": 2}})
    page = recorded(tmp_path, "simulated:7")
    assert "| moe/router |  |  | 9 |  | wrong=2 |" in page
    assert "| tune | a short tuning session | not asked for |  | 1 | 0 |" in page


def test_page_of_rehearsal_never_says_measured(tmp_path):
    page = recorded(tmp_path, "simulated:7")
    assert "**No GPU was measured: bench simulated:7 made these times up.**" in page
    assert "measured us" not in page
    assert "+tb_s" not in page, "made-up times correct no record"
    assert "REHEARSAL on bench simulated:7, not to be applied" in page


PROBE = """
import torch
from autotune import arch
from autotune.tuning.interpreter.alignment import products_of
from autotune.tuning.interpreter.corrections import correct_interpreter
from benchmarks.gpu_run.fp8_probe import bits_kept, terms_aligned
correct_interpreter()
for name in ("sm_89", "sm_90", "sm_100"):
    with products_of(arch.named(name)):
        for rows in (16, 64):
            asked = rows, torch.float8_e4m3fn, "cpu"
            print(name, rows, bits_kept(*asked), terms_aligned(*asked))
"""


def test_probe_finds_how_emulated_matrix_units_add():
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "TRITON_INTERPRET": "1"}
    told = subprocess.run([sys.executable, "-c", PROBE], env=environment, cwd=ROOT, text=True, stdout=subprocess.PIPE)
    assert told.stdout.splitlines() == [
        *("sm_89 16 13 16", "sm_89 64 13 16"),
        *("sm_90 16 23 0", "sm_90 64 13 32"),  # mma.sync widens FP8 to fp16, wgmma does not
        *("sm_100 16 23 0", "sm_100 64 23 0"),
    ]


def rehearsed(out, *more):
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu_run",
        "--bench",
        "simulated:7",
        "--device",
        "h200",
        "--out",
        str(out),
    ]
    return [*command, "--kernels", *KERNELS, *more]


@pytest.mark.slow
def test_run_that_was_killed_goes_on_where_it_was(tmp_path):
    out, environment = tmp_path / "out", {**os.environ, "PYTHONPATH": str(ROOT)}
    told = out / "validate.jsonl"
    first = subprocess.Popen(rehearsed(out, "--only", "tests", "validate"), env=environment, cwd=ROOT)
    while not (told.is_file() and len(told.read_text().splitlines()) >= 3):
        assert first.poll() is None, "it ended before it could be killed"
        time.sleep(0.01)
    first.send_signal(signal.SIGKILL)
    first.wait()
    time.sleep(0.5)
    before = told.read_text()
    time.sleep(2.0)
    assert told.read_text() == before, "its step lives on"
    subprocess.run(rehearsed(out, "--only", "tests", "validate"), env=environment, cwd=ROOT, check=True)
    after = told.read_text()
    assert after.startswith(before)
    units = [json.loads(line)["unit"] for line in after.splitlines()]
    assert len(units) == len(set(units)) == 13, "each check problem of both kernels, once"
    page = (out / "page.md").read_text()
    assert "| validate | every default on its check problems against float64 | done |" in page
    assert "| tests | pytest -m gpu | skipped | no GPU: the bench is simulated:7 |" in page


@pytest.mark.slow
def test_whole_run_ends_with_every_step_told(tmp_path):
    out = tmp_path / "out"
    subprocess.run(rehearsed(out), env={**os.environ, "PYTHONPATH": str(ROOT)}, cwd=ROOT, check=True)
    ended = lines.read(out / "steps.jsonl")
    assert set(ended) == {step.name for step in STEPS}
    states = {name: ended[name]["state"] for name in ended}
    without_gpu = ("ceilings", "numerics", "serving", "tests", "profile", "sanitize")
    assert [states[name] for name in without_gpu] == ["skipped"] * len(without_gpu), states
    assert "failed" not in states.values(), states


@pytest.mark.slow
def test_code_that_asks_gpu_runs_on_stand_in(tmp_path):
    """In the interpreter: 13 bits as wgmma keeps them, a graph that replays, and every check problem right."""
    out, kernel = tmp_path / "out", "norm/rms_norm_quant"
    steps = ("identify", "ceilings", "numerics", "validate", "serving")
    command = [
        sys.executable,
        "-m",
        "benchmarks.gpu_run",
        "--bench",
        "stand-in",
        "--out",
        str(out),
        "--kernels",
        kernel,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    subprocess.run([*command, "--only", *steps], env=environment, cwd=ROOT, check=True)
    told = {step: lines.read(out / f"{step}.jsonl") for step in steps}
    assert not [line for step in steps for line in told[step].values() if "failed" in line]
    assert {"copy", "read in L2", "graph node", "fp8 64x8192x8192"} <= set(told["ceilings"])
    assert told["numerics"]["sums, 64 rows"]["bits"] == 13
    assert all(0 < line["error"] <= 1 for line in told["validate"].values())
    assert told["serving"][kernel]["graph_equals_eager"]
