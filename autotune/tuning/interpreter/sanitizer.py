"""A memory sanitizer in Triton's interpreter: whatever a program touches is checked, and defects name their place.

Found: loads and stores out of the bounds of the very argument that a pointer came from, reads of memory that nothing
wrote, two programs that write one address without atomics, programs that read what another one of the same launch
writes, two lanes of one store that write different values to one address, outputs not entirely written. Lanes that a
load masks off without naming `other` are undefined on a GPU; here they hold NaN, or -1 in integers.

triton-viz 3.0 has a sanitizer too. It finds accesses out of bounds only, and does not import with Triton 3.9 (its
patches name `create_make_block_ptr`, which is gone), so this one was written.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import cache
from itertools import product
from pathlib import Path
from types import FrameType, SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.errors import Defect
from autotune.tuning.interpreter.corrections import correct_interpreter
from autotune.tuning.interpreter.shadow_memory import Memory

_NOT_KERNELS = (str(Path(triton.__file__).parent), str(Path(__file__).parent))
_ROOT = Path(__file__).resolve().parents[3]

ProgramOrder = Callable[[list[Any]], Iterable[Any]]
"""Arranges the programs of a launch."""


class Sanitizer:
    """Records of a sanitized call."""

    def __init__(self, memory: Memory | None = None) -> None:
        self.memory = memory or Memory()
        self.atomics = False
        """True if any atomic ran: its order is free, so a second run in another order must give the same bits."""

    def check_written(self, outputs: Any) -> None:  # noqa: ANN401
        """Raises Defect where a returned tensor was not entirely written."""
        for index, tensor in enumerate(outputs if isinstance(outputs, tuple) else (outputs,)):
            first = self.memory.never_written(tensor) if isinstance(tensor, Tensor) else None
            if first is not None:
                raise Defect("output not entirely written", "launcher", (), f"output {index}", first, "by no program")


@contextmanager
def sanitized(order: ProgramOrder = iter, memory: Memory | None = None) -> Iterator[Sanitizer]:
    """Kernels launched inside run in the corrected interpreter, checked; `order` arranges a launch's programs, and
    `memory` may do something else than check.

    Raises Defect at the first misuse of memory, UsageError as `correct_interpreter`.
    """
    correct_interpreter()
    from triton.runtime import interpreter

    found = Sanitizer(memory)
    builder = interpreter.InterpreterBuilder
    empty, empty_like = torch.empty, torch.empty_like
    patches = [
        mock.patch.object(torch, "empty", _poisoned(empty, found.memory)),
        mock.patch.object(torch, "empty_like", _poisoned(empty_like, found.memory)),
        mock.patch.object(interpreter.InterpretedFunction, "__call__", _device_call),
        mock.patch.object(interpreter.InterpretedFunction, "run", _launcher(found.memory, order)),
        mock.patch.object(builder, "create_masked_load", _load(builder.create_masked_load, found.memory)),
        mock.patch.object(builder, "create_masked_store", _store(builder.create_masked_store, found.memory)),
        mock.patch.object(builder, "create_atomic_rmw", _atomic(builder.create_atomic_rmw, found)),
        mock.patch.object(builder, "create_atomic_cas", _atomic(builder.create_atomic_cas, found)),
    ]
    with ExitStack() as stack:
        for patch in patches:
            stack.enter_context(patch)
        yield found


def _poisoned(make: Callable[..., Tensor], memory: Memory) -> Callable[..., Tensor]:
    """Fresh memory holds NaN, or -1 in integers, so that a result made of it shows; and is known to be unwritten."""

    def fresh(*args: Any, **kwargs: Any) -> Tensor:  # noqa: ANN401
        tensor = make(*args, **kwargs)
        tensor.view(torch.uint8).fill_(0x80 if tensor.dtype == torch.float8_e4m3fnuz else 0xFF)
        memory.unwritten(tensor)
        return tensor

    return fresh


def _device_call(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    # The interpreter patches the language anew for each call of a device function; a launch did it already.
    return self.rewrite()(*args, **kwargs)


def _launcher(memory: Memory, order: ProgramOrder) -> Callable[..., None]:
    """`jit[grid](...)`: the tensors' own memory, no copies; every program in turn."""
    from triton.runtime import interpreter

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:  # noqa: ANN401
        if warmup:
            return
        function = self.rewrite()
        kinds = inspect.get_annotations(self.fn)
        known = inspect.signature(self.fn).parameters
        bound = inspect.getcallargs(self.fn, *args, **{k: v for k, v in kwargs.items() if k in known})
        grid = (*grid, *(1,) * (3 - len(grid)))
        bases = memory.begin({name: value for name, value in bound.items() if isinstance(value, Tensor)}, grid)
        values = {
            name: _pointer(value, bases[name])
            if name in bases
            else value
            if "constexpr" in str(kinds.get(name))
            else interpreter._implicit_cvt(value)
            for name, value in bound.items()
        }
        scope = interpreter._patch_lang(SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))
        try:
            interpreter.interpreter_builder.set_grid_dim(*grid)
            for program in order(list(product(*map(range, grid)))):
                interpreter.interpreter_builder.set_grid_idx(*program)
                memory.program = program
                function(**values)
        finally:
            scope.restore()
        memory.end()

    return run


def _pointer(tensor: Tensor, base: int) -> Any:  # noqa: ANN401
    from triton.runtime.interpreter import TensorHandle
    from triton.runtime.jit import mangle_type

    kind = tl.str_to_ty(mangle_type(tensor), None)
    return tl.tensor(TensorHandle(np.array([base], dtype=np.uint64), kind), kind)


def _load(original: Callable[..., Any], memory: Memory) -> Callable[..., Any]:
    from triton.runtime.interpreter import TensorHandle, _get_np_dtype

    def load(self: Any, ptrs: Any, mask: Any, other: Any, *rest: Any) -> Any:  # noqa: ANN401
        kind = ptrs.get_element_ty()
        bits = _get_np_dtype(kind)
        real = memory.load(ptrs.data, mask.data, bits.itemsize, place())
        if other is None:
            fill = 0x80 if kind == tl.float8e4b8 else 0xFF
            other = TensorHandle(np.frombuffer(bytes([fill]) * bits.itemsize, bits), kind)
            other.data = np.broadcast_to(other.data, ptrs.data.shape).copy()
        return original(self, TensorHandle(real, ptrs.dtype), mask, other, *rest)

    return load


def _store(original: Callable[..., Any], memory: Memory) -> Callable[..., Any]:
    from triton.runtime.interpreter import TensorHandle, _get_np_dtype, _interpreter

    def store(self: Any, ptrs: Any, value: Any, mask: Any, *rest: Any) -> Any:  # noqa: ANN401
        bits, where = _get_np_dtype(ptrs.get_element_ty()), place()
        real = memory.store(ptrs.data, mask.data, bits.itemsize, where)
        done = original(self, TensorHandle(real, ptrs.dtype), value, mask, *rest)
        there = _interpreter.load(real, mask.data, np.zeros_like(value.data), value.data.dtype)
        lost = mask.data & (_bits(there) != _bits(value.data))
        if lost.any():  # the last lane's value lies there
            argument, offset = memory.named(int(ptrs.data[lost][0]))
            raise Defect("two lanes write one address", where, memory.program, argument, offset, "different values")
        return done

    return store


def _atomic(original: Callable[..., Any], found: Sanitizer) -> Callable[..., Any]:
    """Reads and writes what may be anybody's; the first TensorHandle is the pointers, the boolean one the mask."""
    from triton.runtime.interpreter import TensorHandle, _get_np_dtype

    def atomic(self: Any, *args: Any) -> Any:  # noqa: ANN401
        found.atomics = True
        at = next(i for i, arg in enumerate(args) if isinstance(arg, TensorHandle))
        masks = [arg.data for arg in args[at:] if isinstance(arg, TensorHandle) and arg.data.dtype == np.bool_]
        ptrs, where = args[at], place()
        mask = masks[0] if masks else np.ones_like(ptrs.data, dtype=bool)
        size = _get_np_dtype(ptrs.get_element_ty()).itemsize
        found.memory.load(ptrs.data, mask, size, where, atomic=True)
        real = found.memory.store(ptrs.data, mask, size, where, atomic=True)
        return original(self, *args[:at], TensorHandle(real, ptrs.dtype), *args[at + 1 :])

    return atomic


def _bits(data: Any) -> Any:  # noqa: ANN401
    return np.ascontiguousarray(data).view(f"u{data.dtype.itemsize}")


def place() -> str:
    """file:line of the innermost frame that is neither Triton's nor the tuner's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_KERNELS):
        frame = frame.f_back
    return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else "?"


@cache
def _short(path: str) -> str:
    whole = Path(path).resolve()
    return str(whole.relative_to(_ROOT)) if whole.is_relative_to(_ROOT) else path


def tensors(outputs: Any) -> list[Tensor]:  # noqa: ANN401
    """Return the tensors among what a launcher returned."""
    return [t for t in (outputs if isinstance(outputs, tuple) else (outputs,)) if isinstance(t, Tensor)]
