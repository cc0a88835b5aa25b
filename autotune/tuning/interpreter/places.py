"""Where device code is: the line that runs, the program that runs it."""

from __future__ import annotations

import sys
import traceback
from functools import cache
from pathlib import Path
from types import FrameType

import triton

_NOT_KERNELS = (str(Path(triton.__file__).parent), str(Path(__file__).parent))
_ROOT = Path(__file__).resolve().parents[3]


def place() -> str:
    """file:line of the innermost frame that is neither Triton's nor the interpreter's."""
    frame: FrameType | None = sys._getframe(1)
    while frame is not None and frame.f_code.co_filename.startswith(_NOT_KERNELS):
        frame = frame.f_back
    return f"{_short(frame.f_code.co_filename)}:{frame.f_lineno}" if frame else "?"


def place_of(error: BaseException) -> str:
    """file:line of the innermost frame of device code that `error` passed through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if not frame[0].startswith(_NOT_KERNELS)]
    return f"{_short(frames[-1].filename)}:{frames[-1].lineno}" if frames else "?"


def definition(function: object) -> str:
    """file:line at which a Python function begins."""
    code = function.__code__  # type: ignore[attr-defined]
    return f"{_short(code.co_filename)}:{code.co_firstlineno}"


def program() -> tuple[int, ...]:
    """Indices of the program that the interpreter runs."""
    from triton.runtime.interpreter import interpreter_builder

    return tuple(interpreter_builder.grid_idx)


@cache
def _short(path: str) -> str:
    whole = Path(path).resolve()
    return str(whole.relative_to(_ROOT)) if whole.is_relative_to(_ROOT) else path
