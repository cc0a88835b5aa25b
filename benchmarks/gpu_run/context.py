"""Context of a step: the results it adds to, its bench, and how long it may take."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from autotune import device as devices
from autotune import registry
from autotune.device import Device
from benchmarks.gpu_run import lines, stand_in

if TYPE_CHECKING:
    from autotune.tuning.measurement.bench import Bench

T = TypeVar("T")


class Skipped(Exception):
    """A step that has nothing to do here; its text says why."""


class OutOfTime(Exception):
    """The step has to end before the unit that it works on."""


@dataclass
class Context:
    """One step's process. `units` divides its work into what is kept singly and is asked once."""

    step: str
    folder: Path
    bench_name: str
    device: Device
    kernels: tuple[str, ...]
    ends: float
    """By `time.monotonic`."""
    again: bool = False
    missed: int = field(default=0, init=False)
    """Units for which no time was left."""

    @property
    def is_gpu(self) -> bool:
        return self.bench_name == "gpu"

    @property
    def is_rehearsal(self) -> bool:
        """The stand-in computes on a CPU: small sizes only."""
        return self.bench_name == stand_in.NAME

    @property
    def bench(self) -> Bench:
        from autotune.tuning.measurement import gpu, simulated  # torch takes seconds to import

        if self.is_gpu:
            return gpu.Gpu(slots=1, kind=self.device.name)
        return stand_in.StandIn(self.device.name) if self.is_rehearsal else simulated.parse(self.bench_name)

    @property
    def state(self) -> Path:
        from autotune.state import state_root

        return state_root()

    def needs_tensors_on_a_gpu(self) -> None:
        """Raises Skipped on a simulated bench, which times jobs and runs nothing."""
        if not (self.is_gpu or self.is_rehearsal):
            raise Skipped(f"no GPU: bench {self.bench_name} runs no code")

    def needs_gpu(self) -> None:
        """Raises Skipped on every bench but a GPU."""
        if not self.is_gpu:
            raise Skipped(f"no GPU: the bench is {self.bench_name}")

    def needs_times(self) -> None:
        """Raises Skipped on the stand-in."""
        if self.is_rehearsal:
            raise Skipped("no GPU: times of the stand-in are none")

    def left(self) -> float:
        """Seconds until this step has to end."""
        return self.ends - time.monotonic()

    def units(self, work: Iterable[tuple[str, T]]) -> Iterator[tuple[str, T]]:
        """The (name, work) that no earlier run finished, as long as there is time; counts the others in `missed`.

        A unit that failed is asked again: between two runs lies a mend.
        """
        before = {} if self.again else lines.read(self._path)
        for name, item in work:
            if name in before and "failed" not in before[name]:
                continue
            if self.left() <= 0:
                self.missed += 1
            else:
                yield name, item

    def add(self, unit: str, **fields: Any) -> None:  # noqa: ANN401
        """Keeps the result of a unit; one that failed has `failed`, a reason in words."""
        lines.append(self._path, {"unit": unit, **fields, "at": round(time.time(), 2)})

    @property
    def _path(self) -> Path:
        return self.folder / f"{self.step}.jsonl"


def device_of(bench: str, name: str) -> Device:
    """The GPU that is measured, or the one that a bench stands for. Raises DeviceError."""
    return devices.current_recorded() if bench == "gpu" else devices.named(name)


def kernels_of(named: tuple[str, ...]) -> tuple[str, ...]:
    """All kernels where none is named. Raises UsageError."""
    for name in named:
        registry.check(name)
    return named or tuple(registry.names())
