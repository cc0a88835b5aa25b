"""Configs held against the reference on a bench, with nothing timed."""

import json

import pytest

from autotune import device, registry
from autotune.cli import benches, main
from autotune.config import key
from autotune.tuning import space
from autotune.tuning.jobs import check_job, measure_job
from autotune.tuning.measurement.bench import Check, Measurement
from autotune.tuning.measurement.simulated import Faults, Simulated
from autotune.tuning.session.checking import check
from autotune.tuning.workers.worker import Job

KERNEL, DEVICE = "quant/fp8_group_quant", device.named("mi355x")
BENCH = Simulated(faults=Faults(segfault=0.2, sticky=0.2, wrong=0.3))
KINDS = {"": None, "segfault": "crash", "sticky": "sticky", "wrong": "wrong"}


def jobs():
    kernel = registry.load(KERNEL)
    loaded = space.load(kernel, DEVICE)
    return [
        Job(KERNEL, key(problem), config, DEVICE.name)
        for problem in loaded.check[:4]
        for config in space.feasible(loaded, kernel, problem, DEVICE)[:6]
    ]


def test_checks_name_each_fault_and_go_on_after_it(state):
    asked = jobs()
    answers = list(check(BENCH, asked, state))
    assert [job for job, _ in answers] == asked
    told = {fault: {a.get("kind") for job, a in answers if BENCH.fault(job) == fault} for fault in KINDS}
    assert told["wrong"] == {"wrong"}
    assert told[""] == {None}
    # Half of what crashes does so only when it is timed, which nobody asked for.
    assert all(kinds <= {KINDS[fault], None} for fault, kinds in told.items())
    assert {"crash", "sticky"} <= told["segfault"] | told["sticky"]


def test_wrong_config_is_timed_where_no_check_is_asked():
    wrong = next(job for job in jobs() if BENCH.fault(job) == "wrong")
    assert check_job(Check(BENCH, 0, wrong))["kind"] == "wrong"
    assert "times" not in measure_job(Measurement(BENCH, 0, (wrong,), 3))
    assert len(measure_job(Measurement(BENCH, 0, (wrong,), 3, check=False))["times"][0]) == 3


def test_validate_tells_right_from_wrong_on_bench(capsys, monkeypatch):
    monkeypatch.setattr(benches, "named", lambda text, device: BENCH)
    assert main(["validate", KERNEL, "--device", "mi355x", "--bench", "simulated:0", "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    checks = space.load(registry.load(KERNEL), DEVICE).check
    assert len(rows) == len(checks)
    assert {"right", "wrong"} <= {row["verdict"] for row in rows}
    for row in rows:
        assert (row["verdict"] == "right") == (row["error/bound"] is not None) == (row["reason"] is None)
        assert row["bench"] == "simulated:0"


@pytest.mark.parametrize(
    "arguments", [["--bench", "none"], ["--rows"], ["--bench", "simulated:x"], ["--bench", "simulated:0", "--rows"]]
)
def test_validate_refuses_bench_that_checks_nothing(arguments, capsys):
    assert main(["validate", "norm/layer_norm", "--device", "mi355x", *arguments]) == 2
    assert "error:" in capsys.readouterr().err


def test_validate_checks_committed_rows_on_their_own_problems(capsys):
    kernel = "norm/rms_norm_quant"
    assert main(["validate", kernel, "--device", "b200", "--bench", "simulated:0", "--rows", "--json"]) == 0
    from autotune import runtime

    rows = json.loads(capsys.readouterr().out)
    committed = runtime.rows(registry.load(kernel), device.named("b200"))
    wanted = {",".join(f"{n}={v}" for n, v in row.problem) for row in committed}
    assert {row["problem"] for row in rows} == wanted
