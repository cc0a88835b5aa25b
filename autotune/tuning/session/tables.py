"""The table of a session: found writable before hours of tuning, and its rows kept somewhere when it no longer is."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autotune import table
from autotune.config import Problem, build
from autotune.errors import MachineError, UsageError
from autotune.table import Row, Table
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.promotion import superseded
from autotune.tuning.session.prover import Claim, Prover


def check_writable(path: Path) -> None:
    """Raises MachineError where no file can be put at `path`; leaves nothing behind."""
    folder = next(parent for parent in path.parents if os.path.lexists(parent))
    try:
        with tempfile.NamedTemporaryFile(dir=folder, prefix="."):
            pass
        if path.is_dir():
            raise IsADirectoryError(0, "is a folder, not a table", str(path))
    except OSError as error:
        raise MachineError(f"{path}: cannot be written ({error.strerror}); name another folder by --tables") from error


@dataclass(frozen=True)
class TableFile:
    """Where the rows of one kernel on one device are kept between sessions."""

    path: Path
    subject: Subject
    filed: str
    """The device's name in the table: a bench may file its rows under another."""
    deterministic: bool

    def load(self) -> Table:
        """Raises TableError for a damaged file, and UsageError where its rows were tuned by other rules."""
        if not self.path.exists():
            kernel, identity = self.subject.kernel.name, self.subject.identity
            return Table(kernel, self.subject.device.arch, self.filed, identity.kernel, (), self.deterministic)
        found = table.load(self.path)
        if found.deterministic != self.deterministic:
            is_, isnt = ("deterministic", "freely") if found.deterministic else ("tuned freely", "deterministically")
            raise UsageError(f"{self.path}: is {is_}; rows tuned {isnt} cannot join it: name other tables by --tables")
        return found

    def merged(self, old: Table, rows: Sequence[Row], prover: Prover) -> tuple[Table, int]:
        """The old table with new rows, and how many old ones the reference of today refuses.

        Old rows go with their kernel; those that another reference proved are proved again.
        """
        identity = self.subject.identity
        same = old.source == identity.kernel
        gone = superseded(old.rows, rows)
        kept = right = [row for row in old.rows if same and row not in gone]
        if old.proof != identity.proof:
            kept = [row for row in kept if row.problem not in {new.problem for new in rows}]
            right = self._proved_again(kept, prover)
        made = replace(old, source=identity.kernel, proof=identity.proof, rows=tuple(right)).merged(rows)
        return made, len(kept) - len(right)

    def save(self, made: Table, new: int, state: Path) -> None:
        """Writes a table with `new` new rows. Raises MachineError that says where it lies instead where it cannot."""
        try:
            table.save(made, self.path)
        except OSError as error:
            kept = _keep(made, state)
            where = f"the table with its {new} new rows is kept in {kept}, copy it" if kept else "run it again"
            raise MachineError(f"{self.path}: cannot be written ({error.strerror}); {where}") from error

    def _proved_again(self, rows: Sequence[Row], prover: Prover) -> list[Row]:
        claims = {row: claim for row in rows if (claim := self._claim(row))}
        proofs = prover.prove(claims.values())
        return [row for row, claim in claims.items() if not proofs[claim].failed]

    def _claim(self, row: Row) -> Claim | None:
        """Return the claim that a row makes; None if its problem has other fields today."""
        try:
            problem: Problem = build(self.subject.kernel.problem, dict(row.problem), str(self.path))
        except UsageError:
            return None
        return Claim(problem, row.config, row.serves)


def _keep(made: Table, state: Path) -> Path | None:
    """Another place on this machine; None where every disk refuses, and only journal and caches hold the work."""
    for root in (state / "unsaved", Path(tempfile.gettempdir()) / "autotune-unsaved"):
        path = table.path_of(root, made.arch, made.device, made.kernel)
        try:
            table.save(made, path)
        except OSError:
            continue
        return path
    return None
