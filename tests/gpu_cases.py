"""Runs with TRITON_INTERPRET=1: the real bench on a stand-in for torch.cuda, whose graphs count launches; prints JSON.

It cannot show that times are right. It shows that the code that asks for them runs, in which order, and what it makes
of what a driver raises.
"""

import contextlib
import itertools
import json
import time
from dataclasses import replace
from types import SimpleNamespace
from unittest import mock

import torch

from autotune import device, registry
from autotune.config import build, key
from autotune.tuning.interpreter import corrections
from autotune.tuning.measurement.gpu import Gpu
from autotune.tuning.workers.worker import Job

KERNEL = registry.load("quant/fp8_group_quant")
H100 = replace(device.named("h100"), last_level_mb=0.02)
PROBLEM = build(KERNEL.problem, {"rows": 8, "cols": 256}, "test")
JOB = Job(KERNEL.name, key(PROBLEM), KERNEL.default(PROBLEM, H100), H100.name)


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


class Event:
    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        self.at = time.perf_counter()

    def synchronize(self):
        pass

    def elapsed_time(self, other):
        return 1e3 * (other.at - self.at) + 0.01


@contextlib.contextmanager
def capturing(graph):
    STAGE.graph = graph
    yield
    STAGE.graph = None


STAGE = Stage()
CUDA = {
    "set_device": lambda slot: None,
    "synchronize": STAGE.synchronize,
    "mem_get_info": lambda: (2**30, 2**30),
    "empty_cache": lambda: None,
    "Event": Event,
    "CUDAGraph": Graph,
    "graph": capturing,
    "Stream": lambda: SimpleNamespace(wait_stream=lambda other: None),
    "current_stream": lambda: SimpleNamespace(wait_stream=lambda other: None),
    "stream": lambda one: contextlib.nullcontext(),
}


class Cold:
    """What is written over before each sample."""

    def zero_(self):
        STAGE.log.append("cold")


def meter():
    made = Gpu().open(0)
    made._where, made._cold = "cpu", Cold()
    made._warm_up = lambda replay: STAGE.log.append("warm")
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


def main():
    corrections.correct_interpreter()
    with contextlib.ExitStack() as stack:
        for name, stand_in in CUDA.items():
            stack.enter_context(mock.patch.object(torch.cuda, name, stand_in))
        stack.enter_context(mock.patch.object(device, "current", lambda: H100))
        staged = replace(KERNEL, launch=STAGE.launched)
        stack.enter_context(mock.patch.object(registry, "load", lambda name: staged))
        print(json.dumps(cases()))


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
    }


if __name__ == "__main__":
    main()
