"""Check that a row has the same bits in every batch: rows of a large problem against the same rows alone.

Both run in the corrected interpreter with dot products that add along K one by one. NumPy's own matrix product chooses
its order by the shape of the tile, as no GPU instruction does, and would invent differences.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from autotune.config import Config, P, describe, resized
from autotune.device import Device
from autotune.errors import Defect, WrongResult
from autotune.kernel import Kernel
from autotune.tuning.counted_work import work_of
from autotune.tuning.interpreter.corrections import correct_interpreter, from_float32, is_narrow, to_float32
from autotune.tuning.interpreter.sanitizer import sanitized, tensors
from autotune.tuning.validation.coverage import period
from autotune.tuning.validation.row_batches import Batch, NoRows, batches, cut_out
from autotune.tuning.validation.validate import same_bits

_MOST_STEPS = 128
"""Programs x iterations of the large batch: a few seconds in the interpreter."""


def check_rows(kernel: Kernel[P], bases: Sequence[P], pair: tuple[Config, Config], device: Device) -> int:
    """Raises WrongResult unless the second config gives every row the bits that the first gives it, in any batch.

    They are compared on the first of `bases` that both allow, which vary along the first VARYING field that cuts them
    into rows. Returns how many smaller batches were compared; NoRows as it says.
    """
    refused = NoRows(f"{kernel.name}: no check problem of the search space")
    for name in kernel.problem.VARYING:
        for base in bases:
            try:
                return _compare(kernel, name, _whole(kernel, (base, name), pair, device), pair, device)
            except NoRows as absent:
                refused = absent
    raise refused


def _compare(kernel: Kernel[P], name: str, whole: P, pair: tuple[Config, Config], device: Device) -> int:
    first_config, config = pair
    inputs = whole.inputs(0, "cpu")
    answer = _run(kernel, first_config, device, inputs)
    meant = [want.value for want in kernel.reference(whole, *inputs)]
    in_place = any(before is not None for _, before in answer)
    compared = 0
    for size, places in batches(getattr(whole, name), period(config)):
        small = resized(whole, name, size)
        if small is None or kernel.reject(small, config, device) is not None:
            continue
        batch = Batch(name, whole, small, in_place)
        cut = cut_out(kernel, batch, places, (inputs, meant), partial(kernel.launch, config=config, device=device))
        if cut is None:
            continue
        first, rows = cut
        try:
            got = _run(kernel, config, device, rows)
        except Defect as defect:  # an index into rows that were cut off
            raise NoRows(f"{kernel.name}: a row of {describe(whole)} needs others: {defect}") from defect
        if not _agree(answer, got, batch, first):
            raise WrongResult(
                f"{kernel.name} {describe(small)} with {config}: rows {first} to {first + size - 1} of {name}="
                f"{getattr(whole, name)} have other bits there with {first_config}"
            )
        compared += 1
    if not compared:
        raise NoRows(f"{kernel.name} {describe(whole)}: no smaller batch along {name} is allowed with {config}")
    return compared


Result = list[tuple[Tensor, Tensor | None]]
"""Outputs; beside one that is an input written in place, what it held before."""


def _agree(answer: Result, got: Result, batch: Batch, first: int) -> bool:
    """True if the rows `got` have the bits of the whole result; for in-place inputs, only written elements count."""
    equal = True
    for (whole, _), (part, before) in zip(answer, got, strict=True):
        there = batch.rows(whole, first, part.shape)
        if there is not None:
            equal &= same_bits(there, part)
        elif before is not None and whole.shape == part.shape:
            then, here, old = (x.contiguous().view(torch.uint8) for x in (whole, part, before))
            equal &= bool(((here == old) | (here == then)).all())
        else:
            equal &= same_bits(whole, part)
    return equal


def _whole(kernel: Kernel[P], along: tuple[P, str], pair: tuple[Config, Config], device: Device) -> P:
    """The base problem with a tile and its tails of rows, or with as many as both configs may have."""
    base, name = along
    for size in (max(map(period, pair)) + 3, 35, 19, 12, 7, 5, 2):
        problem = resized(base, name, size)
        if problem is None:
            continue
        if all(kernel.reject(problem, config, device) is None for config in pair) and all(
            _steps(kernel, problem, config, device) <= _MOST_STEPS for config in pair
        ):
            return problem
    raise NoRows(f"{kernel.name} {describe(base)}: {pair[1]} is allowed for no batch that the interpreter can hold")


def _steps(kernel: Kernel[P], problem: P, config: Config, device: Device) -> int:
    work = work_of(kernel, problem, config, device)
    return work.programs * work.iterations


def _run(kernel: Kernel[P], config: Config, device: Device, inputs: tuple[Any, ...]) -> Result:
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
