"""The address arithmetic of one call at its real sizes, run with no memory behind it.

Inputs are shapes only, so sizes that no interpreter could compute cost nothing. Every argument gets an address space of
its own, loads of indices return the largest that is known for them (else 0), and of a launch's grid the corners run, of
a loop its ends. An active lane whose address followed from an overflow of 32 bits is a defect, as is a grid that no GPU
launches, and an address outside its argument where no index was guessed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import product
from typing import Any
from unittest import mock

import numpy as np
import triton.language as tl
from torch import Tensor

from autotune.errors import Defect, SpaceError
from autotune.tuning.interpreter.corrections import correct_interpreter
from autotune.tuning.interpreter.index_bounds import Bound
from autotune.tuning.interpreter.launcher import TOO_LARGE, Programs, device_call, launcher
from autotune.tuning.interpreter.loops import turns
from autotune.tuning.interpreter.overflow import marks, overflows_marked
from autotune.tuning.interpreter.places import place
from autotune.tuning.interpreter.releases import mask_handle
from autotune.tuning.interpreter.shadow_memory import Memory

OVERFLOW = "32-bit overflow"
OUTSIDE = "out of bounds"
_SPACE_BITS = 44
_MOST_ACCESSES = 20000
"""Loads and stores of one call: a kernel of this project makes some hundred. What loops on made-up data ends here."""


_KINDS = (OVERFLOW, OUTSIDE, TOO_LARGE)


class Unjudged(Exception):
    """The call went on for too long on the values that loads are given here."""


@dataclass
class Spaces(Memory):
    """Address spaces of one launch's arguments, 2^44 bytes apart."""

    bound: Bound
    guessed: set[str] = field(default_factory=set)
    """Arguments whose integers were taken for 0 because nothing bounds them."""
    call: dict[str, Any] = field(default_factory=dict)
    accesses: int = 0

    def __post_init__(self) -> None:
        super().__init__()
        self._tensors: dict[int, tuple[str, Tensor]] = {}

    def begin(self, arguments: dict[str, Tensor], grid: tuple[int, ...]) -> dict[str, int]:
        self.grid = grid
        self._tensors = dict(enumerate(arguments.items(), 1))
        return {name: (space << _SPACE_BITS) + (1 << (_SPACE_BITS - 1)) for space, (name, _) in self._tensors.items()}

    def end(self) -> None:
        """Nothing was stored."""

    def touch(self, pointers: Any, mask: Any, size: int) -> str | None:  # noqa: ANN401
        """Check the addresses of active lanes; return the argument that they are of. Raises Defect, Unjudged."""
        self.accesses += 1
        if self.accesses > _MOST_ACCESSES:
            raise Unjudged
        if not mask.any():
            return None
        active = np.broadcast_to(pointers.data, mask.shape)[mask].astype(np.int64)
        wrong = marks(pointers)
        overflowed = np.broadcast_to(wrong, mask.shape)[mask] if wrong is not None else np.zeros(active.shape, bool)
        lane = int(overflowed.argmax()) if overflowed.any() else 0
        # A wrapped offset may leave its space: the argument is that of the first lane that did not overflow, if any.
        whole = active[~overflowed]
        space = int(whole[0] if whole.size else active[lane]) >> _SPACE_BITS
        name, tensor = self._tensors.get(space, ("no argument", None))
        offsets = active - ((space << _SPACE_BITS) + (1 << (_SPACE_BITS - 1)))
        if overflowed.any():
            more = "which followed from a sum or product that does not fit into 32 bits: widen a factor to tl.int64"
            raise Defect(OVERFLOW, place(), self.program, name, int(offsets[lane]) // size, more)
        worst = int(offsets.min()) if offsets.min() < 0 else int(offsets.max())
        nbytes = tensor.numel() * tensor.element_size() if tensor is not None else 0
        if (worst < 0 or worst > nbytes - size) and not self.guessed:
            more = f"outside an argument of shape {list(tensor.shape) if tensor is not None else []}"
            raise Defect(OUTSIDE, place(), self.program, name, worst // size, more)
        return name

    def index(self, name: str) -> int:
        """The integer that loads of an argument return."""
        largest = self.bound(name, {**self.call, **dict(self._tensors.values())})
        if largest is None:
            self.guessed.add(name)
        return largest or 0


def check_addresses(launch: Callable[[], object], bound: Bound) -> frozenset[str]:
    """Run `launch`, a call with tensors on the meta device; return the arguments whose indices were guessed.

    Raises Defect, and SpaceError as `bound` does. Any other failure ends the check with no judgement: made-up values
    led the kernel astray.
    """
    spaces = Spaces(bound=bound)
    with _unbacked(spaces):
        try:
            launch()
        except SpaceError:
            raise
        except Defect as defect:
            if defect.kind in _KINDS:
                raise
        except Exception:
            return frozenset(spaces.guessed)
    return frozenset(spaces.guessed)


@contextmanager
def _unbacked(spaces: Spaces) -> Iterator[None]:
    correct_interpreter()
    from triton.runtime import interpreter

    builder, run = interpreter.InterpreterBuilder, launcher(spaces, _corners)

    def called(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: ANN401
        names = self.fn.__code__.co_varnames[: self.fn.__code__.co_argcount]
        spaces.call = {**dict(zip(names, args, strict=False)), **{k: v for k, v in kwargs.items() if k in names}}
        run(self, *args, **kwargs)

    with (
        overflows_marked(),
        turns(_ends),
        mock.patch.object(interpreter.InterpretedFunction, "run", called),
        mock.patch.object(interpreter.InterpretedFunction, "__call__", device_call),
        mock.patch.object(builder, "create_masked_load", _loader(spaces)),
        mock.patch.object(builder, "create_masked_store", _storer(spaces)),
        mock.patch.object(builder, "create_atomic_rmw", _atomic(spaces)),
        mock.patch.object(builder, "create_atomic_cas", _atomic(spaces)),
    ):
        yield


def _corners(programs: Programs) -> list[tuple[int, ...]]:
    return list(product(*(sorted({0, size - 1}) for size in programs.grid)))


def _ends(whole: range) -> Sequence[int]:
    return [*whole[:2], *whole[max(2, len(whole) - 2) :]]


def _loader(spaces: Spaces) -> Callable[..., Any]:
    from triton.runtime.interpreter import TensorHandle, _get_np_dtype

    def load(self: Any, ptrs: Any, mask: Any, other: Any, *_: Any, **__: Any) -> Any:  # noqa: ANN401
        kind, mask = ptrs.get_element_ty(), mask_handle(mask)
        bits = _get_np_dtype(kind)
        name = spaces.touch(ptrs, mask.data, bits.itemsize)
        data = np.zeros(ptrs.data.shape, dtype=bits)
        if name is not None and kind in (tl.int32, tl.int64):
            data[...] = spaces.index(name)
        if other is not None:
            data = np.where(mask.data, data, other.data).astype(bits)
        return TensorHandle(data, kind)

    return load


def _storer(spaces: Spaces) -> Callable[..., Any]:
    from triton.runtime.interpreter import _get_np_dtype

    def store(self: Any, ptrs: Any, value: Any, mask: Any, *_: Any, **__: Any) -> None:  # noqa: ANN401
        spaces.touch(ptrs, mask_handle(mask).data, _get_np_dtype(ptrs.get_element_ty()).itemsize)

    return store


def _atomic(spaces: Spaces) -> Callable[..., Any]:
    from triton.runtime.interpreter import TensorHandle, _get_np_dtype

    def atomic(self: Any, *args: Any, **_: Any) -> Any:  # noqa: ANN401
        handles = [arg for arg in args if isinstance(arg, TensorHandle)]
        masks = [handle.data for handle in handles if handle.data.dtype == np.bool_]
        mask = masks[0] if masks else np.ones_like(handles[0].data, dtype=bool)
        spaces.touch(handles[0], mask, _get_np_dtype(handles[0].get_element_ty()).itemsize)
        return TensorHandle(np.zeros_like(handles[1].data), handles[1].dtype.scalar)

    return atomic
