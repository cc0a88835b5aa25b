"""The line of an error's text in which a compiler says what is wrong."""

from __future__ import annotations

import re

_COMPILERS = (
    re.compile(r"^ptxas\b.*?\b(?:error|fatal)\s*:\s*(.+)$", re.MULTILINE),
    re.compile(r"^LLVM ERROR:\s*(.+)$", re.MULTILINE),
    re.compile(r"\berror:\s*(.+)$", re.MULTILINE),
)
"""How errors of ptxas, fatal ones of LLVM, and diagnostics of MLIR and LLVM begin; the first one causes the others."""
LONGEST = 300
"""Characters of a reason that are kept."""


def complaint(text: str) -> str | None:
    """Return what ptxas, LLVM or MLIR complains of in `text`, or None where none of them does."""
    found = next((match for pattern in _COMPILERS if (match := pattern.search(text))), None)
    return found[1].strip() if found else None


def last_line(text: str) -> str:
    """Return the last line of `text` that is neither blank nor underlining."""
    lines = [line for line in text.splitlines() if line.strip() and not set(line) <= {" ", "^", "~"}]
    return lines[-1] if lines else ""
