"""A batch of calls as columns, over which the formulas of the cost model are written."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune.config import Config, Problem, Scalar
from autotune.device import Device
from autotune.kernel import Kernel, Work
from autotune.tuning.arrays import Floats
from autotune.tuning.counted_work import work_of

WIDTH = {"fp4": 0.75, "fp8": 1, "fp8_tensor": 1, "bf16": 2, "tf32": 4}
"""Bytes of an operand's element; of FP4, the mean with the FP8 that it is multiplied with."""
FP8 = ("fp8", "fp8_tensor")
SCALED = ("fp8", "fp4")
"""Operands whose products are scaled before accumulation, so that products and accumulators are both live."""
_PARAMETERS = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "num_warps", "num_stages")
"""Config parameters that `CallBatch` reads beside the work."""


@dataclass(frozen=True)
class CallBatch:
    """Calls on one device. Each column has one value per call, in the units of `Work`."""

    dtype: NDArray[np.str_]
    """Operand type of the matrix instruction."""
    programs: Floats
    flops_per_program: Floats
    bytes_per_program: Floats
    unique_bytes: Floats
    iterations: Floats
    launches: Floats
    reduction_bytes: Floats
    lane_operations: Floats
    a_width: Floats
    """Bytes of an element of A as it is loaded."""
    b_width: Floats
    rows: Floats
    """BLOCK_M of kernels whose tiles are accumulators on the matrix units; 0 for others."""
    columns: Floats
    depth: Floats
    """BLOCK_K; 0 for kernels without."""
    warps: Floats
    stages: Floats

    @property
    def is_plain(self) -> NDArray[np.bool_]:
        """True for tiles on the matrix units whose operands are loaded as they are multiplied: what was measured of
        others' kernels."""
        as_loaded = (self.a_width == self.width) & (self.b_width == self.width) & (self.dtype != "fp32")
        plain: NDArray[np.bool_] = (self.rows > 0) & (self.depth > 0) & as_loaded
        return plain

    @property
    def width(self) -> Floats:
        """Bytes of an operand's element as it is multiplied."""
        return self.by_dtype(lambda dtype: WIDTH.get(dtype, 4))

    @property
    def is_scaled(self) -> NDArray[np.bool_]:
        return np.isin(self.dtype, SCALED)

    @property
    def is_fp8(self) -> NDArray[np.bool_]:
        return np.isin(self.dtype, FP8)

    def by_dtype(self, value: Callable[[str], float]) -> Floats:
        """Return `value` of each call's dtype, asked once a dtype."""
        names, at = np.unique(self.dtype, return_inverse=True)
        values: Floats = np.array([value(str(name)) for name in names], float)[at]
        return values

    def chosen(self, keep: NDArray[np.bool_] | NDArray[np.intp]) -> CallBatch:
        """Return the calls where `keep` is true, or at the places that it lists."""
        return CallBatch(**{column.name: getattr(self, column.name)[keep] for column in fields(self)})

    @property
    def step_bytes(self) -> Floats:
        """Bytes of one iteration of one program."""
        return self.bytes_per_program / self.iterations


def side_by_side(works: Sequence[Work], configs: Sequence[Config]) -> CallBatch:
    """Batch works and their configs. Raises ValueError for an empty batch."""
    if not works:
        raise ValueError("a batch needs a call")
    dtypes = [work.widened_to or work.dtype for work in works]
    dtype = np.array(dtypes)

    def of_works(name: str) -> Floats:
        return np.array([getattr(work, name) for work in works], float)

    def of_configs(name: str, otherwise: int) -> Floats:
        return np.array([config.get(name, otherwise) for config in configs], float)

    rows, columns = of_configs("BLOCK_M", 0), of_configs("BLOCK_N", 0)
    tiled = (rows > 0) & (columns > 0) & (dtype != "fp32")
    widths = [(WIDTH.get(name, 4),) * 2 for name in dtypes]
    loaded = np.array([work.loaded_bytes or width for work, width in zip(works, widths, strict=True)], float)
    return CallBatch(
        dtype=dtype,
        programs=of_works("programs"),
        flops_per_program=of_works("flops_per_program"),
        bytes_per_program=of_works("bytes_per_program"),
        unique_bytes=of_works("unique_bytes"),
        iterations=np.maximum(1.0, of_works("iterations")),
        launches=of_works("launches"),
        reduction_bytes=of_works("reduction_bytes"),
        lane_operations=of_works("lane_operations_per_program"),
        a_width=loaded[:, 0],
        b_width=loaded[:, 1],
        rows=np.where(tiled, rows, 0.0),
        columns=np.where(tiled, columns, 0.0),
        depth=of_configs("BLOCK_K", 0),
        warps=of_configs("num_warps", 4),
        stages=of_configs("num_stages", 1),
    )


def calls_of(kernel: Kernel[Any], problem: Problem, configs: Sequence[Config], device: Device) -> CallBatch:
    """Batch `configs` on one problem, in their order. Raises ValueError for none."""
    return side_by_side(works(kernel, problem, configs, device), configs)


def distinct(works: Sequence[Work], configs: Sequence[Config]) -> tuple[list[int], list[int]]:
    """Return positions of calls that differ in some column, and for every call the index of its equal among them."""
    numbers: dict[tuple[Any, ...], int] = {}
    positions: list[int] = []
    equal_to: list[int] = []
    for at, (work, config) in enumerate(zip(works, configs, strict=True)):
        number = numbers.setdefault((id(work), *map(config.get, _PARAMETERS)), len(positions))
        if number == len(positions):
            positions.append(at)
        equal_to.append(number)
    return positions, equal_to


def works(kernel: Kernel[Any], problem: Problem, configs: Sequence[Config], device: Device) -> list[Work]:
    """Return the work of every config; a formula is evaluated once per distinct set of the parameters that it reads."""
    if kernel.formula is None:
        return [work_of(kernel, problem, config, device) for config in configs]
    return _once(lambda config: kernel.work(problem, config, device), configs)


class _Watched(Config):
    """A config that records which parameters are read, in order."""

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
    """Evaluate `ask`, memoized by the names that it reads and their values.

    Names that are read only after some value was seen are covered too: equal values lead to equal reads.
    """
    memo: dict[tuple[str, ...], dict[tuple[Scalar | None, ...], Work]] = {}
    answers: list[Work] = []
    for config in configs:
        hits = (by_value.get(tuple(map(config.get, names))) for names, by_value in memo.items())
        answer = next((hit for hit in hits if hit is not None), None)
        if answer is None:
            watched = _Watched(config)
            answer = ask(watched)
            memo.setdefault(tuple(watched.read), {})[tuple(watched.read.values())] = answer
        answers.append(answer)
    return answers
