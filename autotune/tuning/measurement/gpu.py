"""The real bench: CUDA and ROCm GPUs through torch. Thin, because nothing of it can run where there is no GPU.

Times are of CUDA graphs (HIP graphs on ROCm): many launches in one graph, so that launching costs under 5 % of them,
over copies of the inputs that together exceed the last-level cache, so that each launch finds it cold. Before each
graph the cache is written over, which also keeps the GPU busy until the graph is enqueued: its start costs no time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from autotune import device as devices
from autotune import registry
from autotune.config import Problem, build, describe
from autotune.errors import DeviceError, WrongResult
from autotune.kernel import Expected, Kernel
from autotune.tuning.measurement import cold_cache
from autotune.tuning.measurement.bench import NoLibrary, OutOfMemory, Sticky, Timing
from autotune.tuning.workers.worker import Job

_CHECKS = 3
"""Launches that must all be right: some faults come only with repetition (helion#1914)."""
_REFERENCE_FLOPS = 2e11
"""Larger problems, and those whose reference does not fit, are not held against the float64 reference but against the
default config, which the check problems prove: a float64 product of this size takes 0.1 to 2 s on one GPU."""
_WARM_S = 0.2
"""Until clocks settle (quack)."""
_DRAWN = 4
"""Of the copies; the others are copies of these. Drawing 14 MB takes 0.2 s, and a cache of 256 MB wants 38 of them."""


@dataclass(frozen=True)
class Gpu:
    """All GPUs of this machine, or the first `slots` of them; they must be of one kind."""

    slots: int = 1

    name = "gpu"
    tier = "measured"
    runs_code = True

    def table_device(self, device: str) -> str:
        return device

    def open(self, slot: int) -> GpuMeter:
        return GpuMeter(slot)


def count() -> int:
    """GPUs that torch sees."""
    return torch.cuda.device_count()


class GpuMeter:
    """One GPU in one process; inputs and references of the last problem are kept."""

    def __init__(self, slot: int) -> None:
        mine = slot % max(1, count())  # of those that this process sees: on a cluster one, whatever the lane
        torch.cuda.set_device(mine)
        self._device = devices.current()
        self._where = f"cuda:{mine}"
        self._problem: Problem | None = None
        self._inputs: tuple[Any, ...] = ()
        self._copies: list[tuple[Any, ...]] = []
        self._expected: tuple[Expected, ...] = ()
        self._fastest_mhz = 0
        self._warm = False

    def prepare(self, job: Job) -> None:
        with _named():
            kernel, problem = self._at(job)
            self._reference(kernel, problem)
            self._rotating(problem)

    def check(self, job: Job) -> float:
        with _named():
            kernel, problem = self._at(job)
            expected = self._reference(kernel, problem)
            worst = 0.0
            for _ in range(_CHECKS):
                # Of a copy: a launcher may write into its arguments, and returns those.
                outputs = self._call(job, cold_cache.copied(self._inputs))()
                torch.cuda.synchronize()
                worst = max(worst, _worst(kernel, problem, expected, outputs))
            return worst

    def time(self, jobs: Sequence[Job], samples: int) -> tuple[Timing, ...]:
        with _named():
            graphs = [self._graph(job) for job in jobs]
            self._warm_up(graphs[0][0])
            found: list[list[float]] = [[] for _ in jobs]
            clocks = []
            for one_pass in range(samples):
                order = range(len(jobs)) if one_pass % 2 == 0 else range(len(jobs) - 1, -1, -1)
                for i in order:
                    replay, launches = graphs[i]
                    self._cold.zero_()
                    found[i].append(_elapsed_us(replay) / launches)
                clocks.append(self._clock())
            known = [clock for clock in clocks if clock is not None]
            self._fastest_mhz = max([self._fastest_mhz, *known])
            slowest = min(known, default=None)
            throttled = slowest is not None and slowest < 0.95 * self._fastest_mhz
            return tuple(Timing(tuple(us), slowest, throttled) for us in found)

    def _at(self, job: Job) -> tuple[Kernel[Any], Problem]:
        kernel = registry.load(job.kernel)
        if job.device != self._device.name:
            raise DeviceError(f"{job.device} cannot be measured here: this GPU is {self._device.name}")
        problem: Problem = build(kernel.problem, dict(job.problem), job.kernel)
        if problem != self._problem:
            self._problem, self._copies, self._expected = problem, [], ()
            self._inputs = problem.inputs(0, self._where)
        return kernel, problem

    def _reference(self, kernel: Kernel[Any], problem: Problem) -> tuple[Expected, ...]:
        if not self._expected:
            if problem.flops <= _REFERENCE_FLOPS:
                # All experts in float64 may be more than the GPU holds.
                with suppress(torch.cuda.OutOfMemoryError):
                    expected = kernel.reference(problem, *cold_cache.copied(self._inputs))
                    self._expected = tuple(want.on(self._device, independent=True) for want in expected)
            if not self._expected:
                torch.cuda.empty_cache()
                config = kernel.default(problem, self._device)
                outputs = kernel.launch(*cold_cache.copied(self._inputs), config=config, device=self._device)
                self._expected = _as_expected(kernel.decode(problem, outputs))
        return self._expected

    def _graph(self, job: Job) -> tuple[Callable[[], None], int]:
        """Replays many launches of a job; says how many."""
        _, problem = self._at(job)
        calls = [self._call(job, inputs) for inputs in self._rotating(problem)]

        def launch(i: int) -> None:
            calls[i % len(calls)]()

        side = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        side.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(side):
            for i in range(2):
                launch(i)  # compiles, and fills allocator pools, before anything is captured
        torch.cuda.current_stream().wait_stream(side)
        replay, launches = _captured(launch, len(calls)), len(calls)
        # Timed as a graph: outside of one, Python takes longer to launch most kernels than they run.
        needed = cold_cache.launches_for(_elapsed_us(replay) / launches, len(calls))
        return (replay, launches) if needed == launches else (_captured(launch, needed), needed)

    def _call(self, job: Job, inputs: tuple[Any, ...]) -> Callable[[], Any]:
        """What is launched: the kernel, or its library's call. Raises NoLibrary."""
        kernel, problem = self._at(job)
        if not job.library:
            return lambda: kernel.launch(*inputs, config=job.config, device=self._device)
        call = kernel.library.prepare(problem, *inputs) if kernel.library else None
        if call is None:
            raise NoLibrary(f"{kernel.name}: no library does {describe(problem)}")
        return call

    def _rotating(self, problem: Problem) -> list[tuple[Any, ...]]:
        if not self._copies:
            count = cold_cache.copies_for(cold_cache.bytes_of(self._inputs), self._device, torch.cuda.mem_get_info()[0])
            drawn = [problem.inputs(seed, self._where) for seed in range(1, min(count, _DRAWN))]
            drawn = [cold_cache.copied(self._inputs), *drawn]
            self._copies = [*drawn, *(cold_cache.copied(drawn[i % len(drawn)]) for i in range(len(drawn), count))]
        return self._copies

    @cached_property
    def _cold(self) -> Tensor:
        """Writing it leaves nothing else in the last-level cache."""
        return torch.empty(cold_cache.overfull_bytes(self._device), dtype=torch.int8, device=self._where)

    def _warm_up(self, replay: Callable[[], None]) -> None:
        end = time.monotonic() + (0.02 if self._warm else _WARM_S)
        while time.monotonic() < end:
            replay()
            torch.cuda.synchronize()
        self._warm = True

    def _clock(self) -> int | None:
        """MHz, where the driver's library (pynvml, amdsmi) is installed and tells."""
        if not self._tells_clock:
            return None
        return int(torch.cuda.clock_rate())

    @cached_property
    def _tells_clock(self) -> bool:
        with suppress(Exception):  # each driver library has errors of its own
            return int(torch.cuda.clock_rate()) > 0
        return False


def _captured(launch: Callable[[int], None], launches: int) -> Callable[[], None]:
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(launches):
            launch(i)
    graph.replay()
    torch.cuda.synchronize()
    return graph.replay


def _elapsed_us(call: Callable[[], None]) -> float:
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(1e3 * begin.elapsed_time(end))


def _worst(kernel: Kernel[Any], problem: Problem, expected: tuple[Expected, ...], outputs: Any) -> float:  # noqa: ANN401
    worst = 0.0
    for want, got in zip(expected, kernel.decode(problem, outputs), strict=True):
        error = (got - want.value).abs()
        wrong = ~(error <= want.bound)  # NaN is never within a bound
        if wrong.any():
            raise WrongResult(
                f"{kernel.name} {describe(problem)}: {int(wrong.sum())} of {wrong.numel()} of {want.name} are wrong"
            )
        worst = max(worst, float(torch.where(want.bound > 0, error / want.bound, 0.0).max()))
    return worst


def _as_expected(values: tuple[Tensor, ...]) -> tuple[Expected, ...]:
    """Of another config: both may be off by their own rounding, so the bound is that of bf16 sums, 2 in 100."""
    scale = [value.abs().mean() for value in values]
    return tuple(
        Expected(f"output {i}", v, 0.02 * (v.abs() + s)) for i, (v, s) in enumerate(zip(values, scale, strict=True))
    )


@contextmanager
def _named() -> Iterator[None]:
    """Names what drivers raise."""
    try:
        yield
    except torch.cuda.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise OutOfMemory(str(error).splitlines()[0]) from error
    except RuntimeError as error:
        if _lost():
            raise Sticky(str(error).splitlines()[0]) from error
        raise


def _lost() -> bool:
    """Whether later calls fail too: asked of the driver, whose texts for it differ by vendor and release."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
