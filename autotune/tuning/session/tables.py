"""The table of a session: found writable before hours of tuning, and its rows kept somewhere when it no longer is."""

from __future__ import annotations

import itertools
import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from autotune import row_check, table
from autotune.config import Problem, build
from autotune.errors import MachineError, TableError, UsageError
from autotune.table import Row, Table
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.promotion import superseded
from autotune.tuning.session.prover import Claim, Prover


def check_writable(path: Path) -> None:
    """Raises MachineError where no file can be put at `path`; leaves nothing behind."""
    path = Path(os.path.realpath(path))  # what is written is the file behind a link
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

    def is_of_today(self, table: Table) -> bool:
        """True if all rows are of today's kernel, and proved under today's reference."""
        return (table.source, table.proof) == (self.subject.identity.kernel, self.subject.identity.proof)

    def merged(self, old: Table, rows: Sequence[Row], prover: Prover) -> tuple[Table, int]:
        """The old table with new rows, and how many old ones went that today's kernel or reference refuses.

        Old rows go with their kernel, but for imported ones, which were never of its code. Those that another code or
        another reference proved are proved again.
        """
        kernel, identity = self.subject.kernel, self.subject.identity
        same = old.source == identity.kernel
        sound, flaws = row_check.whole(old.rows, kernel, self.subject.device)
        gone = superseded(sound, rows)
        kept = right = [row for row in sound if (same or row.tier == "imported") and row not in gone]
        if not same or old.proof != identity.proof:
            kept = [row for row in kept if row.problem not in {new.problem for new in rows}]
            right = self._proved_again(kept, prover)
        lost = len(kept) - len(right) + (len(flaws) if same else 0)
        made = replace(old, source=identity.kernel, proof=identity.proof, rows=tuple(right)).merged(rows)
        return made, lost

    def save(self, old: Table, made: Table, new: int, state: Path) -> None:
        """Writes `made`, which a session made of `old` with `new` new rows, and what others wrote meanwhile.

        Raises MachineError that says where the rows lie instead, where the table cannot be written or contradicts.
        """
        try:
            table.update(self.path, lambda now: made if now is None else _joined(old, made, now, str(self.path)))
        except (OSError, TableError) as error:
            kept = _keep(made, state)
            where = f"the table with its {new} new rows is kept in {kept}, copy it" if kept else "run it again"
            why = str(error) if isinstance(error, TableError) else f"{self.path}: cannot be written ({error.strerror})"
            raise MachineError(f"{why}; {where}") from error

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


def _joined(old: Table, made: Table, now: Table, place: str) -> Table:
    """`made`, which came of `old`, with the rows that others have put into the table since, and without what they took
    out. Raises TableError where they have written what cannot stand beside it."""
    if now == old:
        return made
    if now.source not in (old.source, made.source) or now.deterministic != made.deterministic:
        raise TableError(f"{place}: was written meanwhile for another code of the kernel, or by other rules")
    if made.deterministic:
        raise TableError(f"{place}: is deterministic, and was written meanwhile, perhaps in another order")
    before, there = set(old.rows), set(now.rows)
    new = [row for row in made.rows if row not in before]
    theirs = [row for row in now.rows if row not in before]
    if now.source != made.source:  # the old rows went with the old kernel, and its other new ones do too
        theirs = [row for row in theirs if row.tier == "imported"]
    theirs = [row for row in theirs if row not in superseded(theirs, new)]
    kept = [row for row in made.rows if row in before and row in there]
    proof = made.proof if now.proof == made.proof or not theirs else ""
    return replace(made, proof=proof, rows=tuple(kept)).merged(theirs).merged(new)


def _keep(made: Table, state: Path) -> Path | None:
    """Another place on this machine; None where every disk refuses, and only journal and caches hold the work."""
    for root in (state / "unsaved", Path(tempfile.gettempdir()) / "autotune-unsaved"):
        numbered = itertools.chain((root,), (root.with_name(f"{root.name}-{number}") for number in itertools.count(2)))
        paths = (table.path_of(folder, made.arch, made.device, made.kernel) for folder in numbered)
        try:
            path = next(path for path in paths if not path.exists())  # an earlier session's rows may still lie there
            table.save(made, path)
        except OSError:
            continue
        return path
    return None
