"""Bytes, dots and atomics of one call, counted by running some of its programs in Triton's interpreter.

The cost model's formulas (`Work`) are written by hand, one a kernel; counts hold for any kernel, those included whose
accesses depend on data. A few programs of each launch are run and scaled to its grid: programs of one launch differ
little, save at edges and where lists are ragged. What a skipped program would have written is absent; where a later
launch stumbles over that, all programs are run.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any
from unittest import mock

import numpy as np

from autotune.config import Config, P
from autotune.device import Device
from autotune.errors import Defect
from autotune.kernel import Kernel, Work
from autotune.tuning.interpreter.sanitizer import sanitized, tensors
from autotune.tuning.interpreter.shadow_memory import Memory

Subset = Callable[[Sequence[Any]], Sequence[Any]]
"""Chooses the programs of a launch that are run."""

_OPERANDS = {
    "e2m1": "fp4",
    "e4m3": "fp8",
    "e5m2": "fp8",
    "fp8": "fp8_tensor",
    "int8": "fp8_tensor",
    "bf16": "bf16",
    "fp16": "bf16",
    "fp32": "tf32",
}
"""Beginning of Triton's name of an operand's dtype -> its name in `Work`; scaled formats have names without `fp8`."""

PROGRAMS = 12
"""Programs per launch that are run."""
_MOST_ARRIVALS = 512
"""Programs of a launch that are all run where they count arrivals."""


@dataclass(frozen=True)
class Traffic:
    """Bytes of one pointer argument in one launch, scaled to its whole grid. Atomics count as loads and as stores."""

    loaded_bytes: float
    stored_bytes: float
    unique_bytes: float
    """Bytes loaded or stored, each counted once; at most the argument's size, exact if every program was run."""
    tensor: int
    """Which storage it is, so that launches that share one are known."""

    @property
    def moved(self) -> float:
        return self.loaded_bytes + self.stored_bytes


@dataclass(frozen=True)
class LaunchCounts:
    """Counts of one launch, scaled to its whole grid."""

    programs: int
    counted: int
    """Programs that were run."""
    arguments: dict[str, Traffic]
    flops: dict[str, float]
    """Flops of dots by operand dtype, as Triton names it."""
    atomics: float
    """Elements updated."""
    steps: float
    """Turns of the innermost loop that loads, a program: how often its busiest load was executed."""
    tickets: bool = False
    """True if an atomic of one address ran, by which programs may learn which of them arrives last."""

    @property
    def moved(self) -> float:
        return sum(traffic.moved for traffic in self.arguments.values())

    @property
    def loaded(self) -> list[Traffic]:
        return [traffic for traffic in self.arguments.values() if traffic.loaded_bytes]

    @property
    def stored(self) -> list[Traffic]:
        return [traffic for traffic in self.arguments.values() if traffic.stored_bytes]

    @property
    def shared(self) -> set[int]:
        """Tensors that programs store for the last of them to load."""
        return {t.tensor for t in self.stored if t.loaded_bytes} if self.tickets else set()


@dataclass(frozen=True)
class Counts:
    """Counts of one call. Torch operations between Triton launches are not seen."""

    launches: tuple[LaunchCounts, ...]
    returned: frozenset[int]
    """Tensors that the launcher returned, numbered as in Traffic."""

    @property
    def main(self) -> LaunchCounts:
        """The launch that does most: flops first, then bytes."""
        return max(self.launches, key=lambda launch: (sum(launch.flops.values()), launch.moved))

    @property
    def partials(self) -> frozenset[int]:
        """Tensors that one launch stores for a later one, or for its own last program, and nobody returns."""
        pairs = [(a, b) for at, a in enumerate(self.launches) for b in self.launches[at + 1 :]]
        handed = {t.tensor for a, b in pairs for t in a.stored if t.tensor in {u.tensor for u in b.loaded}}
        return frozenset(handed.union(*(launch.shared for launch in self.launches))) - self.returned

    @property
    def dtype(self) -> str:
        """The matrix operand type of the launch that does most, in the words of `Work`; fp32 where it has no dots."""
        flops = self.main.flops
        most = max(flops, key=lambda name: flops[name]) if flops else "none"
        return next((ours for theirs, ours in _OPERANDS.items() if most.startswith(theirs)), "fp32")

    def work(self, dtype: str) -> Work:
        """Return the counts as input of the cost model; `dtype` is that of the matrix operands (fp32: none)."""
        main, partials = self.main, self.partials
        unique: dict[int, float] = {}
        for traffic in (t for launch in self.launches for t in launch.arguments.values()):
            unique[traffic.tensor] = max(traffic.unique_bytes, unique.get(traffic.tensor, 0.0))
        others = sum(launch.moved for launch in self.launches if launch is not main)
        # What the last programs load of others, and store for all of them.
        shared = main.shared - self.returned
        gathered = sum(
            t.loaded_bytes if t.tensor in shared else t.stored_bytes
            for t in main.arguments.values()
            if shared and t.tensor in shared | self.returned
        )
        return Work(
            programs=main.programs,
            flops_per_program=sum(main.flops.values()) / main.programs,
            bytes_per_program=(main.moved - gathered) / main.programs,
            unique_bytes=sum(size for tensor, size in unique.items() if tensor not in partials),
            iterations=max(1, round(main.steps)),
            dtype=dtype,
            launches=len(self.launches),
            reduction_bytes=others + gathered + sum(t.stored_bytes for t in main.stored if t.tensor in partials),
        )


def count(kernel: Kernel[P], problem: P, config: Config, device: Device, programs: int = PROGRAMS) -> Counts:
    """Counts of one call, from `programs` of each launch. The process must have set TRITON_INTERPRET=1.

    Raises Defect where the kernel misuses memory, UsageError as `correct_interpreter`.
    """

    def prepare() -> Callable[[], Any]:
        inputs = problem.inputs(0, "cpu")
        return lambda: kernel.launch(*inputs, config=config, device=device)

    return count_call(prepare, programs)


def count_call(prepare: Callable[[], Callable[[], Any]], programs: int = PROGRAMS) -> Counts:
    """Counts of any function that launches Triton kernels, as `count`; `prepare` draws its inputs and returns it."""
    try:
        counts = _counted(prepare(), lambda grid: spread_over(grid, programs))
        # Where programs count who has arrived, the last one has work of its own: some of them never see it.
        if not any(launch.tickets and launch.counted < launch.programs <= _MOST_ARRIVALS for launch in counts.launches):
            return counts
    except (Defect, IndexError):
        pass
    return _counted(prepare(), lambda grid: grid)


def spread_over(grid: Sequence[Any], programs: int) -> Sequence[Any]:
    """Evenly, from the first to the last."""
    if len(grid) <= programs:
        return grid
    return [grid[at] for at in np.unique(np.linspace(0, len(grid) - 1, programs).round().astype(int))]


def _counted(launch: Callable[[], Any], choose: Subset) -> Counts:
    tally = Tally()

    def order(grid: Sequence[Any]) -> Iterable[Any]:
        chosen = choose(grid)
        tally.start(len(grid), len(chosen))
        return chosen

    with sanitized(order, tally, any_order=True), _dots_told(tally):  # the order of atomics changes no count
        outputs = launch()
    returned = frozenset(tensor.untyped_storage().data_ptr() for tensor in tensors(outputs))
    return Counts(tuple(launch.result() for launch in tally.launches), returned)


@dataclass
class _Open:
    """A launch under way."""

    programs: int
    counted: int
    loaded: Counter[str] = field(default_factory=Counter)
    stored: Counter[str] = field(default_factory=Counter)
    tensors: dict[str, int] = field(default_factory=dict)
    """Argument -> where its storage is."""
    touched: dict[str, Any] = field(default_factory=dict)
    """Argument -> whether each byte was."""
    flops: Counter[str] = field(default_factory=Counter)
    atomics: int = 0
    tickets: bool = False
    loads: Counter[str] = field(default_factory=Counter)
    """By place in the source."""

    def result(self) -> LaunchCounts:
        scale = self.programs / self.counted
        arguments = {
            name: Traffic(
                self.loaded[name] * scale,
                self.stored[name] * scale,
                min(float(touched.size), float(touched.sum()) * scale),
                self.tensors[name],
            )
            for name, touched in self.touched.items()
        }
        flops = {name: flops * scale for name, flops in self.flops.items()}
        steps = max(self.loads.values(), default=0) / self.counted
        return LaunchCounts(self.programs, self.counted, arguments, flops, self.atomics * scale, steps, self.tickets)


class Tally(Memory):
    """Counts what `Memory` checks. Bounds it checks still, so that no wild address is followed."""

    def __init__(self) -> None:
        super().__init__()
        self.launches: list[_Open] = []

    def start(self, programs: int, counted: int) -> None:
        self.launches.append(_Open(programs, counted))

    def end(self) -> None:
        """Programs may have raced: that is for the sanitizer to say."""

    def load(self, addresses: Any, mask: Any, size: int, place: str, *, atomic: bool = False) -> Any:  # noqa: ANN401
        self.launches[-1].loads[place] += 1
        return self._count(addresses, mask, size, ("loads", place))

    def store(self, addresses: Any, mask: Any, size: int, place: str, *, atomic: bool = False) -> Any:  # noqa: ANN401
        if atomic:
            self.launches[-1].atomics += int(mask.sum())
            self.launches[-1].tickets |= mask.size == 1
        return self._count(addresses, mask, size, ("stores to", place))

    def dot(self, dtype: str, flops: int) -> None:
        self.launches[-1].flops[dtype] += flops

    def _count(self, addresses: Any, mask: Any, size: int, act: tuple[str, str]) -> Any:  # noqa: ANN401
        launch = self.launches[-1]
        moved = launch.loaded if act[0] == "loads" else launch.stored
        for argument, offsets in self._reached(addresses, mask, size, act):
            launch.tensors[argument.name] = argument.shadow.owner.untyped_storage().data_ptr()
            # Lanes of one access that read one address (rows past the end, broadcast scales) are one request.
            once = np.unique(offsets)
            moved[argument.name] += once.size * size
            touched = launch.touched.setdefault(argument.name, np.zeros(argument.nbytes, dtype=bool))
            for byte in range(size):
                touched[once + byte] = True
        return self._real(addresses, mask)


@contextmanager
def _dots_told(tally: Tally) -> Iterator[None]:
    from triton.runtime.interpreter import InterpreterBuilder as builder

    plain, scaled = builder.create_dot, builder.create_dot_scaled

    def dot(self: Any, a: Any, *rest: Any) -> Any:  # noqa: ANN401
        result = plain(self, a, *rest)
        tally.dot(str(a.dtype.scalar), 2 * result.data.size * a.data.shape[-1])
        return result

    def dot_scaled(self: Any, a: Any, a_scale: Any, form: Any, *rest: Any) -> Any:  # noqa: ANN401
        result = scaled(self, a, a_scale, form, *rest)
        packed = 2 if form.name == "E2M1" else 1
        tally.dot(form.name.lower(), 2 * result.data.size * a.data.shape[-1] * packed)
        return result

    with mock.patch.object(builder, "create_dot", dot), mock.patch.object(builder, "create_dot_scaled", dot_scaled):
        yield
