"""A GPU that is not there: a latency surface, noise, and everything that goes wrong on real ones, at seeded rates.

The same seed gives the same surface and the same faults, in any process and in any order of questions, and the same
noise to who asks the same questions in the same order.
"""

from __future__ import annotations

import ctypes
import math
import os
import random
import signal
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from autotune import device as devices
from autotune import registry
from autotune.config import build
from autotune.errors import UsageError, WrongResult
from autotune.tuning.cost_model.model import predict
from autotune.tuning.cost_model.roofline import roofline_us
from autotune.tuning.counted_work import work_of
from autotune.tuning.measurement.bench import OutOfMemory, Sticky, Timing
from autotune.tuning.workers.worker import Job

_LAUNCHES = 5
"""A config is launched so often before it is trusted; a wrong one may be wrong at any of them."""


class Surface(Protocol):
    """Hashable and picklable; `us` is the true time of a job, or None where the device cannot run it."""

    def us(self, job: Job) -> float | None: ...


@dataclass(frozen=True)
class Modeled:
    """The cost model, bent by a seeded factor a config, so that the truth is not what the model says."""

    seed: int = 0
    bend: float = 0.15

    def us(self, job: Job) -> float:
        kernel, device = registry.load(job.kernel), devices.named(job.device)
        problem = build(kernel.problem, dict(job.problem), job.kernel)
        if job.library:
            # Somewhere above the roofline, alike on every bench of this seed.
            above = random.Random(f"{self.seed} library {job.kernel}").uniform(1.2, 2.5)
            return device.launch_us + above * roofline_us(kernel, problem, device)
        modeled = predict(work_of(kernel, problem, job.config, device), job.config, device).us
        return modeled * math.exp(self.bend * random.Random(f"{self.seed} {job.config}").gauss(0, 1))


@dataclass(frozen=True)
class Faults:
    """Shares of (problem, config) pairs that fail so, every time."""

    hang: float = 0.0
    segfault: float = 0.0
    sticky: float = 0.0
    wrong: float = 0.0
    out_of_memory: float = 0.0
    error: float = 0.0
    """The driver raises something that no bench has a name for."""

    def of(self, seed: int, job: Job) -> str:
        """The name of the job's fault, or the empty string."""
        drawn = random.Random(f"{seed} fault {_text(job)}").random()
        for name in ("hang", "segfault", "sticky", "wrong", "out_of_memory", "error"):
            drawn -= getattr(self, name)
            if drawn < 0:
                return name
        return ""


@dataclass(frozen=True)
class Weather:
    """Disturbances of all times of a device: per-sample noise, a slow swing, and spells of throttling."""

    noise: float = 0.01
    """Standard deviation of one sample, as a fraction."""
    drift: float = 0.0
    """Amplitude of a swing with a period of 500 samples."""
    throttle: float = 0.0
    """Share of spells of 40 samples in which the clock falls by a third."""

    def factor(self, seed: int, sample: int) -> float:
        slow = 1 + self.drift * math.sin(2 * math.pi * sample / 500)
        return slow * (1.5 if self.throttled(seed, sample) else 1.0)

    def throttled(self, seed: int, sample: int) -> bool:
        return random.Random(f"{seed} spell {sample // 40}").random() < self.throttle


@dataclass(frozen=True)
class Simulated:
    """A bench of `slots` simulated GPUs. Its rows are of tier `simulated` and filed under a device of no real name."""

    seed: int = 0
    surface: Surface = field(default_factory=Modeled)
    weather: Weather = field(default_factory=Weather)
    faults: Faults = field(default_factory=Faults)
    slots: int = 1
    seconds: float = 0.0
    """How long one measurement takes."""
    trace: Path | None = None
    """One line is appended when a checked job was timed alone, so that a test can count them from outside."""

    tier = "simulated"
    runs_code = False

    @property
    def name(self) -> str:
        return f"simulated:{self.seed}"

    def table_device(self, device: str) -> str:
        return f"{device}.simulated-{self.seed}"

    def open(self, slot: int) -> SimulatedMeter:
        return SimulatedMeter(self, slot)

    def fault(self, job: Job) -> str:
        return self.faults.of(self.seed, job)


class SimulatedMeter:
    """State of one simulated GPU in one process: how many samples it took, and whether its context is lost."""

    def __init__(self, bench: Simulated, slot: int) -> None:
        self._bench, self._slot = bench, slot
        self._samples = 0
        self._lost = False
        self._checked: Job | None = None

    def prepare(self, job: Job) -> None:
        self._live()

    def check(self, job: Job) -> float:
        self._live()
        fault = self._bench.fault(job)
        # Half of what crashes does so only when it is launched again and again.
        if fault != "wrong" and _half(job):
            self._strike(fault)
        for launch in range(_LAUNCHES):
            if fault == "wrong" and launch == hash_of(job) % _LAUNCHES:
                raise WrongResult(f"simulated: launch {launch + 1} of {_LAUNCHES} differs from the reference")
        self._checked = job
        return 0.25

    def time(self, jobs: Sequence[Job], samples: int) -> tuple[Timing, ...]:
        self._live()
        for job in jobs:
            self._strike(self._bench.fault(job))
        time.sleep(self._bench.seconds)
        truths = [self._us(job) for job in jobs]
        noise = random.Random(f"{self._bench.seed} {self._slot} {self._samples} {[_text(job) for job in jobs]}")
        found: list[list[float]] = [[] for _ in jobs]
        throttled = False
        for one_pass in range(samples):
            order = range(len(jobs)) if one_pass % 2 == 0 else range(len(jobs) - 1, -1, -1)
            for i in order:
                found[i].append(truths[i] * self._factor(noise))
                throttled |= self._bench.weather.throttled(self._bench.seed, self._samples)
        self._note(jobs)
        clock_mhz, throttled_by = (1400, "simulated") if throttled else (2100, "")
        return tuple(Timing(tuple(us), clock_mhz, throttled_by) for us in found)

    def _us(self, job: Job) -> float:
        us = self._bench.surface.us(job)
        if us is None:
            raise OutOfMemory(f"recorded as failed: {job.config}")
        return us

    def _factor(self, noise: random.Random) -> float:
        self._samples += 1
        weather = self._bench.weather
        return math.exp(noise.gauss(0, weather.noise)) * weather.factor(self._bench.seed, self._samples)

    def _live(self) -> None:
        if self._lost:
            raise Sticky("simulated: the context was lost by an earlier launch")

    def _strike(self, fault: str) -> None:
        if fault == "hang":
            while True:
                signal.pause()
        if fault == "segfault":
            ctypes.string_at(0)
        if fault == "sticky":
            self._lost = True
            raise Sticky("simulated: an illegal memory access was encountered")
        if fault == "out_of_memory":
            raise OutOfMemory("simulated: out of memory")
        if fault == "error":
            raise RuntimeError("simulated: the driver raised an error of its own")

    def _note(self, jobs: Sequence[Job]) -> None:
        if self._bench.trace is not None and tuple(jobs) == (self._checked,):
            # One write in append mode: lines of several processes do not mix.
            handle = os.open(self._bench.trace, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
            os.write(handle, f"{_text(jobs[0])}\n".encode())
            os.close(handle)
        self._checked = None


def parse(text: str) -> Simulated:
    """`simulated:7` as the command line writes it. Raises UsageError."""
    kind, _, seed = text.partition(":")
    if kind != "simulated" or not seed.isdecimal():
        raise UsageError(f"bench {text!r}: write simulated:SEED with an integer seed, for example simulated:0")
    return Simulated(seed=int(seed), surface=Modeled(int(seed)))


def hash_of(job: Job) -> int:
    return random.Random(_text(job)).getrandbits(32)


def _half(job: Job) -> bool:
    return hash_of(job) % 2 == 0


def _text(job: Job) -> str:
    problem = ",".join(f"{name}={value}" for name, value in job.problem)
    return f"{job.kernel} {problem} {'library' if job.library else job.config} {job.device}"
