"""The real bench on a stand-in for torch.cuda, whose graphs count launches.

It cannot show that times are right. It shows that the code that asks for them runs, in which order, what it makes of
what a driver raises, and that wrong results are told from right ones.
"""

import contextlib
from dataclasses import replace
from itertools import groupby
from unittest import mock

import pytest
import torch
from stand_in.cuda import standing_in
from triton.runtime.interpreter import GridExecutor

from autotune import device, registry
from autotune.config import build, key
from autotune.tuning.interpreter import corrections
from autotune.tuning.measurement import driver, truth
from autotune.tuning.measurement.gpu import Gpu
from autotune.tuning.workers.worker import Job

H200 = device.named("h200")


def job(kernel, fields):
    problem = build(kernel.problem, fields, "test")
    return Job(kernel.name, key(problem), kernel.default(problem, H200), H200.name)


KERNEL = registry.load("quant/fp8_group_quant")
JOB = job(KERNEL, {"rows": 8, "cols": 256})


class Stage:
    """Log of what a GPU was asked: launches, and replays of graphs of so many of them."""

    def __init__(self):
        self.log, self.graph, self.lost, self.launch = [], None, False, KERNEL.launch

    def launched(self, *arguments, **options):
        self.log.append("launch")
        if self.graph is not None:
            self.graph.launches += 1
        return self.launch(*arguments, **options)

    def synchronize(self):
        if self.lost:
            raise RuntimeError("the driver says something else in each release")


class Graph:
    def __init__(self):
        self.launches = 0

    def replay(self):
        STAGE.log.append(f"replay {self.launches}")


@contextlib.contextmanager
def capturing(graph):
    STAGE.graph = graph
    yield
    STAGE.graph = None


STAGE = Stage()
CUDA = {
    "synchronize": STAGE.synchronize,
    "CUDAGraph": Graph,
    "graph": capturing,
    "_sleep": lambda cycles: STAGE.log.append("sleep"),
}


class Cold:
    """Buffer that is read before each sample."""

    def sum(self):
        STAGE.log.append("cold")


def meter():
    made = Gpu(kind="h200").open(0)
    made._cold = Cold()
    made._warm_up = lambda replay: STAGE.log.append("warm")
    STAGE.log = []
    return made


def raised(error, lost=False):
    """The name of what a check makes of a launch that raises `error`."""

    def fail(*arguments, **options):
        STAGE.lost = lost
        raise error

    return failure(fail)


def failure(launch):
    try:
        with mock.patch.object(STAGE, "launch", launch):
            meter().check(JOB)
    except Exception as found:
        return type(found).__name__
    finally:
        STAGE.lost = False


def interpreted(execute):
    """Programs of the interpreter see the tensors that the stand-in computes with."""

    def call(self, *arguments, **options):
        with torch._C.DisableTorchFunction():
            return execute(self, *arguments, **options)

    return call


@pytest.fixture(autouse=True)
def cuda():
    """Torch with the stand-in for a GPU, and the kernel of JOB with launches that are counted."""
    corrections.correct_interpreter()
    staged, load = replace(KERNEL, launch=STAGE.launched), registry.load
    with (
        standing_in("h200", **CUDA),
        mock.patch.object(GridExecutor, "__call__", interpreted(GridExecutor.__call__)),
        mock.patch.object(registry, "load", lambda name: staged if name == KERNEL.name else load(name)),
    ):
        yield


@pytest.fixture
def remembered():
    """Launches after the first answer with its output: where launches are counted, thousands need not be computed."""
    outputs = []

    def launch(*arguments, **options):
        if not outputs:
            outputs.append(KERNEL.launch(*arguments, **options))
        return outputs[0]

    with mock.patch.object(STAGE, "launch", launch):
        yield


def doubled(*arguments, **options):
    values, scales = KERNEL.launch(*arguments, **options)
    return values, 2 * scales


def test_check_of_config_launches_three_times():
    assert 0 < meter().check(JOB) <= 1
    assert STAGE.log == ["launch"] * 3


def test_samples_are_timed_cold_in_graphs_that_are_long_enough(remembered):
    bench = meter()
    (timing,) = bench.time((JOB,), 6)
    assert len(timing.samples_us) == 6
    assert timing.us > 0
    copies = len(bench._copies)
    log = [(what, len(list(run))) for what, run in groupby(STAGE.log)]
    before, once, *probe, captured, settled, warm = log[:8]
    cold = [("cold", 1), ("sleep", 1)]
    assert before == ("launch", 2 + copies), "compiled by two launches before one graph of each copy"
    assert once == (f"replay {copies}", 1)
    assert probe == [*cold, once]
    assert captured[1] > copies, "a longer graph, since the first took under 400 us"
    assert (settled, warm) == ((f"replay {captured[1]}", 1), ("warm", 1))
    assert log[8:] == [*cold, settled] * 6, "the cache is cold, and the GPU busy, before each sample"


def test_what_driver_raises_is_told_apart():
    said = "the text differs from release to release"
    assert raised(RuntimeError(said)) == "RuntimeError"
    assert raised(RuntimeError(said), lost=True) == "Sticky"
    assert raised(torch.cuda.OutOfMemoryError("no room")) == "OutOfMemory"


def test_wrong_result_is_told():
    assert failure(doubled) == "WrongResult"


@pytest.mark.parametrize(
    ("mhz", "reasons", "said"),
    [(1980, (), ""), (1500, ("hardware thermal",), "hardware thermal"), (1500, None, "1980 MHz")],
)
def test_throttling_comes_from_driver_else_from_clock(mhz, reasons, said, remembered):
    """Where the driver gives no reasons, a clock below the first one's tells."""
    bench = meter()
    clocks = iter([(1980, ()), (mhz, reasons)])
    for clock, held_back in clocks:
        with (
            mock.patch.object(driver, "clock_mhz", lambda number, clock=clock: clock),
            mock.patch.object(driver, "held_back", lambda number, held_back=held_back: held_back),
        ):
            throttled_by = bench.time((JOB,), 2)[0].throttled_by
    assert said in throttled_by if said else throttled_by == ""


def told(kernel, fields, change=lambda output: output):
    """How the check of a launch ends whose output was changed: its share of the budget, or what was raised."""
    asked = job(kernel, fields)
    wrong = replace(kernel, launch=lambda *inputs, **options: change(kernel.launch(*inputs, **options)))
    with mock.patch.object(registry, "load", lambda name: wrong):
        try:
            return meter().check(asked)
        except Exception as error:
            return f"{type(error).__name__}: {error}"


def two_ulps(output):
    """Every second element is two units in the last place of bf16 too large."""
    bits = output.clone().view(torch.int16)
    bits.flatten()[::2] += 2
    return bits.view(torch.bfloat16)


def unwritten(output):
    """Output of a kernel that never ran: memory as the allocator hands it out."""
    return torch.empty_like(output)


def off_where_valid(output):
    return torch.where(output.isfinite(), output * 1.01, output)


LOGITS = {"tokens": 48, "heads": 8, "keys": 256, "fp4": False, "dtype": "e4m3fn", "pattern": "causal"}
GEMM = {"m": 33, "n": 64, "k": 256}
RIGHT = {"gemm/fp8_block_scaled": GEMM, "indexer/ragged_logits": LOGITS}


@pytest.fixture
def sampled():
    """Every output is held against sampled rows, as one is whose whole float64 reference does not fit."""
    with mock.patch.object(truth, "_WHOLE_FLOPS", 0):
        yield


@pytest.mark.parametrize(
    "name", ["gemm/fp8_block_scaled", pytest.param("indexer/ragged_logits", marks=pytest.mark.thorough)]
)
def test_right_output_is_accepted(name):
    assert 0 < told(registry.load(name), RIGHT[name]) <= 1


@pytest.mark.parametrize(
    "name", ["gemm/fp8_block_scaled", pytest.param("indexer/ragged_logits", marks=pytest.mark.thorough)]
)
def test_right_output_is_accepted_by_its_samples(name, sampled):
    assert 0 < told(registry.load(name), RIGHT[name]) <= 1


@pytest.mark.parametrize("change", [unwritten, two_ulps])
def test_wrong_output_is_told(change):
    assert told(registry.load("gemm/fp8_block_scaled"), GEMM, change).startswith("WrongResult")


@pytest.mark.thorough
def test_wrong_logits_of_prefill_are_told_by_samples(sampled):
    assert told(registry.load("indexer/ragged_logits"), LOGITS, off_where_valid).startswith("WrongResult")


def test_wrong_last_row_is_told_by_samples(sampled):
    def doubled_last(output):
        return torch.cat((output[:-1], 2 * output[-1:]))

    assert told(registry.load("gemm/fp8_block_scaled"), GEMM, doubled_last).startswith("WrongResult")
