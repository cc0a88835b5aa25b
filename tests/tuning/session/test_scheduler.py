"""Trials of a session under way side by side, on crews of threads that answer when a test says so."""

import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from unittest import mock

import pytest

from autotune import device, registry
from autotune.config import build
from autotune.tuning.jobs import compile_job
from autotune.tuning.measurement.simulated import Modeled, Simulated, Weather
from autotune.tuning.search import trials
from autotune.tuning.search.stopping import Budget
from autotune.tuning.session.executors import Executors
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.session import Session
from autotune.tuning.workers.worker import Limits

KERNEL, DEVICE, TRIALS = "quant/fp8_group_quant", "mi355x", 12
RESOURCES = {
    "registers": 64,
    "spills": 0,
    "stack_bytes": 0,
    "shared_bytes": 0,
    "tmem_columns": 0,
    "code_bytes": 100,
    "matrix_instructions": {},
    "num_warps": 4,
    "programs_per_unit": 4,
}


class Enough(Exception):
    """The search is over; rows are not what is tested here."""


class Pool:
    """Threads; `before` is called with each task and its job, and may wait."""

    def __init__(self, threads, before):
        self.threads, self.before = ThreadPoolExecutor(threads), before

    def submit(self, task, argument) -> Future:
        return self.threads.submit(self.answer, task, argument)

    def answer(self, task, argument):
        self.before(argument)
        if task is compile_job:
            code = ",".join(str(argument.config[name]) for name in ("BLOCK", "ROWS", "num_warps"))
            return {"resources": {**RESOURCES, "code": code}}
        return task(argument)


def search(folder, compiling=lambda job: None, measuring=lambda asked: None, bench=None, sizes=(16, 64, 512)):
    """Outcomes of each problem, in the order asked."""
    kernel = registry.load(KERNEL)
    bench = bench or Simulated(1, Modeled(1), Weather(noise=0.0), slots=2)

    @contextmanager
    def start(limits, state, bench):
        yield Executors(Pool(2, compiling), [Pool(1, measuring) for _ in range(bench.slots)])

    problems = {build(kernel.problem, {"rows": rows, "cols": 1536}, "test"): 1 for rows in sizes}
    limits = Limits(processes=2)
    plan = Plan(folder / "tables", folder / "state", Budget(TRIALS), limits=limits, bench=bench, start=start)
    with pytest.raises(Enough), mock.patch.object(Session, "_promote", side_effect=Enough):
        Session(kernel, device.named(DEVICE), plan, lambda status: None).run(problems)
    return found(folder, bench)


def found(folder, bench):
    read = trials.read(folder / "state", bench.table_device(DEVICE), registry.load(KERNEL))
    return {one.study.problem: one.outcomes for one in read}


class Tight(Pool):
    """Compilers for which most configs do not fit, at any size."""

    def answer(self, task, argument):
        if task is compile_job and argument.config["num_warps"] != 4:
            return {"failed": "out of shared memory"}
        return super().answer(task, argument)


def test_config_that_did_not_fit_is_no_trial_at_other_sizes(tmp_path, monkeypatch):
    monkeypatch.setattr("test_scheduler.Pool", Tight)
    searched = search(tmp_path, sizes=(512, 528, 544)).values()
    failed = [{config for config, outcome in each if "us" not in outcome} for each in searched]
    assert [len(each) for each in searched] == [TRIALS] * 3
    assert sum(map(len, failed)) == len(set.union(*failed)) >= 8


def test_resumed_session_knows_what_did_not_fit(tmp_path, monkeypatch):
    monkeypatch.setattr("test_scheduler.Pool", Tight)
    (first,) = search(tmp_path, sizes=(512,)).values()
    _, second = search(tmp_path, sizes=(512, 528)).values()
    failed = [{config for config, outcome in each if "us" not in outcome} for each in (first, second)]
    assert failed[0] and not failed[0] & failed[1]


def test_equal_results_give_equal_searches_whatever_ends_first(tmp_path):
    plain = search(tmp_path / "plain")
    assert {len(outcomes) for outcomes in plain.values()} == {TRIALS}

    def late(job):
        time.sleep(hash(str(job)) % 3 / 50)

    assert search(tmp_path / "late", late, late) == plain


def test_gpu_never_waits_for_end_of_batch(tmp_path):
    """While one trial is measured, the four after it are compiled."""
    compiled, began, enough = [], [], threading.Condition()

    def compiling(job):
        with enough:
            compiled.append(job)
            enough.notify_all()

    def measuring(asked):
        began.append(asked)
        wanted = min(TRIALS, len(began) + 4)
        with enough:
            assert enough.wait_for(lambda: len(compiled) >= wanted, timeout=30), f"{len(compiled)} of {wanted}"

    (outcomes,) = search(tmp_path, compiling, measuring, sizes=(64,)).values()
    assert len(outcomes) == TRIALS


def test_unbegun_kernels_wait_when_time_is_out(tmp_path, monkeypatch):
    out = threading.Event()
    monkeypatch.setattr(Budget, "out_of_time", lambda self: out.is_set())
    began = []

    def measuring(asked):
        began.append(asked)
        if len(began) == 4:
            out.set()

    cut = search(tmp_path, measuring=measuring)
    told = sum(map(len, cut.values()))
    assert 4 <= told < 3 * TRIALS
    assert told == len(began), "what was measured is told"
    out.clear()
    bench = Simulated(1, Modeled(1), Weather(noise=0.0), slots=2)
    monkeypatch.undo()
    search(tmp_path)
    after = found(tmp_path, bench)
    assert {len(outcomes) for outcomes in after.values()} == {TRIALS}
    for problem, outcomes in cut.items():
        assert set(dict(outcomes)) <= set(dict(after[problem]))


@dataclass(frozen=True)
class OfCode(Simulated):
    runs_code = True


def test_equal_code_under_way_is_measured_once(tmp_path):
    asked = []
    by_problem = search(tmp_path, measuring=asked.append, bench=OfCode(1, Modeled(1), Weather(noise=0.0)))
    outcomes = [outcome for some in by_problem.values() for _, outcome in some]
    twins = sum("same_as" in outcome for outcome in outcomes)
    assert twins > 0
    assert len({one.jobs for one in asked}) == len(asked) == len(outcomes) - twins
