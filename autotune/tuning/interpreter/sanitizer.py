"""A memory sanitizer in Triton's interpreter: whatever a program touches is checked, and defects name their place.

Found: loads and stores out of the bounds of the very argument that a pointer came from, reads of memory that nothing
wrote, two programs that write one address without atomics, programs that read what another one of the same launch
writes, two lanes of one store that write different values to one address, a store read back by other lanes of its
program with no barrier between, outputs not entirely written, false hints to the compiler (`hints`), grids that no GPU
launches (`launcher`), tensor descriptors that none takes, float sums whose bits depend on the order of atomics
(`atomics`). Lanes that a load masks off without naming `other` are undefined on a GPU; what they hold here is a choice
of `fills`. Divisions below zero round as on a GPU; `divisions` notes them.

triton-viz 3.0 has a sanitizer too. It finds accesses out of bounds only, and does not import with Triton 3.9 (its
patches name `create_make_block_ptr`, which is gone), so this one was written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any
from unittest import mock

import numpy as np
import torch
from torch import Tensor

from autotune.errors import Defect
from autotune.tuning.interpreter import hints
from autotune.tuning.interpreter.atomics import Atomics
from autotune.tuning.interpreter.corrections import correct_interpreter
from autotune.tuning.interpreter.divisions import Divisions
from autotune.tuning.interpreter.fills import Fills, value_of
from autotune.tuning.interpreter.launcher import ProgramOrder, device_call, launcher
from autotune.tuning.interpreter.places import place
from autotune.tuning.interpreter.releases import mask_handle
from autotune.tuning.interpreter.shadow_memory import Memory

__all__ = ["ProgramOrder", "Sanitizer", "sanitized", "tensors"]


class Sanitizer:
    """Records of a sanitized call."""

    def __init__(self, memory: Memory, fills: Fills, atomics: Atomics, divisions: Divisions) -> None:
        self.memory, self.fills, self.divisions, self._atomics = memory, fills, divisions, atomics

    @property
    def atomics(self) -> bool:
        """True if any atomic ran: its order is free, so a second run in another order must give the same bits."""
        return self._atomics.ran

    def check_same_atomics(self, backwards: Sanitizer) -> None:
        """Raises Defect at the first atomic that returned other values in `backwards`, the run in opposite order."""
        self._atomics.check_same(backwards._atomics)

    def check_written(self, outputs: Any) -> None:  # noqa: ANN401
        """Raises Defect where a returned tensor was not entirely written."""
        for index, tensor in enumerate(outputs if isinstance(outputs, tuple) else (outputs,)):
            first = self.memory.never_written(tensor) if isinstance(tensor, Tensor) else None
            if first is not None:
                raise Defect("output not entirely written", "launcher", (), f"output {index}", first, "by no program")


@contextmanager
def sanitized(
    order: ProgramOrder = iter,
    memory: Memory | None = None,
    fills: Fills | None = None,
    divisions: Divisions | None = None,
    *,
    any_order: bool = False,
) -> Iterator[Sanitizer]:
    """Kernels launched inside run in the corrected interpreter, checked.

    `order` arranges a launch's programs, and reverses the lanes of atomics where it is `reversed`; `memory` may do
    something else than check; `fills` says what undefined lanes hold (NaN), `divisions` which places divide as Python
    does (none); `any_order` lets float sums by atomics depend on their order. Raises Defect at the first misuse of
    memory, UsageError as `correct_interpreter`.
    """
    correct_interpreter()
    from triton.runtime import interpreter

    memory, fills, divisions = memory or Memory(), fills or Fills(), divisions or Divisions()
    atomics = Atomics(memory, reverse=order is reversed, any_order=any_order)
    builder = interpreter.InterpreterBuilder
    patches: list[AbstractContextManager[Any]] = [
        mock.patch.object(torch, "empty", _poisoned(torch.empty, memory)),
        mock.patch.object(torch, "empty_like", _poisoned(torch.empty_like, memory)),
        mock.patch.object(interpreter, "_patch_lang_core", hints.with_checks(interpreter._patch_lang_core)),
        mock.patch.object(interpreter.InterpretedFunction, "__call__", device_call),
        mock.patch.object(interpreter.InterpretedFunction, "run", launcher(memory, order, atomics.check)),
        mock.patch.object(builder, "create_assume", hints.assume),
        mock.patch.object(builder, "create_barrier", lambda *_, **__: memory.barrier()),
        mock.patch.object(
            builder, "create_make_tensor_descriptor", _described(builder.create_make_tensor_descriptor, memory)
        ),
        mock.patch.object(builder, "create_masked_load", _load(builder.create_masked_load, memory, fills)),
        mock.patch.object(builder, "create_masked_store", _store(builder.create_masked_store, memory)),
        mock.patch.object(builder, "create_atomic_rmw", atomics.wrapped(builder.create_atomic_rmw)),
        mock.patch.object(builder, "create_atomic_cas", atomics.wrapped(builder.create_atomic_cas)),
    ]
    with ExitStack() as stack:
        for patch in (*patches, divisions.watched()):
            stack.enter_context(patch)
        yield Sanitizer(memory, fills, atomics, divisions)


def _poisoned(make: Callable[..., Tensor], memory: Memory) -> Callable[..., Tensor]:
    """Fresh memory holds NaN, or -1 in integers, so that a result made of it shows; and is known to be unwritten."""

    def fresh(*args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        tensor = make(*args, **kwargs)
        tensor.view(torch.uint8).fill_(0x80 if tensor.dtype == torch.float8_e4m3fnuz else 0xFF)
        memory.unwritten(tensor)
        return tensor

    return fresh


def _described(original: Callable[..., Any], memory: Memory) -> Callable[..., Any]:
    """The builder's method, whose refusals name the argument that the descriptor is of."""

    def describe(self: Any, base: Any, *rest: Any, **named: Any) -> Any:  # noqa: ANN401
        try:
            return original(self, base, *rest, **named)
        except AssertionError as error:
            argument, offset = memory.named(int(base.data.item()))
            more = str(error) or "shape, strides and block need as many dimensions"
            raise Defect("malformed descriptor", place(), memory.program, argument, offset, more) from error

    return describe


def _load(original: Callable[..., Any], memory: Memory, fills: Fills) -> Callable[..., Any]:
    from triton.runtime.interpreter import TensorHandle, _get_np_dtype

    # Triton passes what follows `other` by position or by keyword, other names in each release.
    def load(self: Any, ptrs: Any, mask: Any, other: Any, *rest: Any, **named: Any) -> Any:  # noqa: ANN401
        kind, where, mask = ptrs.get_element_ty(), place(), mask_handle(mask)
        bits = _get_np_dtype(kind)
        real = memory.load(ptrs.data, mask.data, bits.itemsize, where)
        if other is None:
            if not mask.data.all():
                fills.note(where, memory, ptrs.data, mask.data)
            value = value_of(fills.at(where), kind, bits)
            other = TensorHandle(np.full(ptrs.data.shape, value, bits), kind)
        return original(self, TensorHandle(real, ptrs.dtype), mask, other, *rest, **named)

    return load


def _store(original: Callable[..., Any], memory: Memory) -> Callable[..., Any]:
    from triton.runtime.interpreter import TensorHandle, _get_np_dtype, _interpreter

    def store(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any, **named: Any) -> Any:  # noqa: ANN401
        bits, where, mask = _get_np_dtype(ptrs.get_element_ty()), place(), mask_handle(mask)
        real = memory.store(ptrs.data, mask.data, bits.itemsize, where)
        done = original(self, TensorHandle(real, ptrs.dtype), value, mask, *rest, **named)
        there = _interpreter.load(real, mask.data, np.zeros_like(value.data), value.data.dtype)
        lost = mask.data & (_bits(there) != _bits(value.data))
        if lost.any():  # the last lane's value lies there
            argument, offset = memory.named(int(ptrs.data[lost][0]))
            raise Defect("two lanes write one address", where, memory.program, argument, offset, "different values")
        return done

    return store


def _bits(data: Any) -> Any:  # noqa: ANN401
    return np.ascontiguousarray(data).view(f"u{data.dtype.itemsize}")


def tensors(outputs: Any) -> list[Tensor]:  # noqa: ANN401
    """Return the tensors among what a launcher returned."""
    return [t for t in (outputs if isinstance(outputs, tuple) else (outputs,)) if isinstance(t, Tensor)]
