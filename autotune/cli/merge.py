"""`autotune merge`: one table, or one folder of them, of those of several machines or ranks."""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from autotune import table
from autotune.check.merge import Merged, Source, describe_flaws, merge
from autotune.cli.import_ import show
from autotune.cli.output import Commands, command
from autotune.config import describe_key
from autotune.errors import TableError, UsageError
from autotune.interchange.entries import LeftOut
from autotune.table import Table


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "merge",
        "joins tables of one kernel and device, or folders of tables: of each problem the row of the better tier, "
        "then the one with better evidence, then the later one; refuses tables that contradict",
        "  autotune merge machine1/ machine2/ -o tuned_configs/\n"
        "  autotune merge rank0/fp8_block_scaled.json rank1/fp8_block_scaled.json -o fp8_block_scaled.json",
    )
    parser.add_argument("paths", nargs="+", type=Path, metavar="PATH", help="tables, or folders of tables")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="PATH", help="a table there joins first")
    parser.add_argument("--dry-run", action="store_true", help="only say what would be chosen, and why")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    groups = _groups(arguments.paths, arguments.output)
    plans = {path: _merged(path, sources) for path, sources in groups.items()}
    if not arguments.dry_run:
        plans = {path: _write(path, groups[path]) for path in plans}
    left = [LeftOut(*flaw) for merged in plans.values() for flaw in describe_flaws(merged.flaws)]
    done = [_row(path, merged) for path, merged in plans.items()]
    if arguments.json:
        done = [{**row, "decisions": _decisions(merged)} for row, merged in zip(done, plans.values(), strict=True)]
    else:
        for merged in plans.values():
            for decision in _decisions(merged):
                print(f"{merged.table.kernel} {decision['problem']}: {decision['taken']} ({decision['reason']})")
    show(done, left, arguments.json, "dry run" if arguments.dry_run else "merged")
    return 0


def _groups(paths: Sequence[Path], output: Path) -> dict[Path, list[Source]]:
    """The tables to join, by the file that they become. Raises UsageError and TableError."""
    for path in paths:
        if not path.exists():
            raise UsageError(f"{path}: no such file or folder")
    folders = [path.is_dir() for path in paths]
    if all(folders):
        groups: dict[Path, list[Source]] = {}
        for root in paths:
            for path in sorted(root.glob("*/*/*/*.json")):
                groups.setdefault(output / path.relative_to(root), []).append(Source(str(path), table.load(path)))
        if not groups:
            raise UsageError(f"{' and '.join(map(str, paths))}: no table ARCH/DEVICE/FAMILY/KERNEL.json is there")
        return groups
    if any(folders):
        raise UsageError("name tables alone, or folders of tables alone")
    if output.is_dir():
        raise UsageError(f"{output}: is a folder; tables are joined into one table, folders into a folder")
    return {output: [Source(str(path), table.load(path)) for path in paths]}


def _merged(path: Path, sources: Sequence[Source]) -> Merged:
    return merge(list(_sources(path, table.load(path) if path.exists() else None, sources)))


def _write(path: Path, sources: Sequence[Source]) -> Merged:
    """Join `sources` with what lies at `path` under its lock."""
    results: list[Merged] = []

    def join(now: Table | None) -> Table:
        results[:] = [merge(list(_sources(path, now, sources)))]
        return results[0].table

    try:
        table.update(path, join)
    except OSError as error:
        raise TableError(f"{path}: cannot be written ({error.strerror}); name another place by -o") from error
    return results[0]


def _sources(path: Path, now: Table | None, sources: Sequence[Source]) -> Iterator[Source]:
    """The table at `path` first, as it is now, then the others."""
    if now is not None:
        yield Source(str(path), now)
    yield from (source for source in sources if now is None or Path(source.place).resolve() != path.resolve())


def _row(path: Path, merged: Merged) -> dict[str, Any]:
    places = ", ".join(f"{count} of {place}" for place, count in merged.places.items())
    return {"what": str(path), "rows": len(merged.table.rows), "reason": places}


def _decisions(merged: Merged) -> list[dict[str, str]]:
    return [
        {"problem": describe_key(decision.problem), "taken": decision.place, "reason": decision.reason}
        for decision in merged.decisions
    ]
