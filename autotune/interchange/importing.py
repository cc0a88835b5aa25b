"""Files and folders of one format, read into rows, with a reason for everything that was left out."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autotune.errors import UsageError
from autotune.interchange.entries import Hints, LeftOut, reason_of
from autotune.interchange.formats import Format
from autotune.interchange.rows import Home, rows
from autotune.table import Row

PACKED = ("", ".gz", ".xz", ".bz2")


@dataclass(frozen=True)
class ImportReport:
    """Rows taken, by kernel and device, and entries left out."""

    rows: dict[Home, list[Row]]
    left: list[LeftOut]


def read(form: Format, paths: Sequence[Path], hints: Hints) -> ImportReport:
    """Everything that `paths` hold of the format.

    Raises UsageError for a path that is not there, and for a file that cannot be read where it is the only one named;
    among others such a file is left out.
    """
    alone = len(paths) == 1 and paths[0].is_file()
    entries, left = [], []
    for path, named in _files(form, paths):
        if not named and _hidden(path, paths):
            left.append(LeftOut(str(path), "", "a hidden file; name the file itself if it is meant"))
            continue
        try:
            more, less = form.read(path, replace(hints, named=named))
        except UsageError as error:
            if alone:
                raise
            left.append(LeftOut(str(path), "", reason_of(error, str(path))))
            continue
        entries += more
        left += less
    asked, unasked = form.asked(entries)
    found, refused = rows(asked)
    return ImportReport(found, [*left, *unasked, *refused])


def _files(form: Format, paths: Sequence[Path]) -> Iterator[tuple[Path, bool]]:
    """(file, whether the user named it), each once; of a folder those whose names end as the format's do."""
    endings = tuple(f"{form.suffix}{packed}" for packed in PACKED)
    seen = set[Path]()
    for path in paths:
        if path.is_dir():
            inside = (one for one in path.rglob("*") if one.name.lower().endswith(endings) and one.is_file())
            found = [(one, False) for one in sorted(inside)]
        elif path.is_file():
            found = [(path, True)]
        else:
            raise UsageError(f"{path}: no such file or folder")
        for one, named in found:
            if one.resolve() not in seen:
                seen.add(one.resolve())
                yield one, named


def _hidden(path: Path, roots: Sequence[Path]) -> bool:
    """True if the file, or a folder between it and the one that was named, is hidden."""
    root = next(root for root in roots if path.is_relative_to(root))
    return any(part.startswith(".") for part in path.relative_to(root).parts)
