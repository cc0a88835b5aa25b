"""Runs with TRITON_INTERPRET=1: the real bench on a stand-in for torch.cuda, whose graphs count launches; prints JSON.

It cannot show that times are right. It shows that the code that asks for them runs, in which order, what it makes of
what a driver raises, and that wrong results are told from right ones.
"""

import contextlib
import itertools
import json
from dataclasses import replace
from unittest import mock

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
    """What a GPU was asked: launches, and replays of graphs of so many of them."""

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
    """What is read before each sample."""

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


def main():
    corrections.correct_interpreter()
    staged = replace(KERNEL, launch=STAGE.launched)
    load = registry.load
    with (
        standing_in("h200", **CUDA),
        mock.patch.object(GridExecutor, "__call__", interpreted(GridExecutor.__call__)),
        mock.patch.object(registry, "load", lambda name: staged if name == KERNEL.name else load(name)),
    ):
        print(json.dumps(cases() | wrong_results()))


def doubled(*arguments, **options):
    values, scales = KERNEL.launch(*arguments, **options)
    return values, 2 * scales


def cases():
    one = meter()
    error = one.check(JOB)
    checked, STAGE.log = list(STAGE.log), []
    (timing,) = one.time((JOB,), 6)
    timed = [(what, len(list(times))) for what, times in itertools.groupby(STAGE.log)]
    return {
        "error": error,
        "checked": checked,
        "timed": timed,
        "copies": len(one._copies),
        "samples": len(timing.samples_us),
        "us": timing.us,
        "an error": raised(RuntimeError("a driver's text")),
        "a lost context": raised(RuntimeError("a driver's text"), lost=True),
        "no memory": raised(torch.cuda.OutOfMemoryError("no room")),
        "a wrong result": failure(doubled),
        "throttled": throttled(),
    }


def throttled():
    """What is said of a fast clock and of two slow ones; the driver gives a reason of the first slow one, none else."""
    one, said = meter(), []
    for mhz, reasons in ((1980, ()), (1500, ("hardware thermal",)), (1500, None)):
        with (
            mock.patch.object(driver, "clock_mhz", lambda number, mhz=mhz: mhz),
            mock.patch.object(driver, "held_back", lambda number, reasons=reasons: reasons),
        ):
            said.append(one.time((JOB,), 2)[0].throttled_by)
    return said


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
    """As if the kernel had never run: what the allocator hands out."""
    return torch.empty_like(output)


def off_where_valid(output):
    return torch.where(output.isfinite(), output * 1.01, output)


LOGITS = {"tokens": 48, "heads": 8, "keys": 256, "fp4": False, "dtype": "e4m3fn", "pattern": "causal"}
GEMM = {"m": 33, "n": 64, "k": 256}
RIGHT = {"gemm/fp8_block_scaled": GEMM, "indexer/ragged_logits": LOGITS}


def wrong_results():
    gemm, logits = map(registry.load, RIGHT)
    small = {name: told(registry.load(name), fields) for name, fields in RIGHT.items()}
    with mock.patch.object(truth, "_WHOLE_FLOPS", 0):
        large = {name: told(registry.load(name), fields) for name, fields in RIGHT.items()}
        prefill = told(logits, LOGITS, off_where_valid)
        tail = told(gemm, GEMM, lambda output: torch.cat((output[:-1], 2 * output[-1:])))
    return {
        "right": small,
        "right, sampled": large,
        "wrong logits of a prefill": prefill,
        "a wrong tail, sampled": tail,
        "unwritten": told(gemm, GEMM, unwritten),
        "two ulps": told(gemm, GEMM, two_ulps),
    }


if __name__ == "__main__":
    main()
