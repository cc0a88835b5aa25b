"""`tune --exhaustive` and `tune --configs`: all of a space or of a list is tried, and the summary says so."""

import json
from contextlib import contextmanager

import pytest
from test_scheduler import Pool

from autotune import device, registry
from autotune.cli import main
from autotune.config import Config, build
from autotune.errors import UsageError
from autotune.tuning import space
from autotune.tuning.measurement.replay import Replay
from autotune.tuning.measurement.simulated import Modeled, Simulated
from autotune.tuning.search import trials
from autotune.tuning.search.stopping import Budget
from autotune.tuning.session import listed
from autotune.tuning.session.executors import Executors
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.session import Session
from autotune.tuning.workers.worker import Limits

KERNEL, GPU = registry.load("quant/fp8_group_quant"), device.named("mi355x")
PROBLEM = build(KERNEL.problem, {"rows": 64, "cols": 1536}, "test")
SPACE = space.load(KERNEL, GPU)
FEASIBLE = space.feasible(SPACE, KERNEL, PROBLEM, GPU)
BENCH = Simulated(4, Modeled(4))


@pytest.fixture(autouse=True)
def unproved(monkeypatch):
    """Sessions end at the search."""
    monkeypatch.setattr(Session, "_promote", lambda session, searched, old, evaluator: old)


@contextmanager
def threads(limits, state, bench):
    """Nothing is compiled: what is tried is of interest, not how it ends."""
    yield Executors(Pool(2, lambda job: None), [Pool(1, lambda asked: None)] if bench else [])


def session(folder, bench=BENCH, seen=lambda status: None, **more):
    plan = Plan(folder / "t", folder / "s", limits=Limits(processes=1), bench=bench, start=threads, **more)
    return Session(KERNEL, GPU, plan, seen).run({PROBLEM: 1})


def tried(folder, bench=BENCH):
    filed = bench.table_device(GPU.name) if bench else GPU.name
    return [config for study in trials.read(folder / "s", filed, KERNEL) for config, _ in study.outcomes]


class Stop(Exception):
    pass


def test_exhaustive_tries_every_config_once_and_resumes(tmp_path):
    statuses = []

    def stop(status):
        statuses.append(status)
        if status.done == 7:
            raise Stop

    with pytest.raises(Stop):
        session(tmp_path, seen=stop, exhaustive=True)
    assert {status.of for status in statuses} == {len(FEASIBLE)}
    summary = session(tmp_path, exhaustive=True)
    assert sorted(map(str, tried(tmp_path))) == sorted(map(str, FEASIBLE))
    assert (summary.mode, summary.trials, summary.feasible) == ("exhaustive", len(FEASIBLE), len(FEASIBLE))


def test_exhaustive_out_of_time_says_how_far_it_came(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(Budget, "out_of_time", lambda self: True)
    summary = session(tmp_path, exhaustive=True)
    assert summary.trials < summary.feasible == len(FEASIBLE)


@pytest.mark.parametrize("bench", [BENCH, None], ids=["simulated", "modeled"])
def test_nothing_but_list_and_default_is_tried(tmp_path, bench):
    wanted = (FEASIBLE[5], FEASIBLE[2])
    refused = next(config for config in SPACE.configs if config not in FEASIBLE)
    summary = session(tmp_path, bench, configs=(*wanted, refused))
    default = KERNEL.default(PROBLEM, GPU)
    assert tried(tmp_path, bench) == [default, *(config for config in wanted if config != default)]
    assert (summary.mode, summary.rejected) == ("listed", 1)
    assert summary.reasons["reject", KERNEL.reject(PROBLEM, refused, GPU)] == 1


def test_list_is_study_of_its_own(tmp_path):
    """Trials of a search cannot win where only a list was to be tried."""
    session(tmp_path, budget=Budget(6))
    assert session(tmp_path, configs=(FEASIBLE[0],)).trials <= 2


def test_replayed_space_is_measured_whole(tmp_path):
    rows = [[*config.values(), 1 + at / 100, "ok"] for at, config in enumerate(FEASIBLE)]
    head = [*FEASIBLE[0], "time_ms", "status"]
    path = tmp_path / "space.csv"
    path.write_text("\n".join(",".join(map(str, row)) for row in [head, *rows]))
    assert session(tmp_path, Simulated(0, Replay(path)), exhaustive=True).trials == len(FEASIBLE)


def written(path, text):
    path.write_text(text)
    return path


ONE, TWO = (dict(config) for config in FEASIBLE[:2])


@pytest.mark.parametrize(
    "text",
    [
        f"{json.dumps(ONE)}\n\n{json.dumps(TWO)}\n{json.dumps(ONE)}\n",
        json.dumps([ONE, TWO]),
        json.dumps([ONE, TWO], indent=2),
    ],
    ids=["lines", "list", "indented"],
)
def test_configs_are_read_from_lines_and_lists(tmp_path, text):
    found = listed.read(written(tmp_path / "a.json", text), KERNEL.name, SPACE.lists)
    assert found == (Config(ONE), Config(TWO))


@pytest.mark.parametrize(
    ("entry", "message"),
    [
        ({**TWO, "BLOK": 3}, r"line 2: unknown parameter 'BLOK'; did you mean 'BLOCK'"),
        ({name: value for name, value in TWO.items() if name != "ROWS"}, r"line 2: lacks 'ROWS'; give it one of"),
        ({**TWO, "BLOCK": 77}, r"line 2: BLOCK is 77, the space tries .*; add it to search_spaces/quant/"),
        ({**TWO, "num_warps": True}, r"line 2: num_warps is true"),
        ([1], r"line 2: must be an object"),
    ],
)
@pytest.mark.parametrize("form", ["lines", "list"])
def test_config_outside_space_is_named_with_its_line(tmp_path, entry, message, form):
    lines = [json.dumps(ONE), json.dumps(entry)]
    text = "\n".join(lines) if form == "lines" else "[" + ",\n".join(lines) + "]"
    with pytest.raises(UsageError, match=message):
        listed.read(written(tmp_path / "a.json", text), KERNEL.name, SPACE.lists)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--exhaustive", "--trials", "3"], "--exhaustive tries all of them"),
        (["--configs", "a.json"], "needs exactly one KERNEL"),
        (["--configs", "a.json", "--exhaustive"], "give one"),
        ([KERNEL.name, "--configs", "a.json", "--deterministic"], "does not go with --deterministic"),
        ([KERNEL.name, "--configs", "/nowhere/a.json"], "/nowhere/a.json: cannot be read"),
    ],
)
def test_options_that_contradict_each_other_are_refused(arguments, message, capsys):
    assert main(["tune", "--device", "mi355x", *arguments]) == 2
    assert message in capsys.readouterr().err


def test_command_says_what_was_tried_and_why_it_failed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    path = written(tmp_path / "a.jsonl", json.dumps(TWO))
    command = ["tune", KERNEL.name, "--device", "mi355x", "--problem", "rows=64,cols=1536", "--configs", str(path)]
    assert main([*command, "--json"]) == 0
    (row,) = json.loads(capsys.readouterr().out)
    assert row["search"] == f"listed: all {row['tried']}"
    assert {"reject", "search"} <= row["seconds"].keys()
    assert row["compile CPU seconds"] > 0
    assert row["reasons"] == []
    assert main(command) == 0
    assert "compilers 0.0 CPU s" in capsys.readouterr().out  # all from the cache
