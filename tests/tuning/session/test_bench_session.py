"""Whole sessions on simulated GPUs, and what they leave behind."""

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path

import pandas as pd
import pytest

from autotune import device, registry, table
from autotune.cli import main
from autotune.config import Config, build, key
from autotune.errors import UsageError
from autotune.tuning.measurement.replay import Replay
from autotune.tuning.measurement.simulated import Faults, Modeled, Simulated
from autotune.tuning.search import trials
from autotune.tuning.search.stopping import Budget
from autotune.tuning.search.trials import Study
from autotune.tuning.session.crash_log import Crash, CrashLog
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.session import Session
from autotune.tuning.workers.worker import Job, Limits

pytestmark = pytest.mark.thorough

KERNEL, DEVICE = "quant/fp8_group_quant", "mi355x"
SIZES = (64, 1024)
FAULTS = Faults(hang=0.15, segfault=0.1, sticky=0.1, wrong=0.2, out_of_memory=0.05)


def problems():
    return {build(registry.load(KERNEL).problem, {"rows": rows, "cols": 1536}, "test"): 1 for rows in SIZES}


class World:
    def __init__(self, folder):
        self.folder, self.statuses = folder, []
        self.bench = Simulated(1, Modeled(1), faults=FAULTS, trace=folder / "trace")

    def tune(self, **more):
        limits = Limits(processes=1, measure_timeout_s=5)
        plan = Plan(
            self.folder / "tables", self.folder / "state", Budget(trials=20), limits=limits, bench=self.bench, **more
        )
        return Session(registry.load(KERNEL), device.named(DEVICE), plan, self.statuses.append).run(problems())

    @property
    def trace(self):
        return (self.folder / "trace").read_text().splitlines()


@pytest.fixture(scope="module")
def world(tmp_path_factory):
    made = World(tmp_path_factory.mktemp("world"))
    made.summary = made.tune()
    made.measured = made.trace
    return made


def test_exported_trials_say_they_were_simulated(world, capsys, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_STATE", str(world.folder / "state"))
    out = world.folder / "spaces"
    common = [KERNEL, "--trials", "--device", "mi355x.simulated-1", "-o", str(out)]
    assert main(["export", "t4", *common]) == 0
    assert main(["export", "cachefile", *common]) == 0
    told = Counter()
    for one in trials.read(world.folder / "state", "mi355x.simulated-1", registry.load(KERNEL)):
        assert one.study.name == Study.named(one.study.name).name
        outcomes = dict(one.outcomes)
        results = json.loads((out / f"{one.label}.t4.json").read_text())["results"]
        replay = Replay(out / f"{one.label}.json")
        for result in results:
            config = Config({n: v for n, v in result["configuration"].items() if n in one.outcomes[0][0]})
            us = outcomes.pop(config).get("us")
            assert replay.us(Job(KERNEL, (), config, DEVICE)) == pytest.approx(us)
            assert result["times"]["runtimes"] == ([us / 1e3] if us else [])
            told[result["invalidity"]] += 1
        assert not outcomes
    assert told.total() == world.summary.trials
    assert min(told[kind] for kind in ("correct", "correctness", "runtime", "timeout")) > 0
    capsys.readouterr()
    for name in ("t4", "cachefile"):
        files = [str(path) for path in out.rglob("*.json") if (".t4" in path.name) == (name == "t4")]
        assert main(["import", name, *files, "--kernel", KERNEL, "--device", DEVICE, "--tables", str(out / "t")]) == 1
        assert "of no device" in capsys.readouterr().out
    assert main(["export", "vllm", *common]) == 2
    assert main(["export", "t4", *common[:3], "mi355x.simulated-2", *common[4:]]) == 2


def test_export_of_trials_has_one_row_for_each_however_it_ended(world, monkeypatch, capsys):
    monkeypatch.setenv("AUTOTUNE_STATE", str(world.folder / "state"))
    path = world.folder / "trials.csv"
    common = ["export", "trials", KERNEL, "--device", "mi355x.simulated-1", "-o"]
    assert main([*common, str(path)]) == 0
    found = pd.read_csv(path)
    assert len(found) == world.summary.trials
    assert dict(found["status"].value_counts().drop("ok")) == world.summary.failed
    assert set(found["problem.rows"]) == set(SIZES) and set(found["tier"]) == {"simulated"}
    right, failed = found[found["status"] == "ok"], found[found["status"] != "ok"]
    for us, text in zip(right["us"], right["samples_us"], strict=True):
        assert us == pytest.approx(pd.Series(json.loads(text)).median(), abs=1e-3)
    assert (right["clock_mhz"] == 2100).all() and (right["error_over_bound"] == 0.25).all()
    assert failed["us"].isna().all() and failed["reason"].notna().all()
    # All were compiled before they were measured, those that failed too.
    for name in ("registers", "shared_bytes", "occupancy", "code", "modeled_us", "term.dram_us", "config.num_warps"):
        assert found[name].notna().all(), name
    assert found["occupancy"].between(0, 1).all()
    assert (found["modeled_low_us"] < found["modeled_us"]).all()
    assert main([*common, str(path.with_suffix(".txt"))]) == 2
    assert "must end in .csv or .parquet" in capsys.readouterr().err


def test_export_to_parquet_names_what_it_needs(world, monkeypatch, capsys):
    monkeypatch.setenv("AUTOTUNE_STATE", str(world.folder / "state"))
    path = world.folder / "trials.parquet"
    common = ["export", "trials", KERNEL, "--device", "mi355x.simulated-1", "-o", str(path)]
    if importlib.util.find_spec("pyarrow"):
        assert main(common) == 0
        samples = pd.read_parquet(path).set_index("status").loc["ok", "samples_us"]
        assert {len(one) for one in samples} == {10}
    else:
        assert main(common) == 2
        assert "pip install pyarrow" in capsys.readouterr().err


def test_kernel_tuner_itself_replays_our_session(world, tmp_path, monkeypatch):
    kernel_tuner = pytest.importorskip("kernel_tuner", reason="kernel-tuner is not installed")
    from constraint import FunctionConstraint
    from kernel_tuner.file_utils import output_file_schema

    monkeypatch.setenv("AUTOTUNE_STATE", str(world.folder / "state"))
    common = [KERNEL, "--trials", "--device", "mi355x.simulated-1", "-o", str(tmp_path)]
    assert main(["export", "t4", *common]) == main(["export", "cachefile", *common]) == 0
    pytest.importorskip("jsonschema").validate(
        json.loads(next(tmp_path.rglob("*.t4.json")).read_text()), output_file_schema("results")[1]
    )
    path = next(path for path in tmp_path.rglob("*.json") if ".t4" not in path.name)
    data = json.loads(path.read_text())
    tried = {tuple(entry[name] for name in data["tune_params_keys"]) for entry in data["cache"].values()}
    results, _ = kernel_tuner.tune_kernel(
        KERNEL,
        "",
        data["problem_size"],
        [],
        data["tune_params"],
        restrictions=[FunctionConstraint(lambda *values: values in tried)],
        cache=str(path),
        simulation_mode=True,
        strategy="brute_force",
        lang="CUDA",
        quiet=True,
    )
    best = min(entry["time"] for entry in data["cache"].values() if isinstance(entry["time"], float))
    assert len(results) == len(tried)
    assert min(result["time"] for result in results if isinstance(result["time"], float)) == best


def test_rows_are_of_tier_and_folder_that_no_runtime_serves(world):
    assert world.summary.table == world.folder / f"tables/gfx950/mi355x.simulated-1/{KERNEL}.json"
    assert "mi355x.simulated-1" not in device.names()
    rows = table.load(world.summary.table).rows
    assert {row.tier for row in rows} == {"simulated"} == {world.summary.tier}
    assert table.TIERS[-1] == "simulated"


def test_every_problem_gets_sound_config_and_evidence(world):
    rows = table.load(world.summary.table).rows
    covered = set()
    for row in rows:
        ((name, low, high),) = row.serves or (("rows", dict(row.problem)["rows"], dict(row.problem)["rows"]),)
        assert name == "rows"
        covered |= {size for size in SIZES if low <= size <= high}
        assert world.bench.fault(Job(KERNEL, row.problem, row.config, DEVICE)) == ""
        evidence = row.evidence
        assert evidence["us"] > 0 and evidence["samples"] >= 10 and 0 <= evidence["spread"] < 0.05
        assert evidence["bench"] == "simulated:1"
        assert evidence["proved_on"] and evidence["device_error_over_bound"] <= 1
        if row.serves:
            assert {low, high} <= set(evidence["measured_at"])
            assert evidence["regret"] >= 0
            sizes = [dict(part.split("=") for part in text.split(","))["rows"] for text in evidence["proved_on"]]
            assert {str(low), str(high)} <= set(sizes), "proved at both ends"
    assert covered == set(SIZES)


def test_measured_rows_are_compared_with_default_and_roofline(world):
    rows = table.load(world.summary.table).rows
    assert [one.problem for one in world.summary.compared]
    for row, one in zip(rows, sorted(world.summary.compared, key=lambda one: one.tuned_us), strict=True):
        assert one.tuned_us == row.evidence["us"] and one.default_us == row.evidence.get("default_us")
        assert 0 < one.roofline_us == row.evidence["roofline_us"] < one.tuned_us
        assert (one.library, one.library_us, one.speedup) == ("", None, None)


def test_failures_are_told_by_kind_while_it_runs(world):
    kinds = {"hang", "crash", "sticky", "wrong", "memory"}
    assert set(world.summary.failed) <= kinds
    assert len(world.summary.failed) >= 3
    last = [status for status in world.statuses if status.stage == "search"][-1]
    assert last.failed == world.summary.failed
    assert (last.done, last.of) == (40, 40)
    assert last.speedup >= 1


def test_nothing_is_measured_twice_also_not_by_second_session(world):
    again = world.tune()
    assert len(set(world.trace)) == len(world.trace)
    assert world.trace[: len(world.measured)] == world.measured
    assert (again.trials, again.failed) == (40, world.summary.failed)
    # Races and crossovers are judged anew, perhaps at new sizes; trials are not.
    assert again.compiled == 0


def test_crashed_config_is_not_tried_by_another_seed(world):
    crash_log = CrashLog(world.folder / "state", "mi355x.simulated-1")
    assert len(crash_log) >= sum(count for kind, count in world.summary.failed.items() if kind != "memory") > 0
    other = world.tune(seed=9)
    jobs = [line for line in world.trace if line not in world.measured]
    assert len(jobs) < 40
    assert len(CrashLog(world.folder / "state", "mi355x.simulated-1")) >= len(crash_log)
    assert other.trials == 40


CRASH = Crash("k", "source", "triton 3.9.0", "m=1", "BLOCK=16", "measure", "hang", "took longer than 5 s")


def test_crash_log_is_shared_and_survives_torn_lines(tmp_path):
    one, other = CrashLog(tmp_path, "mi355x"), CrashLog(tmp_path, "mi355x")
    one.add(CRASH)
    path = tmp_path / "crash_log/mi355x.jsonl"
    with path.open("a") as file:
        file.write('{"kernel": "torn')
    other.add(Crash(**{**vars(CRASH), "config": "BLOCK=32"}))
    other.add(Crash(**{**vars(CRASH), "config": "BLOCK=64", "kind": "memory"}))
    read = CrashLog(tmp_path, "mi355x")
    assert len(read) == 2
    assert read.find(*CRASH.where) == CRASH
    assert read.find("k", "source", "triton 3.8.0", "m=1", "BLOCK=16") is None, "another toolchain tries again"
    assert len(CrashLog(tmp_path, "h100")) == 0
    read.forget()
    assert (len(read), len(CrashLog(tmp_path, "mi355x")), CrashLog(tmp_path, "mi355x").epoch) == (0, 0, 1)


def test_chaos_in_short(tmp_path):
    benchmark = Path(__file__).parents[3] / "benchmarks/session/chaos.py"
    short = ["--rows", "64", "--cols", "1536", "--trials", "16", "--kills", "2", "--rate", "2.5", "--skip-calm"]
    result = subprocess.run([sys.executable, str(benchmark), *short], capture_output=True, text=True)
    assert result.returncode == 0, result.stdout + result.stderr[-2000:]
    found = json.loads(result.stdout)
    assert found["candidates"] == 16
    assert (found["trials lost"], found["measured twice"], found["problems served by a faulty config"]) == (0, 0, 0)
    assert found["kills"] >= 1
    assert found["trials checked at kills"] >= 1


def test_problems_that_no_lookup_can_tell_apart_are_refused(tmp_path):
    kernel = registry.load("moe/fp8_grouped_gemm")
    fields = {"tokens": 4, "topk": 2, "experts": 8, "n": 128, "k": 128}
    both = {build(kernel.problem, {**fields, "routing": routing}, "test"): 1 for routing in ("uniform", "zipf:1.2")}
    plan = Plan(tmp_path / "tables", tmp_path / "state")
    with pytest.raises(UsageError, match="only in how inputs are drawn"):
        Session(kernel, device.named(DEVICE), plan, lambda status: None).run(both)


def test_how_inputs_are_drawn_is_evidence_and_not_key():
    from autotune.tuning.session.promotion import served

    kernel = registry.load("moe/fp8_grouped_gemm")
    fields = {"tokens": 4, "topk": 2, "experts": 8, "n": 128, "k": 128}
    skewed = build(kernel.problem, {**fields, "routing": "zipf:1.2"}, "test")
    assert key(served(skewed, device.named(DEVICE))) == key(build(kernel.problem, fields, "test"))


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--bench", "simulated"], "simulated:SEED"),
        (["--bench", "gpu"], "no GPU is visible"),
        (["--minutes", "0"], "--minutes must be positive"),
        (["--until-gain", "-1"], "--until-gain must be positive"),
        (["--inputs", "routing=zipf:1"], "draws its inputs in one way only"),
        (["--storage", "nonsense"], "not a database URL"),
    ],
)
def test_usage_errors_of_benches_and_budgets(arguments, message, capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    assert main(["tune", KERNEL, "--device", DEVICE, "--problem", "rows=64,cols=1536", *arguments]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "tables").exists()


LOADS = ["tune", "moe/fp8_grouped_gemm", "--device", DEVICE, "--problem", "tokens=4,topk=2,experts=4,n=128,k=128"]


def test_captured_expert_loads_reach_the_evidence(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_STATE", str(tmp_path / "state"))
    loads = tmp_path / "loads.json"
    loads.write_text("[5, 1, 0, 9]")
    drawn = ["--inputs", f"routing=captured:{loads}", "--trials", "1", "--jobs", "1"]
    assert main([*LOADS, *drawn, "--tables", str(tmp_path / "tables")]) == 0
    (row,) = table.load(tmp_path / "tables/gfx950/mi355x/moe/fp8_grouped_gemm.json").rows
    assert row.evidence["inputs"] == {"routing": "captured:8e1c00ff"}
    assert ("routing", "uniform") in row.problem, "how inputs are drawn is no part of the key"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "loads.json: cannot be read"),
        ("[5, 1, 0", "loads.json: not JSON"),
        ('{"0": 5}', "must be a list of integers"),
        ("[5, 1, true, 9]", "must be a list of integers"),
        ("[0, 0, 0, 0]", "loads.json: counts must be 0 or more and not all 0"),
        ("[5, 1]", "2 hex digits for each of 4 experts"),
    ],
)
def test_loads_that_are_none_are_usage_errors(text, message, tmp_path, capsys):
    loads = tmp_path / "loads.json"
    if text is not None:
        loads.write_text(text)
    assert main([*LOADS, "--inputs", f"routing=captured:{loads}", "--tables", str(tmp_path / "tables")]) == 2
    assert message in capsys.readouterr().err
    assert not (tmp_path / "tables").exists()


def test_doctor_tells_noise_floor_of_bench(capsys):
    assert main(["doctor", "--timing", "--bench", "simulated:0", "--device", "mi355x", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert len(rows) == 3
    for row in rows:
        assert row["device"] == "mi355x.simulated-0"
        assert 0 < row["floor 64"] < row["floor 8"]
        assert abs(row["gain over itself %"]) < row["floor 8"]
    assert main(["doctor", "--timing"]) == 2
    assert "no GPU is visible" in capsys.readouterr().err
