"""`jit[grid](...)` in the interpreter: every program in turn, on the tensors' own memory, with no copies."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Iterator, Sequence
from types import SimpleNamespace
from typing import Any
from unittest import mock

import numpy as np
import triton.language as tl
from torch import Tensor

from autotune.errors import Defect
from autotune.tuning.interpreter.places import definition, place_of
from autotune.tuning.interpreter.shadow_memory import Memory

TOO_LARGE = "grid too large"
_MOST_PROGRAMS = (2**31 - 1, 65535, 65535)
"""Along x, y and z: CUDA C++ Programming Guide, compute capabilities; HIP has the same on y and z since ROCm 6."""


class Programs(Sequence[tuple[int, int, int]]):
    """Indices of the programs of a grid, z fastest; none of them is stored."""

    def __init__(self, grid: tuple[int, int, int]) -> None:
        self.grid = grid

    def __len__(self) -> int:
        return int(np.prod(self.grid, dtype=object))

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401
        if isinstance(index, slice):
            return [self[i] for i in range(*index.indices(len(self)))]
        if not -len(self) <= index < len(self):
            raise IndexError(index)
        rest, z = divmod(int(index) % len(self), self.grid[2])
        return (*divmod(rest, self.grid[1]), z)


ProgramOrder = Callable[[Programs], Iterable[Any]]
"""Arranges the programs of a launch."""


def device_call(self: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    """A call of one device function by another; the launch has patched the language, which is not done anew."""
    return self.rewrite()(*args, **kwargs)


def _nothing() -> None:
    """Do nothing."""


def launcher(memory: Memory, order: ProgramOrder, end: Callable[[], None] = _nothing) -> Callable[..., None]:
    """Return a replacement of `InterpretedFunction.run`, which calls `end` after each launch. It raises Defect."""
    from triton.runtime import interpreter

    def run(self: Any, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:  # noqa: ANN401
        if warmup:
            return
        function = self.rewrite()
        kinds = inspect.get_annotations(self.fn)
        parameters = inspect.signature(self.fn).parameters
        bound = inspect.getcallargs(self.fn, *args, **{k: v for k, v in kwargs.items() if k in parameters})
        programs = Programs(_whole(grid(bound) if callable(grid) else grid, self.fn))
        constants = {name for name in bound if "constexpr" in str(kinds.get(name))}
        tensors = {key: t for name in bound if name not in constants for key, t in _tensors(name, bound[name])}
        bases = memory.begin(tensors, programs.grid)
        scope = interpreter._patch_lang(SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))
        try:
            values = {
                name: value if name in constants else _device_value(name, value, bases) for name, value in bound.items()
            }
            interpreter.interpreter_builder.set_grid_dim(*programs.grid)
            for program in order(programs):
                interpreter.interpreter_builder.set_grid_idx(*program)
                memory.enter(program)
                function(**values)
        except AssertionError as error:
            raise Defect("failed assertion", place_of(error), memory.program, "-", 0, str(error)) from error
        finally:
            scope.restore()
        memory.end()
        end()

    return run


def _whole(grid: Sequence[Any], function: object) -> tuple[int, int, int]:
    """The grid in three dimensions. Raises Defect where a GPU has no launch of so many programs."""
    x, y, z = (*map(int, grid), *(1,) * (3 - len(grid)))
    for axis, size, most in zip("xyz", (x, y, z), _MOST_PROGRAMS, strict=True):
        if size > most:
            more = f"a launch has at most {most} programs along {axis}"
            raise Defect(TOO_LARGE, definition(function), (), f"grid {axis}", size, more)
    return x, y, z


def _tensors(name: str, value: Any) -> Iterator[tuple[str, Tensor]]:  # noqa: ANN401
    """Tensors behind an argument by name: a tensor's, a descriptor's, or those of a tuple."""
    from triton.tools.tensor_descriptor import TensorDescriptor

    if isinstance(value, Tensor):
        yield name, value
    elif isinstance(value, TensorDescriptor):
        yield name, value.base
    elif isinstance(value, tuple):
        for index, part in enumerate(value):
            yield from _tensors(f"{name}[{index}]", part)


def _device_value(name: str, value: Any, bases: dict[str, int]) -> Any:  # noqa: ANN401
    """Return an argument as device code gets it, with pointers that begin at `bases`."""
    from triton.runtime import interpreter

    if isinstance(value, Tensor):
        return _pointer(value, bases[name])
    own = {id(tensor): bases[key] for key, tensor in _tensors(name, value)}
    original = interpreter._implicit_cvt

    def convert(part: Any) -> Any:  # noqa: ANN401
        return _pointer(part, own[id(part)]) if isinstance(part, Tensor) else original(part)

    with mock.patch.object(interpreter, "_implicit_cvt", convert):  # which calls itself for parts
        return convert(value)


def _pointer(tensor: Tensor, base: int) -> Any:  # noqa: ANN401
    from triton.runtime.interpreter import TensorHandle
    from triton.runtime.jit import mangle_type

    kind = tl.str_to_ty(mangle_type(tensor), None)
    return tl.tensor(TensorHandle(np.array([base], dtype=np.uint64), kind), kind)
