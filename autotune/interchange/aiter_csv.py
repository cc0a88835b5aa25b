"""AITER's CSV: tuned rows of its CK, assembly, hipBLASLt and Triton kernels, with measured microseconds.

A row names a prebuilt kernel instance, not a tile: none is a config of ours, and each is listed with its library.
"""

from __future__ import annotations

import csv
import io
from pathlib import Path

from autotune.errors import UsageError
from autotune.interchange.foreign import Entry, Hints, Unmapped
from autotune.untrusted import read_text


def read(path: Path, hints: Hints) -> tuple[list[Entry], list[Unmapped]]:
    """No entries: every row is listed. Raises UsageError for a file that is not such a CSV."""
    left = []
    for number, row in enumerate(_rows(path), 2):
        library = row.get("libtype") or ("CK or assembly" if "kernelName" in row else "another")
        reason = f"names a prebuilt {library} kernel, no tile: not a config of a kernel here"
        left.append(Unmapped(f"{path}: line {number}", reason))
    return [], left


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
        rows = list(reader)
    except csv.Error as error:
        raise UsageError(f"{path}: not CSV ({error})") from error
    header = reader.fieldnames or []
    if not {"us", "M", "token"} & set(header):
        raise UsageError(f"{path}: line 1: not a table of AITER: it has neither us, M nor token columns")
    for number, row in enumerate(rows, 2):
        if None in row:  # shorter rows are shipped, and read as having nothing there
            raise UsageError(f"{path}: line {number}: more than the {len(header)} columns of line 1")
    return rows
