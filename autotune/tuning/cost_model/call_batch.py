"""Calls side by side, as columns: what the static model's formulas are written over. One call is a column of one."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from autotune.config import Config, Problem, Scalar
from autotune.device import Device
from autotune.kernel import Kernel, Work
from autotune.tuning.arrays import Floats

_READ = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "num_warps", "num_stages")
"""What is read of a config beside its work."""


@dataclass(frozen=True)
class Calls:
    """Of one device and operand dtype. Each column has one number a call; units as in `Work`."""

    dtype: str
    programs: Floats
    flops_per_program: Floats
    bytes_per_program: Floats
    unique_bytes: Floats
    iterations: Floats
    launches: Floats
    reduction_bytes: Floats
    rows: Floats
    """BLOCK_M of kernels whose tiles are accumulators on the matrix units; 0 for others."""
    columns: Floats
    depth: Floats
    """BLOCK_K; 0 for kernels without."""
    warps: Floats
    stages: Floats

    @property
    def step_bytes(self) -> Floats:
        """Of one program and iteration."""
        return self.bytes_per_program / self.iterations


def side_by_side(works: Sequence[Work], configs: Sequence[Config]) -> Calls:
    """Raises ValueError where there is nothing, or the works differ in their dtype."""
    (dtype,) = {work.dtype for work in works}

    def of_works(name: str) -> Floats:
        return np.array([getattr(work, name) for work in works], float)

    def of_configs(name: str, otherwise: int) -> Floats:
        return np.array([config.get(name, otherwise) for config in configs], float)

    rows, columns = of_configs("BLOCK_M", 0), of_configs("BLOCK_N", 0)
    tiled = (rows > 0) & (columns > 0) & (dtype != "fp32")
    return Calls(
        dtype=dtype,
        programs=of_works("programs"),
        flops_per_program=of_works("flops_per_program"),
        bytes_per_program=of_works("bytes_per_program"),
        unique_bytes=of_works("unique_bytes"),
        iterations=np.maximum(1.0, of_works("iterations")),
        launches=of_works("launches"),
        reduction_bytes=of_works("reduction_bytes"),
        rows=np.where(tiled, rows, 0.0),
        columns=np.where(tiled, columns, 0.0),
        depth=of_configs("BLOCK_K", 0),
        warps=of_configs("num_warps", 4),
        stages=of_configs("num_stages", 1),
    )


def calls_of(kernel: Kernel[Any], problem: Problem, configs: Sequence[Config], device: Device) -> Calls:
    """Of `configs` on one problem, in their order. Raises ValueError for none."""
    return side_by_side(works(kernel, problem, configs, device), configs)


def distinct(works: Sequence[Work], configs: Sequence[Config]) -> tuple[list[int], list[int]]:
    """Places of calls that differ in some column, and for every call the number of its like among them."""
    known: dict[tuple[Any, ...], int] = {}
    first: list[int] = []
    like: list[int] = []
    for at, (work, config) in enumerate(zip(works, configs, strict=True)):
        number = known.setdefault((id(work), *map(config.get, _READ)), len(first))
        if number == len(first):
            first.append(at)
        like.append(number)
    return first, like


def works(kernel: Kernel[Any], problem: Problem, configs: Sequence[Config], device: Device) -> list[Work]:
    """`kernel.work` of every config, asked once for all configs that are equal in what it reads of them."""
    return _once(lambda config: kernel.work(problem, config, device), configs)


class _Watched(Config):
    """Notes which parameters are read, in order."""

    __slots__ = ("read",)

    def __init__(self, config: Config) -> None:
        super().__init__(config)
        self.read: dict[str, Scalar | None] = {}

    def __getitem__(self, name: str) -> Scalar:
        self.read[name] = None
        value = super().__getitem__(name)
        self.read[name] = value
        return value

    def __iter__(self) -> Iterator[str]:
        self.read |= self._items
        return super().__iter__()

    def size(self, name: str) -> int:
        return int(self[name])


def _once(ask: Callable[[Config], Work], configs: Sequence[Config]) -> list[Work]:
    """Answers are kept by the names read and their values: a name read only after another's value is still right,
    since a function that finds the same values reads the same names."""
    known: dict[tuple[str, ...], dict[tuple[Scalar | None, ...], Work]] = {}
    found: list[Work] = []
    for config in configs:
        answer = next(
            (
                kept
                for names, by_value in known.items()
                if (kept := by_value.get(tuple(map(config.get, names)))) is not None
            ),
            None,
        )
        if answer is None:
            watched = _Watched(config)
            answer = ask(watched)
            known.setdefault(tuple(watched.read), {})[tuple(watched.read.values())] = answer
        found.append(answer)
    return found
