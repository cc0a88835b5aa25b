"""Whether a row has the same bits in every batch: rows of a large problem beside the same rows computed alone.

Both run in the corrected interpreter with dot products that add along K one by one. NumPy's own matrix product chooses
its order by the shape of the tile, as no GPU instruction does, and would invent differences.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from autotune.config import Config, P, describe, resized
from autotune.device import Device
from autotune.errors import Defect, UsageError, WrongResult
from autotune.kernel import Kernel
from autotune.tuning.validation.interpret import correct_interpreter, from_float32, is_narrow, to_float32
from autotune.tuning.validation.proof import period
from autotune.tuning.validation.sanitize import sanitized
from autotune.tuning.validation.validate import same_bits, tensors

_MOST_STEPS = 128
"""Programs x iterations of the large batch: a few seconds in the interpreter."""


class NoRows(UsageError):
    """The kernel's tensors are not cut into rows along the field: nothing can be said of its rows."""


def check_rows(kernel: Kernel[P], bases: Sequence[P], pair: tuple[Config, Config], device: Device) -> int:
    """Raises WrongResult unless the second config gives every row the bits that the first gives it, in any batch.

    They are compared on the first of `bases` that both allow, which vary along their first VARYING field. Returns how
    many smaller batches were compared; NoRows as it says.
    """
    refused = NoRows(f"{kernel.name}: no check problem of the search space")
    for base in bases:
        try:
            return _compare(kernel, _whole(kernel, base, pair, device), pair, device)
        except NoRows as absent:
            refused = absent
    raise refused


def _compare(kernel: Kernel[P], whole: P, pair: tuple[Config, Config], device: Device) -> int:
    name, (first_config, config) = whole.VARYING[0], pair
    inputs = whole.inputs(0, "cpu")
    answer = _run(kernel, first_config, device, inputs)
    compared = 0
    for first, size in batches(getattr(whole, name), period(config)):
        small = resized(whole, whole.VARYING[0], size)
        if small is None or kernel.reject(small, config, device) is not None:
            continue
        launch = partial(kernel.launch, config=config, device=device)
        try:
            got = _run(kernel, config, device, rows_of(kernel, (whole, small), inputs, first, launch))
        except Defect as defect:  # an index into rows that were cut off
            raise NoRows(f"{kernel.name}: a row of {describe(whole)} needs others: {defect}") from defect
        if not _agree(answer, got, (whole, small), first):
            raise WrongResult(
                f"{kernel.name} {describe(small)} with {config}: rows {first} to {first + size - 1} of {name}="
                f"{getattr(whole, name)} have other bits there with {first_config}"
            )
        compared += 1
    if not compared:
        raise NoRows(f"{kernel.name} {describe(whole)}: no smaller batch is allowed with {config}")
    return compared


def batches(rows: int, tile: int) -> list[tuple[int, int]]:
    """(first row, rows) within `rows`: one row, one short of a tile, one more, and all of them."""
    sizes = sorted({1, tile - 1, tile + 1, rows} & set(range(1, rows + 1)))
    return [((rows - size) // 2, size) for size in sizes]


def rows_of(
    kernel: Kernel[P], sizes: tuple[P, P], inputs: tuple[Any, ...], first: int, launch: Callable[..., Any]
) -> tuple[Any, ...]:
    """The inputs of the smaller problem, whose rows are those of the larger one from `first`. Raises NoRows."""
    whole, small = sizes
    wanted, there = small.inputs(0, "meta"), whole.inputs(0, "meta")
    pools = _pools(kernel, (there, wanted), small, launch)
    cut = tuple(
        _rows(value, like, of, (whole, small), first) if isinstance(value, Tensor) and not pool else value
        for value, like, of, pool in zip(inputs, wanted, there, pools, strict=True)
    )
    plain = [(a, b) for a, b in zip(inputs, wanted, strict=True) if not isinstance(a, Tensor)]
    if any(a != b for a, b in plain) or _seen(kernel, cut, small) != small:
        raise NoRows(f"{kernel.name}: rows of {describe(whole)} are no inputs of {describe(small)}")
    return cut


def _seen(kernel: Kernel[P], inputs: tuple[Any, ...], like: P) -> P:
    """The problem of a call; in what no call shows, `like`."""
    found: P = kernel.problem.of(*inputs)  # type: ignore[attr-defined]
    return dataclasses.replace(found, **{name: getattr(like, name) for name in getattr(like, "DRAWN", ())})


def _pools(
    kernel: Kernel[P], meta: tuple[tuple[Any, ...], tuple[Any, ...]], small: P, launch: Callable[..., Any]
) -> tuple[bool, ...]:
    """Which arguments may have any number of rows (a cache, pages): with the whole one it is the same call."""
    from triton.runtime.interpreter import InterpretedFunction

    def taken(index: int) -> bool:
        whole, rows = meta
        if not isinstance(whole[index], Tensor) or whole[index].shape == rows[index].shape:
            return False
        mixed = (*rows[:index], whole[index], *rows[index + 1 :])
        try:
            launch(*mixed)
        except UsageError:
            return False
        return _seen(kernel, mixed, small) == small

    with mock.patch.object(InterpretedFunction, "run", lambda *args, **kwargs: None):
        return tuple(map(taken, range(len(meta[0]))))


def _rows(value: Tensor, like: Tensor, of: Tensor, sizes: tuple[Any, Any], first: int) -> Tensor:
    """`value` with the shape and strides of `like`: cut along the one dimension that follows the batch, if one does."""
    found = _dimension(of.shape, like.shape, sizes)
    if found is None:
        return value
    dim, per_row = found
    cut = torch.empty_strided(like.shape, like.stride(), dtype=value.dtype)
    cut.copy_(value.narrow(dim, first * per_row, like.shape[dim]))
    return cut


def _dimension(big: Sequence[int], small: Sequence[int], sizes: tuple[Any, Any]) -> tuple[int, int] | None:
    """Which dimension has how many entries a row."""
    name = sizes[0].VARYING[0]
    many, few = (int(getattr(problem, name)) for problem in sizes)
    differ = [dim for dim, (a, b) in enumerate(zip(big, small, strict=True)) if a != b]
    if len(differ) != 1 or big[differ[0]] * few != small[differ[0]] * many or big[differ[0]] % many:
        return None
    return differ[0], big[differ[0]] // many


Answer = list[tuple[Tensor, Tensor | None]]
"""Outputs; beside one that is an input written in place, what it held before."""


def _agree(answer: Answer, got: Answer, sizes: tuple[Any, Any], first: int) -> bool:
    """Whether the rows `got` have the bits of the whole `answer`; of an input written in place, what was written."""
    equal = True
    for (whole, _), (part, before) in zip(answer, got, strict=True):
        found = _dimension(whole.shape, part.shape, sizes)
        if found is not None:
            equal &= same_bits(whole.narrow(found[0], first * found[1], part.shape[found[0]]), part)
        elif before is not None and whole.shape == part.shape:
            there, here, old = (x.contiguous().view(torch.uint8) for x in (whole, part, before))
            equal &= bool(((here == old) | (here == there)).all())
        else:
            equal &= same_bits(whole, part)
    return equal


def _whole(kernel: Kernel[P], base: P, pair: tuple[Config, Config], device: Device) -> P:
    """`base` with a tile and its tails of rows, or with as many as both configs may have."""
    for size in (max(map(period, pair)) + 3, 35, 19, 12, 7, 5, 2):
        problem = resized(base, base.VARYING[0], size)
        if problem is None:
            continue
        if all(kernel.reject(problem, config, device) is None for config in pair) and all(
            _steps(kernel, problem, config, device) <= _MOST_STEPS for config in pair
        ):
            return problem
    raise NoRows(f"{kernel.name} {describe(base)}: {pair[1]} is allowed for no batch that the interpreter can hold")


def _steps(kernel: Kernel[P], problem: P, config: Config, device: Device) -> int:
    work = kernel.work(problem, config, device)
    return work.programs * work.iterations


def _run(kernel: Kernel[P], config: Config, device: Device, inputs: tuple[Any, ...]) -> Answer:
    own = tuple(value.clone() if isinstance(value, Tensor) else value for value in inputs)
    with _one_by_one(), sanitized():
        outputs = kernel.launch(*own, config=config, device=device)
    before = {mine.data_ptr(): old for mine, old in zip(own, inputs, strict=True) if isinstance(mine, Tensor)}
    return [(t, before.get(t.data_ptr())) for t in tensors(outputs)]


@contextmanager
def _one_by_one() -> Iterator[None]:
    """Dot products of the interpreter add along K from the first to the last."""
    correct_interpreter()
    from triton.runtime import interpreter

    handle = interpreter.TensorHandle
    scaled = interpreter.InterpreterBuilder.create_dot_scaled

    def dot(self: Any, a: Any, b: Any, d: Any, *rest: Any) -> Any:  # noqa: ANN401
        wide = [to_float32(x.data, x.dtype.scalar) for x in (a, b, d)]
        total, target = added(*wide), d.dtype.scalar
        return handle(from_float32(total, target) if is_narrow(target) else total, target)

    def dot_scaled(self: Any, *args: Any) -> Any:  # noqa: ANN401
        with mock.patch.object(interpreter.np, "matmul", lambda a, b: added(a, b, np.float32(0))):
            return scaled(self, *args)

    with (
        mock.patch.object(interpreter.InterpreterBuilder, "create_dot", dot),
        mock.patch.object(interpreter.InterpreterBuilder, "create_dot_scaled", dot_scaled),
    ):
        yield


def added(a: Any, b: Any, start: Any) -> Any:  # noqa: ANN401
    """start + a @ b in the type of `a` or float32, whichever is wider, one product after another."""
    total = np.zeros((*a.shape[:-1], b.shape[-1]), np.result_type(a.dtype, np.float32)) + start
    for k in range(a.shape[-1]):
        total = total + a[..., :, k, None].astype(total.dtype) * b[..., k, None, :].astype(total.dtype)
    return total
