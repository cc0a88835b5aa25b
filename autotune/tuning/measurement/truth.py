"""Expected outputs of a call on a GPU: its float64 reference, of the whole call or of sampled rows.

The reference of a large call takes minutes, or does not fit. Where its tensors are cut into rows, some of them from the
first to the last are computed in float64 as calls of their own, and held against the same rows of the whole outputs.
A row counts as the same in the whole if it is the same in two batches that begin and end at different rows.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from autotune.config import Problem, describe, resized
from autotune.device import Device
from autotune.errors import WrongResult
from autotune.kernel import Expected, Kernel
from autotune.tuning.interpreter.sanitizer import tensors
from autotune.tuning.measurement.cold_cache import copied
from autotune.tuning.validation.error_budget import spent
from autotune.tuning.validation.row_batches import Batch, NoRows, part, rows_of, silenced

_WHOLE_FLOPS = 2e11
"""Larger problems are sampled: a float64 product of this size takes 0.1 to 2 s on one GPU."""
_BATCHES = 8
"""Sampled, evenly from the first row to the last."""
_ROWS = 16
"""In each, or half of what there are."""

Launch = Callable[..., Any]


@dataclass(frozen=True)
class Truth:
    """Expected rows of `batch` from `first`, laid out as `like`; the whole result without a batch."""

    expected: tuple[Expected, ...]
    batch: Batch | None = None
    first: int = 0
    like: tuple[Tensor, ...] = ()

    def spent(self, kernel: Kernel[Any], problem: Problem, outputs: Any) -> float:  # noqa: ANN401
        """The largest share of its error budget that any output uses. Raises WrongResult."""
        if self.batch is not None:
            problem, outputs = self.batch.small, self._rows(self.batch, outputs)
        decoded = kernel.decode(problem, outputs)
        try:
            return max(spent(want, got) for want, got in zip(self.expected, decoded, strict=True))
        except WrongResult as wrong:
            place = f" (rows from {self.first} of a larger one)" if self.batch is not None else ""
            raise WrongResult(f"{kernel.name} {describe(problem)}{place}: {wrong}") from wrong

    def on(self, device: Device) -> Truth:
        return replace(self, expected=tuple(want.on(device, independent=True) for want in self.expected))

    def _rows(self, batch: Batch, outputs: Any) -> Any:  # noqa: ANN401
        cut = tuple(
            part(whole, like, batch, self.first) for whole, like in zip(tensors(outputs), self.like, strict=True)
        )
        return cut if isinstance(outputs, tuple) else cut[0]


def truths(kernel: Kernel[Any], problem: Problem, inputs: tuple[Any, ...], device: Device) -> tuple[Truth, ...]:
    """Return the expected outputs of `problem` with random `inputs` on `device`.

    Raises OutOfMemoryError where the reference fits neither whole nor in rows.
    """
    return tuple(truth.on(device) for truth in _truths(kernel, problem, inputs, device))


def _truths(kernel: Kernel[Any], problem: Problem, inputs: tuple[Any, ...], device: Device) -> tuple[Truth, ...]:
    if getattr(problem, "flops", 0) <= _WHOLE_FLOPS:
        with suppress(torch.cuda.OutOfMemoryError):
            return (_whole(kernel, problem, inputs),)
        torch.cuda.empty_cache()
    launch = partial(kernel.launch, config=kernel.default(problem, device), device=device)
    with suppress(NoRows, LookupError):  # LookupError: of a reference that misses rows which were cut off
        return tuple(_sampled(kernel, problem, inputs, launch))
    # Rows that depend on others, such as the keys that causal attention has seen: whole, however long it takes.
    return (_whole(kernel, problem, inputs),)


def _whole(kernel: Kernel[Any], problem: Problem, inputs: tuple[Any, ...]) -> Truth:
    return Truth(kernel.reference(problem, *copied(inputs)))


def _sampled(kernel: Kernel[Any], problem: Problem, inputs: tuple[Any, ...], launch: Launch) -> Iterator[Truth]:
    """Batches of rows along the first field that varies: tokens, requests or rows of a product.

    Raises NoRows where rows depend on others, or are no part of an output.
    """
    name = kernel.problem.VARYING[0]
    rows = getattr(problem, name)
    many = min(_ROWS, rows // 2)
    few = many // 2 or 1
    wide, narrow = (Batch(name, problem, resized(problem, name, size), in_place=False) for size in (many, few))
    if many < 2 or wide.small is None or narrow.small is None:
        raise NoRows(f"{kernel.name} {describe(problem)}: no smaller batch along {name}")
    whole, like = (_outputs(asked, launch) for asked in (problem, wide.small))
    if any(wide.dimension(big.shape, small.shape) is None for big, small in zip(whole, like, strict=True)):
        raise NoRows(f"{kernel.name} {describe(problem)}: an output has no rows along {name}")
    for index in range(_BATCHES):
        first = index * (rows - many) // (_BATCHES - 1)
        # Within the wide batch, where both begin at the first row, and both end at the last.
        inside = index * (many - few) // (_BATCHES - 1)
        expected = kernel.reference(wide.small, *rows_of(kernel, wide, inputs, first, launch))
        alone = kernel.reference(narrow.small, *rows_of(kernel, narrow, inputs, first + inside, launch))
        nested = Batch(name, wide.small, narrow.small, in_place=False)
        if not all(nested.same(a.value, b.value, inside) for a, b in zip(expected, alone, strict=True)):
            raise NoRows(f"{kernel.name} {describe(problem)}: a row along {name} depends on its place")
        yield Truth(expected, wide, first, like)


def _outputs(problem: Any, launch: Launch) -> tuple[Tensor, ...]:  # noqa: ANN401
    with silenced():
        return tuple(tensors(launch(*problem.inputs(0, "meta"))))


@contextmanager
def poisoned() -> Iterator[None]:
    """Memory that is allocated inside holds NaN, or the largest integer: what nothing writes is never right by chance.

    Without it the allocator hands out what the launch before has freed: its right outputs. torch fills new tensors
    where it is to be deterministic (`torch.utils.deterministic.fill_uninitialized_memory`, which is on by default).
    """
    mode = torch.get_deterministic_debug_mode()
    torch.set_deterministic_debug_mode("warn")
    try:
        yield
    finally:
        torch.set_deterministic_debug_mode(mode)
