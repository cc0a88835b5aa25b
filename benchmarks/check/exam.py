"""The release check sits an exam: does it find, without a GPU, what others measured on theirs?

    python -m benchmarks.check.exam                              # all cases; fetches four releases of Triton once
    python -m benchmarks.check.exam layer --write docs/release_exam.md

Each case is a public report, rebuilt as a kernel of our own (benchmarks/check/cases.py), and the check compares what
the two releases make of it. Prints one page. Exit code 1 where a control is flagged, a case cannot be built, or fewer
than eight in ten regressions are found.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date
from itertools import groupby
from pathlib import Path

from autotune import device as devices
from autotune.check import compilers
from autotune.check.artifact import Build
from autotune.check.builder import Builder
from autotune.check.call import CheckedCall
from autotune.check.compare import Comparison, check
from autotune.check.served_rows import ServedConfig
from autotune.check.triage import scratch_bytes
from autotune.config import Config
from autotune.state import state_root
from autotune.tuning.workers.worker import Limits
from benchmarks.check.cases import CASES, UNREACHABLE, Case

_ENOUGH = 0.8


@dataclass(frozen=True)
class Result:
    case: Case
    comparison: Comparison

    @property
    def mark(self) -> str:
        if self.comparison.before.failed:
            return "not built"
        flagged = self.comparison.worst.is_regression
        if self.case.regresses:
            return "found" if flagged else "missed"
        return "false alarm" if flagged else "quiet"

    @property
    def says(self) -> str:
        return str(self.comparison.worst)

    @property
    def seen(self) -> str:
        """Figures of the two binaries that differ."""
        before, after = (_figures(build) for build in (self.comparison.before, self.comparison.after))
        if not after:
            return "the new binary does not fit"
        changes = [f"{before[name]} -> {after[name]} {name}" for name in before if before[name] != after[name]]
        return ", ".join(changes) or "none of the figures differs"


def served(case: Case) -> ServedConfig:
    """The call of a case, with its config. Raises DeviceError for an unknown device."""
    kernel = getattr(importlib.import_module(f"benchmarks.check.regressions.{case.kernel}"), case.kernel)
    device, problem = devices.named(case.device), kernel.problem(**case.sizes)
    config = Config({**kernel.default(problem, device), **case.changes})
    return ServedConfig(CheckedCall(kernel, problem, config, device))


def sit(cases: Iterable[Case], builder: Builder) -> list[Result]:
    """Results in the order of the cases; every pair of releases is compared in one check. Raises UsageError."""
    results = {}
    for (before, after), group in groupby(sorted(cases, key=_releases), _releases):
        asked = list(group)
        old, new = (compilers.named(f"triton=={version}", builder.state) for version in (before, after))
        report = check([served(case) for case in asked], old, new, builder)
        for case, comparison in zip(asked, report.comparisons, strict=True):
            results[case.name, case.before, case.after] = Result(case, comparison)
    return [results[case.name, case.before, case.after] for case in cases]


def _releases(case: Case) -> tuple[str, str]:
    return case.before, case.after


def _figures(build: Build) -> dict[str, int]:
    """Counts by what they count; those of the hot loop are 0 where nothing asked for a disassembly."""
    made = build.resources
    if made is None:
        return {}
    return {
        "registers": made.registers,
        "B of scratch a thread": scratch_bytes(made),
        "B of shared memory": made.shared_bytes,
        "programs a unit": made.programs_per_unit,
        "matrix instructions": sum(count for _, count in made.matrix_instructions),
        "instructions in the hot loop": len(build.loop or ()),
        "spills there": build.loop_mix.get("spill", 0),
    }


def _score(results: Sequence[Result]) -> str:
    marks = [result.mark for result in results]
    found, missed, quiet, alarms = (marks.count(mark) for mark in ("found", "missed", "quiet", "false alarm"))
    return f"{found} of {found + missed} regressions found, {alarms} of {quiet + alarms} controls flagged"


def page(results: Sequence[Result], day: date) -> str:
    """Markdown: the score, a table of the cases, and one of the reports out of reach."""
    lines = [
        "# Exam of the release check",
        "",
        "Public reports of Triton releases that made a kernel slower, rebuilt as small kernels of our own from their",
        "words, and what [`autotune check`](guides/check_release.md) says of them from the compilers alone. No GPU was",
        "used, and nobody has measured our kernels: the times are those of the reports.",
        "",
        f"**{_score(results)}.** Releases from PyPI, {day.isoformat()}, by",
        "`python -m benchmarks.check.exam --write docs/release_exam.md`.",
        "",
        "| case | report | Triton, GPU | reported | expected | result |",
        "|---|---|---|---|---|---|",
        *(_row(result) for result in results),
        "",
        "What the check says, and what the two binaries hold:",
        "",
        "| case | the check says | in the machine code |",
        "|---|---|---|",
        *(f"| {r.case.name}, {r.case.after} | {_plain(r.says)} | {r.seen} |" for r in results),
        "",
        "Tile, warps, masks and cache size of a case follow its report as far as its words go; some were brought",
        "nearer to it after a first try. No rule of the check was changed. A *missed* report is one where the check",
        "raises no alarm on our kernel: its own kernel may differ in what matters, or its compiler from",
        "the one on PyPI.",
        "",
        "## Out of reach",
        "",
        "| report | reported | why |",
        "|---|---|---|",
        *(f"| {_link(one.thread)} | {one.reported} | {one.reason} |" for one in UNREACHABLE),
        "",
    ]
    return "\n".join(lines)


def _row(result: Result) -> str:
    case = result.case
    expected = "regression" if case.regresses else "no alarm"
    where = f"{case.before} -> {case.after}, {case.device}"
    return f"| {case.name} | {_link(case.thread)} | {where} | {case.reported} | {expected} | **{result.mark}** |"


def _link(thread: str) -> str:
    repository, number = thread.split("#")
    return f"[{repository.split('/')[1]}#{number}](https://github.com/{repository}/issues/{number})"


def _plain(text: str) -> str:
    """A cell of a table: on one line, with no bar of its own."""
    return " ".join(text.split()).replace("|", "/")


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("words", nargs="*", metavar="WORD", help="only cases whose name or kernel holds one of these")
    parser.add_argument("--jobs", type=int, default=Limits.processes, help="processes (default: all cores)")
    parser.add_argument("--write", type=Path, metavar="FILE", help="put the page there too")
    given = parser.parse_args(words)
    cases = [c for c in CASES if not given.words or any(w in f"{c.name} {c.kernel}" for w in given.words)]

    def tell(stage: str, done: int, total: int) -> None:
        print(f"{stage}: {done} of {total}", file=sys.stderr)

    results = sit(cases, Builder(state_root(), Limits(processes=given.jobs, timeout_s=600), tell))
    text = page(results, date.today())
    print(text)
    if given.write:
        given.write.write_text(text, encoding="utf-8")
    marks = [result.mark for result in results]
    missed, found = marks.count("missed"), marks.count("found")
    return 0 if not {"false alarm", "not built"} & set(marks) and found >= _ENOUGH * (found + missed) else 1


if __name__ == "__main__":
    sys.exit(main())
