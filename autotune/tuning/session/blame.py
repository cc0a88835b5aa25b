"""Whose fault a failure is: the config's, which is a result, or the machine's, which ends the session."""

from __future__ import annotations

from autotune.errors import AutotuneError, CandidateFailed, MachineError
from autotune.tuning.compilation.complaint import LONGEST, complaint, last_line
from autotune.tuning.workers.process import printed

_NO_MEMORY = ("can't allocate memory", "std::bad_alloc")
"""In what torch's CPU allocator and LLVM raise in place of MemoryError."""


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
    return f"{type(error).__name__}: {(complaint(text) or complaint(printed()) or last_line(text))[:LONGEST]}"
