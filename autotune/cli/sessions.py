"""Sessions of one command: their progress while they run, and a table of what they did."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from autotune import runtime, table
from autotune.cli.output import show_rows
from autotune.cli.progress import progress_bar
from autotune.cli.session_report import write_report
from autotune.config import Problem
from autotune.device import Device
from autotune.errors import AutotuneError, told

if TYPE_CHECKING:
    from autotune.kernel import Kernel
    from autotune.tuning.session.baseline import LibraryComparison
    from autotune.tuning.session.plan import Plan
    from autotune.tuning.session.progress import Status, Summary

_T = TypeVar("_T")


@dataclass(frozen=True)
class Asked:
    """One session of the command."""

    kernel: Kernel[Any]
    device: Device
    plan: Plan
    problems: Mapping[Problem, int]

    @property
    def name(self) -> str:
        return f"{self.kernel.name} on {self.device.name}"

    def check_table(self) -> Path:
        """Raises MachineError where the table could not be written."""
        path = table.path_of(self.plan.tables, self.device.arch, self.plan.filed_under(self.device), self.kernel.name)
        from autotune.tuning.session.tables import check_writable

        check_writable(path)
        return path

    def run(self, arguments: argparse.Namespace) -> Summary:
        from autotune.tuning.session.session import Session

        with progress_bar(arguments) as bar:

            def update(status: Status) -> None:
                bar(f"{self.name}: {status.stage}", status.done, status.of, _describe(status))

            # The clock of --minutes starts with each session.
            fresh = replace(self.plan, budget=replace(self.plan.budget, started=time.monotonic()))
            return Session(self.kernel, self.device, fresh, update).run(self.problems)


def run_all(asked: Sequence[Asked], arguments: argparse.Namespace) -> int:
    """Run and show them; the exit code. A session that fails is told at once, the others run on."""
    # All tables are tried before the first session: hours of tuning should not pass before one is found read-only.
    ready = [session for session in asked if _ended_well(session.name, session.check_table)]
    ended = [
        (session, summary)
        for session in ready
        if (summary := _ended_well(session.name, partial(session.run, arguments)))
    ]
    done = [summary for _, summary in ended]
    if arguments.report and done:
        write_report(arguments.report, ended)
    if asked and not done:
        return 2
    if arguments.json:
        show_rows([_row(summary) | _details(summary) for summary in done], as_json=True)
    else:
        for summary in done:
            _show(summary, _ALL if arguments.verbose else _SHOWN)
    return 2 if len(done) < len(asked) else 0 if done else 1


def _ended_well(name: str, step: Callable[[], _T]) -> _T | None:
    """Return the result of `step`, or None if it failed, which is reported at once."""
    try:
        return step()
    except (AutotuneError, OSError) as error:
        print(told(error, f"{name}: "), file=sys.stderr, flush=True)
        return None


def _describe(status: Status) -> str:
    failed = ", ".join(f"{count} {name}" for name, count in status.failed.items())
    parts = [f"best {status.speedup:.2f}x"] if status.stage == "search" else []
    return ", ".join([*parts, f"failed: {failed}"] if failed else parts)


def _show(summary: Summary, reasons: int) -> None:
    """Print the session's result, what it tried, its times, and the first `reasons` reasons of failures."""
    how = summary.tier if summary.tier == "measured" else f"{summary.tier}, not measured"
    name = f"{summary.kernel} on {summary.device}"
    if summary.up_to_date and not summary.problems:
        print(f"{name}: up to date, {_count(summary.up_to_date)} of the same search ({how})")
        print(f"  table     {summary.table}; --again searches again")
        return
    written = f"{_count(summary.rows)} of {summary.problems} written"
    print(f"{name}: {written}")
    print(f"  gain      {summary.speedup:.2f}x as fast as the default ({how})")
    print(f"  table     {summary.table}")
    root = summary.table.parents[3]
    if summary.tier != "simulated" and root.resolve() != runtime.tables_root().resolve():
        print(f"  serve it  AUTOTUNE_TABLES={root}")
    binaries = f"{summary.compiled} compiled, {summary.from_cache} from cache, {len(summary.codes)} differ"
    told = "" if summary.mode == "search" else f" ({_told(summary)})"
    print(f"  tried     {summary.trials} of {summary.feasible} feasible configs{told}; binaries: {binaries}")
    if summary.up_to_date:
        print(f"  kept      {_count(summary.up_to_date)} up to date; --again searches again")
    if changed := ", ".join(f"{name} ({count})" for name, count in summary.changed.items() if name != "no row"):
        print(f"  since     rows were found with another: {changed}")
    print(f"  proved    {summary.validated} config{'' if summary.validated == 1 else 's'} against the reference")
    if summary.over_best is not None:
        few = f"{summary.configs} config{'' if summary.configs == 1 else 's'} for {_count(summary.rows)}"
        print(f"  portfolio {few}, {summary.over_best:.4f} times as slow as the best")
    if summary.price is not None:
        print(f"  price     {summary.price:.4f} of the speed of the free choice, for one order of reduction")
    stages = ", ".join(f"{stage} {seconds:.1f} s" for stage, seconds in summary.seconds.items() if seconds >= 0.05)
    gpu = f"; GPU {summary.gpu_s:.1f} s" if summary.tier != "modeled" else ""
    print(f"  took      {stages}; compilers {summary.compile_cpu_s:.1f} CPU s{gpu}")
    _show_failures(summary, reasons)
    if summary.compared:
        rows_us = [_compared(comparison) for comparison in summary.compared]
        show_rows(rows_us, as_json=False, title=f"us of each row, {how}; roofline: the bound")


def _count(rows: int) -> str:
    return f"{rows} row{'' if rows == 1 else 's'}"


def _show_failures(summary: Summary, most: int) -> None:
    from autotune.tuning.session.progress import grouped

    reasons = grouped(summary.reasons)
    for reason in reasons[:most]:
        print(f"  failed    {reason.count}x: {reason.kind}: {reason.words}")
    if len(reasons) > most:
        print(f"  failed    {len(reasons) - most} other reasons: see -v or --json")


def _compared(comparison: LibraryComparison) -> dict[str, Any]:
    return {
        "problem": comparison.problem,
        "default": _us(comparison.default_us),
        "tuned": _us(comparison.tuned_us),
        "library": _us(comparison.library_us),
        "roofline": _us(comparison.roofline_us),
        "library / tuned": comparison.speedup,
        "which library": comparison.library,
    }


def _us(us: float | None) -> str:
    return "" if us is None else f"{us:.2f}"


def _row(summary: Summary) -> dict[str, Any]:
    return {
        "kernel": summary.kernel,
        "device": summary.device,
        "problems": summary.problems,
        "considered": summary.considered,
        "rejected": summary.rejected,
        "tried": summary.trials,
        "compiled": summary.compiled,
        "from cache": summary.from_cache,
        "failed": dict(summary.failed),
        "distinct codes": len(summary.codes),
        "validated": summary.validated,
        "rows": summary.rows,
        **({"up to date": summary.up_to_date} if summary.up_to_date else {}),
        "default / best": round(summary.speedup, 3),
        "configs": summary.configs,
        **({"over best": round(summary.over_best, 4)} if summary.over_best is not None else {}),
        **({"price": round(summary.price, 4)} if summary.price is not None else {}),
        **({"search": _told(summary)} if summary.mode != "search" else {}),
        "tier": summary.tier,
    }


def _told(summary: Summary) -> str:
    """`exhaustive: all 76`, or how far it came where time was out."""
    tried = (
        f"all {summary.feasible}" if summary.trials >= summary.feasible else f"{summary.trials} of {summary.feasible}"
    )
    return f"{summary.mode}: {tried}"


_SHOWN, _ALL = 8, sys.maxsize
"""Reasons of failures that a session prints, and with --verbose; --json has all."""


def _details(summary: Summary) -> dict[str, Any]:
    """Details that a table cell cannot hold."""
    from autotune.tuning.session.progress import grouped

    return {
        "reasons": [asdict(reason) for reason in grouped(summary.reasons)],
        "seconds": {stage: round(seconds, 3) for stage, seconds in summary.seconds.items()},
        "compile CPU seconds": round(summary.compile_cpu_s, 3),
        "GPU seconds": round(summary.gpu_s, 3),
        "changed": dict(summary.changed),
        "table": str(summary.table),
        "compared": [asdict(comparison) for comparison in summary.compared],
    }
