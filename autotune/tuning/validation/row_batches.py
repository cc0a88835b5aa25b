"""Smaller batches of a problem: whose rows are some of its rows, cut out of the same inputs.

Nothing of a kernel says which tensors hold rows: shapes of its inputs at two sizes do, its launcher says which of them
may have any number of rows (caches, states), and its reference whether a row that was cut off still means the same.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from autotune.config import P, describe
from autotune.errors import UsageError
from autotune.kernel import Kernel

_ALIKE = 1e-9
"""float64 sums of one row in another order differ by less, rows that see other keys by more."""


class NoRows(UsageError):
    """The kernel's tensors are not cut into rows along the field: nothing can be said of its rows."""


def batches(rows: int, tile: int) -> list[tuple[int, tuple[int, ...]]]:
    """(rows, where they may begin) within `rows`: one row, one short of a tile, one more, and all of them.

    The middle ones, or the last where a row's place decides what it sees, or the first.
    """
    sizes = sorted({1, tile - 1, tile + 1, rows} & set(range(1, rows + 1)))
    return [(size, tuple(dict.fromkeys(((rows - size) // 2, rows - size, 0)))) for size in sizes]


@dataclass(frozen=True)
class Batch:
    """Problems `whole` and `small`, which differ in `name` alone; `in_place`: what is written is an argument."""

    name: str
    whole: Any
    small: Any
    in_place: bool

    def dimension(self, big: Sequence[int], small: Sequence[int]) -> tuple[int, int] | None:
        """Which dimension of a tensor has how many entries a row; None where not exactly one follows the batch."""
        many, few = (int(getattr(problem, self.name)) for problem in (self.whole, self.small))
        differ = [dim for dim, (a, b) in enumerate(zip(big, small, strict=True)) if a != b]
        if len(differ) != 1 or big[differ[0]] * few != small[differ[0]] * many or big[differ[0]] % many:
            return None
        return differ[0], big[differ[0]] // many

    def rows(self, value: Tensor, first: int, shape: Sequence[int]) -> Tensor | None:
        """The part of `value` that a tensor of `shape` holds of the small batch, from row `first`."""
        found = self.dimension(value.shape, shape)
        return None if found is None else value.narrow(found[0], first * found[1], shape[found[0]])

    def same(self, meant: Tensor, alone: Tensor, first: int) -> bool:
        """True if the reference gives these rows the same values in the full batch as alone.

        In-place arguments that hold other rows are skipped.
        """
        there = self.rows(meant, first, alone.shape)
        if there is None and self.in_place:
            return True
        value = meant if there is None else there
        return value.shape == alone.shape and torch.allclose(value, alone, rtol=_ALIKE)


def cut_out(
    kernel: Kernel[P],
    batch: Batch,
    places: Sequence[int],
    known: tuple[tuple[Any, ...], list[Tensor]],
    launch: Callable[..., Any],
) -> tuple[int, tuple[Any, ...]] | None:
    """The first of `places` where rows cut off mean what they mean in the whole, and they; None where none does.

    What they mean says the reference: a causal row is the same row only with the same keys before it.
    """
    inputs, meant = known
    for first in places:
        cut = rows_of(kernel, batch, inputs, first, launch)
        try:
            alone = [want.value for want in kernel.reference(batch.small, *cut)]
        except (LookupError, RuntimeError):  # what was cut off is missed
            continue
        if all(batch.same(value, part, first) for value, part in zip(meant, alone, strict=True)):
            return first, cut
    return None


def rows_of(
    kernel: Kernel[P], batch: Batch, inputs: tuple[Any, ...], first: int, launch: Callable[..., Any]
) -> tuple[Any, ...]:
    """The inputs of the smaller problem, whose rows are those of the larger one from `first`. Raises NoRows."""
    wanted, there = batch.small.inputs(0, "meta"), batch.whole.inputs(0, "meta")
    pools = _pools(kernel, (there, wanted), batch.small, launch)
    cut = tuple(
        part(value, like, batch, first) if isinstance(value, Tensor) and not pool else value
        for value, like, pool in zip(inputs, wanted, pools, strict=True)
    )
    plain = [(a, b) for a, b in zip(inputs, wanted, strict=True) if not isinstance(a, Tensor)]
    if any(a != b for a, b in plain) or _seen(kernel, cut, batch.small) != batch.small:
        raise NoRows(f"{kernel.name}: rows of {describe(batch.whole)} are no inputs of {describe(batch.small)}")
    return cut


def _seen(kernel: Kernel[P], inputs: tuple[Any, ...], like: P) -> P:
    """The problem of a call; in what no call shows, `like`."""
    found: P = kernel.problem.of(kernel.arguments(*inputs))  # type: ignore[attr-defined]
    return dataclasses.replace(found, **{name: getattr(like, name) for name in getattr(like, "DRAWN", ())})


def _pools(
    kernel: Kernel[P], meta: tuple[tuple[Any, ...], tuple[Any, ...]], small: P, launch: Callable[..., Any]
) -> tuple[bool, ...]:
    """Which arguments may have any number of rows (a cache, pages): with the whole one it is the same call."""
    whole, rows = meta

    def taken(*some: int) -> bool:
        mixed = tuple(whole[i] if i in some else value for i, value in enumerate(rows))
        try:
            launch(*mixed)
        except UsageError:
            return False
        return _seen(kernel, mixed, small) == small

    def pool(index: int) -> bool:
        """Alone, or with others of its shape or of as many rows: states of keys and of scores, rows and scales."""
        if not isinstance(whole[index], Tensor) or whole[index].shape == rows[index].shape:
            return False
        tensors = {i: value for i, value in enumerate(whole) if isinstance(value, Tensor)}
        alike = [i for i, value in tensors.items() if value.shape == whole[index].shape]
        as_many = [i for i, value in tensors.items() if value.shape[:1] == whole[index].shape[:1]]
        return any(taken(*some) for some in ([index], alike, as_many))

    with silenced():
        return tuple(map(pool, range(len(rows))))


@contextmanager
def silenced() -> Iterator[None]:
    """Launchers check their arguments and allocate their outputs, on the meta device too, but nothing runs."""
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    with ExitStack() as stack:
        for kind in (InterpretedFunction, JITFunction):
            stack.enter_context(mock.patch.object(kind, "run", lambda *args, **kwargs: None))
        yield


def part(value: Tensor, like: Tensor, batch: Batch, first: int) -> Tensor:
    """`value` with the shape and strides of `like`: cut along the one dimension that follows the batch, if one does."""
    found = batch.rows(value, first, like.shape)
    if found is None:
        return value
    cut = torch.empty_strided(like.shape, like.stride(), dtype=value.dtype, device=value.device)
    cut.copy_(found)
    return cut
