"""The real bench: CUDA and ROCm GPUs through torch. Thin, because little of it can run where there is no GPU.

Times are of CUDA graphs (HIP graphs on ROCm): many launches in one graph, so that launching costs under 5 % of them,
over copies of the inputs that together exceed the last-level cache, so that each launch finds it cold. Before each
graph a buffer is read that fills the cache: lines that were only read are dropped for free, where those of a buffer
that was written would be paid for inside the graph. The GPU then sleeps until the graph is enqueued, so that its
start costs no time.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from autotune import device as devices
from autotune import registry
from autotune.config import Problem, build, describe
from autotune.errors import DeviceError
from autotune.kernel import Kernel
from autotune.tuning.measurement import cold_cache, driver, hardware
from autotune.tuning.measurement.bench import NoLibrary, OutOfMemory, Sticky, Timing
from autotune.tuning.measurement.graphs import captured, elapsed_us
from autotune.tuning.measurement.truth import Truth, poisoned, truths
from autotune.tuning.workers.worker import Job

_CHECKS = 3
"""Launches that must all be right: some faults come only with repetition (helion#1914)."""
_WARM_S = 0.2
"""Until clocks settle (quack)."""
_DRAWN = 4
"""Distinct input sets drawn; remaining sets are copies. Drawing 14 MB takes 0.2 s, and 256 MB of cache want 38 sets."""
_QUIET_S = 10.0
"""How long another process's work, such as a kernel that hung until it was killed, may take to leave the GPU."""


@dataclass(frozen=True)
class Gpu:
    """`slots` GPUs of this machine that are devices of `kind`; of any kind where it is None."""

    slots: int = 1
    kind: str | None = None

    name = "gpu"
    tier = "measured"
    runs_code = True

    def table_device(self, device: str) -> str:
        return device

    def open(self, slot: int) -> GpuMeter:
        numbers = range(torch.cuda.device_count()) if self.kind is None else hardware.present(self.kind).numbers
        if not numbers:
            raise DeviceError(f"no {self.kind or 'GPU'} is visible to torch in this process")
        # On a cluster a process sees one GPU, whatever its lane.
        return GpuMeter(numbers[slot % len(numbers)])


class GpuMeter:
    """The GPU that torch numbers `number`, in one process; inputs and references of the last problem are kept."""

    def __init__(self, number: int) -> None:
        torch.cuda.set_device(number)
        self._device = devices.current()
        self._number, self._where = number, f"cuda:{number}"
        self._problem: Problem | None = None
        self._inputs: tuple[Any, ...] = ()
        self._copies: list[tuple[Any, ...]] = []
        self._truths: tuple[Truth, ...] = ()
        self._fastest_mhz = 0
        self._warm = False
        self._await_quiet()

    def prepare(self, job: Job) -> None:
        with _named():
            kernel, problem = self._at(job)
            self._expect(kernel, problem)
            self._rotating(problem)

    def check(self, job: Job) -> float:
        with _named():
            kernel, problem = self._at(job)
            expected = self._expect(kernel, problem)
            worst = 0.0
            for _ in range(_CHECKS):
                # Of a copy: a launcher may write into its arguments, and returns those.
                call = self._call(job, cold_cache.copied(self._inputs))
                # torch's own functions would choose other algorithms.
                with nullcontext() if job.library else poisoned():
                    outputs = call()
                torch.cuda.synchronize()
                worst = max(worst, *(truth.spent(kernel, problem, outputs) for truth in expected))
            return worst

    def time(self, jobs: Sequence[Job], samples: int) -> tuple[Timing, ...]:
        with _named():
            graphs = [self._graph(job) for job in jobs]
            self._warm_up(graphs[0][0])
            times: list[list[float]] = [[] for _ in jobs]
            clocks, reasons = [], []
            for one_pass in range(samples):
                order = range(len(jobs)) if one_pass % 2 == 0 else range(len(jobs) - 1, -1, -1)
                for i in order:
                    replay, launches = graphs[i]
                    times[i].append(self._elapsed_us(replay) / launches)
                clocks.append(driver.clock_mhz(self._number))
                reasons.append(driver.held_back(self._number))
            slowest, throttled_by = self._throttled(clocks, reasons)
            return tuple(Timing(tuple(us), slowest, throttled_by) for us in times)

    def _throttled(
        self, clocks: Sequence[int | None], reasons: Sequence[tuple[str, ...] | None]
    ) -> tuple[int | None, str]:
        """The slowest clock, and what held it down: the driver's reasons, or where it gives none, that it fell."""
        mhz = [clock for clock in clocks if clock is not None]
        slowest = min(mhz, default=None)
        self._fastest_mhz = max([self._fastest_mhz, *mhz])
        told = [reason for reason in reasons if reason is not None]
        if told:
            return slowest, ", ".join(sorted({text for reason in told for text in reason}))
        fell = slowest is not None and slowest < 0.95 * self._fastest_mhz
        return slowest, f"clock fell from {self._fastest_mhz} MHz, the driver gives no reason" if fell else ""

    def _at(self, job: Job) -> tuple[Kernel[Any], Problem]:
        kernel = registry.load(job.kernel)
        if job.device != self._device.name:
            raise DeviceError(f"{job.device} cannot be measured here: GPU {self._number} is {self._device.name}")
        problem: Problem = build(kernel.problem, dict(job.problem), job.kernel)
        if problem != self._problem:
            self._problem, self._copies, self._truths = problem, [], ()
            self._inputs = problem.inputs(0, self._where)
        return kernel, problem

    def _expect(self, kernel: Kernel[Any], problem: Problem) -> tuple[Truth, ...]:
        if not self._truths:
            self._truths = truths(kernel, problem, self._inputs, self._device)
        return self._truths

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
        replay, launches = captured(launch, len(calls)), len(calls)
        # Timed as a graph: outside of one, Python takes longer to launch most kernels than they run.
        needed = cold_cache.launches_for(self._elapsed_us(replay) / launches, len(calls))
        return (replay, launches) if needed == launches else (captured(launch, needed), needed)

    def _call(self, job: Job, inputs: tuple[Any, ...]) -> Callable[[], Any]:
        """Return the callable to launch: the kernel, or its library's call. Raises NoLibrary."""
        kernel, problem = self._at(job)
        if not job.library:
            return lambda: kernel.launch(*inputs, config=job.config, device=self._device)
        call = kernel.library.prepare(problem, *inputs) if kernel.library else None
        if call is None:
            raise NoLibrary(f"{kernel.name}: no library does {describe(problem)}")
        return call

    def _rotating(self, problem: Problem) -> list[tuple[Any, ...]]:
        if not self._copies:
            room = torch.cuda.mem_get_info()[0]
            count = cold_cache.copies_for(cold_cache.bytes_of(self._inputs), self._overfull_bytes, room)
            drawn = [problem.inputs(seed, self._where) for seed in range(1, min(count, _DRAWN))]
            drawn = [cold_cache.copied(self._inputs), *drawn]
            self._copies = [*drawn, *(cold_cache.copied(drawn[i % len(drawn)]) for i in range(len(drawn), count))]
        return self._copies

    def _elapsed_us(self, call: Callable[[], None]) -> float:
        """Return the microseconds of what `call` enqueues, with cold caches."""
        self._cold.sum()
        return elapsed_us(call)

    @cached_property
    def _overfull_bytes(self) -> int:
        return cold_cache.overfull_bytes(hardware.last_level_bytes(self._device, self._number))

    @cached_property
    def _cold(self) -> Tensor:
        """Reading it leaves nothing else in the last-level cache."""
        return torch.zeros(self._overfull_bytes // 4, device=self._where)

    def _warm_up(self, replay: Callable[[], None]) -> None:
        end = time.monotonic() + (0.02 if self._warm else _WARM_S)
        while time.monotonic() < end:
            replay()
            torch.cuda.synchronize()
        self._warm = True

    def _await_quiet(self) -> None:
        """Waits until nothing else works on the GPU: 20 reads in a row take what reads take. Raises DeviceError."""
        expected_us = self._overfull_bytes / (self._device.dram_tb_s * 1e6)
        end = time.monotonic() + _QUIET_S
        self._elapsed_us(self._read)  # loads the kernel
        while (slowest := max(self._elapsed_us(self._read) for _ in range(20))) > 4 * expected_us + 100:
            if time.monotonic() > end:
                raise DeviceError(
                    f"GPU {self._number} is busy: reading {self._overfull_bytes >> 20} MiB takes up to "
                    f"{slowest:.0f} us, {expected_us:.0f} alone; end the other processes on it, or take it out of "
                    "CUDA_VISIBLE_DEVICES"
                )
            time.sleep(0.2)

    def _read(self) -> None:
        self._cold.sum()


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
    """True if later calls fail too; the driver is asked, since its messages differ by vendor and release."""
    try:
        torch.cuda.synchronize()
    except RuntimeError:
        return True
    return False
