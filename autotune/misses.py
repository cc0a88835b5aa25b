"""Problems that serving met and no row covers: a file of one JSON line each, which `autotune tune --from-misses` reads.

An engine calls `misses.record(path)` once, before its first launch. Only shapes and dtypes are written.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import runtime
from autotune.config import Problem, Scalar, key
from autotune.device import Device
from autotune.errors import UsageError
from autotune.runtime import Choice

if TYPE_CHECKING:
    from autotune.kernel import Kernel

LIMIT_BYTES = 4 << 20
"""About 20,000 misses; a file that is full stays as it is, so that no traffic can fill a disk."""


@dataclass(frozen=True)
class Miss:
    """One line of the file, still in words: the kernel may not be installed where it is read."""

    kernel: str
    device: str
    problem: tuple[tuple[str, Scalar], ...]


def record(path: Path) -> Callable[[], None]:
    """Appends every miss of this process to `path`, each once; returns what stops that. Raises UsageError.

    Processes may share the file: a line is written in one piece.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    except OSError as error:
        raise UsageError(f"{path}: cannot be written ({error}); name another file for misses") from error

    def note(kernel: Kernel[Any], problem: Problem, device: Device, choice: Choice) -> None:
        if not choice.is_miss:
            return
        line = {"kernel": kernel.name, "device": device.name, "how": choice.how, "problem": dict(key(problem))}
        try:
            if os.fstat(file).st_size < LIMIT_BYTES:
                os.write(file, (json.dumps(line, allow_nan=False) + "\n").encode())
        except OSError as error:  # serving goes on without its notes
            logging.getLogger(__name__).warning("%s: misses are no longer recorded (%s)", path, error)
            stop()

    def stop() -> None:
        if note in runtime.hooks:
            runtime.hooks.remove(note)
            os.close(file)

    runtime.hooks.append(note)
    return stop


def read(path: Path) -> list[Miss]:
    """The distinct misses in `path`, in order. Raises UsageError with the line; a torn last line is left out."""
    try:
        text = path.read_text(encoding="utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"{path}: cannot be read ({error}); name a file that misses.record wrote") from error
    whole = text if text.endswith("\n") else text[: text.rfind("\n") + 1]
    lines = enumerate(whole.splitlines(), 1)
    return list(dict.fromkeys(_miss(line, f"{path}: line {number}") for number, line in lines if line.strip()))


def _miss(line: str, place: str) -> Miss:
    try:
        data = json.loads(line)
        problem = data["problem"]
        names = data["kernel"], data["device"]
        plain = all(isinstance(value, int | str) for value in problem.values())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise UsageError(f"{place}: not a miss ({error!r}); delete the line") from error
    if not plain or not all(isinstance(name, str) for name in names):
        raise UsageError(f"{place}: not a miss: kernel and device must be strings, sizes integers; delete the line")
    return Miss(*names, tuple(problem.items()))
