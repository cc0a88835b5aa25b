"""Proof stamps: a table says under which reference all its rows were proved, and gets the stamp of today's anew."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import row_check, runtime, table
from autotune.config import Problem, build, key
from autotune.device import Device
from autotune.table import Row, Table
from autotune.tuning import space
from autotune.tuning.validation.coverage import problems_to_prove, served_sizes
from autotune.tuning.workers.worker import Job

if TYPE_CHECKING:
    from autotune.kernel import Kernel


@dataclass(frozen=True)
class Claims:
    """The jobs that prove each row of one table on all that it serves; empty where the table can have no stamp."""

    path: Path
    proof: str
    """`Identity.proof` of the kernel as it is now."""
    rows: Mapping[Row, tuple[Job, ...]]

    @property
    def jobs(self) -> list[Job]:
        return [job for jobs in self.rows.values() for job in jobs]


def claims(kernel: Kernel[Any], device: Device) -> Claims:
    """Return what must be right before the table of `kernel` on `device` gets its stamp. Raises TableError.

    A table of another code of the kernel, or with a row that no call takes, gets none.
    """
    path = table.path_of(runtime.tables_root(), device.arch, device.name, kernel.name)
    loaded = table.load(path) if path.exists() else None
    none = Claims(path, kernel.identity.proof, {})
    if loaded is None or loaded.source != kernel.identity.kernel or loaded.proof == kernel.identity.proof:
        return none
    rows, flaws = row_check.whole(loaded.rows, kernel, device)
    checks = space.load(kernel, device).check
    return none if flaws else replace(none, rows={row: _jobs(kernel, row, device, checks) for row in rows})


def address_jobs(kernel: Kernel[Any], row: Row, device: Device) -> list[Job]:
    """Return the jobs that check a row's addresses at the sizes that it serves: shapes alone."""
    problem: Problem = build(kernel.problem, dict(row.problem), "row")
    sizes = served_sizes(kernel, (problem, row.config), device, row.intervals)
    return [Job(kernel.name, key(size), row.config, device.name, addresses=True) for size in sizes]


def stamp(given: Claims, right: Collection[Job]) -> str | None:
    """Stamp the table if every row was proved and is still there, and return a line that says so, or why not."""
    unproved = [row for row, jobs in given.rows.items() if not jobs or not set(jobs) <= set(right)]
    if not given.rows or unproved:
        return None

    def proved(now: Table | None) -> Table | None:
        return replace(now, proof=given.proof) if now and set(now.rows) == set(given.rows) else None

    try:
        stamped = table.update(given.path, proved)
    except OSError as error:
        return f"{given.path}: all rows are proved, but the table cannot say so ({error.strerror})"
    return f"{given.path}: all {len(given.rows)} rows are proved under today's reference" if stamped else None


def _jobs(kernel: Kernel[Any], row: Row, device: Device, checks: tuple[Problem, ...]) -> tuple[Job, ...]:
    problem: Problem = build(kernel.problem, dict(row.problem), "row")
    wanted = problems_to_prove(kernel, (problem, row.config), device, checks, row.intervals)
    proofs = [Job(kernel.name, key(small), row.config, device.name) for small in wanted]
    return (*proofs, *address_jobs(kernel, row, device)) if proofs else ()
