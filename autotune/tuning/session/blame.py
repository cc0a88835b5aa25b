"""Whose fault a failure is: the config's, which is a result, or the machine's, which ends the session."""

from __future__ import annotations

import re

from autotune.errors import AutotuneError, CandidateFailed, MachineError
from autotune.tuning.workers.process import printed

_COMPILERS = (
    re.compile(r"^ptxas\b.*?\b(?:error|fatal)\s*:\s*(.+)$", re.MULTILINE),
    re.compile(r"^LLVM ERROR:\s*(.+)$", re.MULTILINE),
    re.compile(r"\berror:\s*(.+)$", re.MULTILINE),
)
"""How errors of ptxas, fatal ones of LLVM, and diagnostics of MLIR and LLVM begin; the first one causes the others."""
_NO_MEMORY = ("can't allocate memory", "std::bad_alloc")
"""In what torch's CPU allocator and LLVM raise in place of MemoryError."""
_LONGEST = 300


def reason(error: Exception) -> str:
    """Why a config failed: what a compiler said, where one did, else the last line of `error`.

    Raises what no config is to blame for: MachineError and other errors of this package as they are, an OSError as a
    MachineError, and MemoryError.
    """
    if isinstance(error, AutotuneError) and not isinstance(error, CandidateFailed):
        raise error
    if isinstance(error, OSError):
        raise MachineError.of(error) from error
    text = str(error)
    if isinstance(error, MemoryError) or any(words in text for words in _NO_MEMORY):
        raise MemoryError from error
    return f"{type(error).__name__}: {(_said(text) or _said(printed()) or _last_line(text))[:_LONGEST]}"


def _said(text: str) -> str | None:
    found = next((match for pattern in _COMPILERS if (match := pattern.search(text))), None)
    return found[1].strip() if found else None


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip() and not set(line) <= {" ", "^", "~"}]
    return lines[-1] if lines else ""
