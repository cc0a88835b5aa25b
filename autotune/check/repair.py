"""Other configs for the rows that a release made worse: what the table knows already, before any search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from autotune import table
from autotune.check.build import Build
from autotune.check.builder import Builder, check_calls
from autotune.check.call import Call
from autotune.check.check import Finding
from autotune.check.subject import Subject
from autotune.check.toolchain import Toolchain
from autotune.check.triage import Pair, triage
from autotune.config import Config, describe
from autotune.table import Row, Table
from autotune.tuning.prediction.predict import Prediction, predict

_FATAL = ("compile", "fit", "numerics", "refused", "record")
"""What no measurement can excuse: such a row gives way even to a modeled one."""


def repair(findings: Sequence[Finding], against: Toolchain, builder: Builder) -> tuple[list[Finding], list[Finding]]:
    """Rewrites the tables of regressed rows; (repaired, to be tuned again because no known config is sound).

    Candidates are the row's stored finalists, then the configs of the same table, then the default. One is taken
    when it builds with `against`, regresses in nothing against the row's old build, and is proved; of several, the
    one that the model calls fastest.
    """
    broken = [finding for finding in findings if finding.subject.row and finding.worst.is_regression]
    broken = [f for f in broken if f.subject.row and (f.subject.row.tier != "measured" or f.worst.kind in _FATAL)]
    tables = {path: table.load(path) for path in {f.subject.table for f in broken} if path}
    regressed = {(f.subject.table, f.subject.row.problem) for f in findings if f.subject.row and f.worst.is_regression}
    options = [
        alternatives(finding.subject, [row for row in tables[path].rows if (path, row.problem) not in regressed])
        for finding in broken
        if (path := finding.subject.table)
    ]
    builds = builder.builds(against, [call for calls in options for call in calls])
    ranked = [_ranked(finding, calls, builds) for finding, calls in zip(broken, options, strict=True)]
    refuted = builder.refuted(against, [call for calls in ranked for call in calls])
    repaired: dict[Path, list[Row]] = {}
    left = []
    for finding, calls in zip(broken, ranked, strict=True):
        sound = [c for c in calls if (c.kernel.name, c.device.name, c.config) not in refuted]
        # A deterministic row's order is proved with its whole family: it is tuned again.
        if sound and finding.subject.table and not tables[finding.subject.table].deterministic:
            repaired.setdefault(finding.subject.table, []).append(_row(finding, sound[0], builds[sound[0].signature]))
        else:
            left.append(finding)
    for path, rows in repaired.items():
        table.save(_with(tables[path], rows), path)
    return [finding for finding in broken if finding not in left], left


def alternatives(subject: Subject, rows: Iterable[Row]) -> list[Call]:
    """Other configs that may serve the subject: its row's finalists, those of `rows`, the default."""
    finalists = subject.row.evidence.get("finalists", []) if subject.row else []
    default = subject.with_default.config
    known = [Config(one) for one in finalists if isinstance(one, dict)] + [row.config for row in rows] + [default]
    call = subject.call
    return [
        Call(call.kernel, call.problem, config, call.device)
        for config in dict.fromkeys(known)
        if config != call.config and config.keys() == default.keys()
        if call.kernel.reject(call.problem, config, call.device) is None
    ]


def _ranked(finding: Finding, calls: Iterable[Call], builds: dict[str, Build]) -> list[Call]:
    """Those that are no regression against the row's old build, fastest in the model first."""

    def is_sound(call: Call) -> bool:
        pair = Pair(finding.before, builds[call.signature], call.device, call.programs)
        return (
            not pair.after.failed
            and bool(check_calls(call))
            and not any(verdict.is_regression for verdict in triage(pair))
        )

    return sorted(filter(is_sound, calls), key=lambda call: _modeled(call, builds[call.signature]).us)


def _modeled(call: Call, build: Build) -> Prediction:
    work = call.kernel.work(call.problem, call.config, call.device)
    return predict(work, call.config, call.device, build.resources)


def _row(finding: Finding, call: Call, build: Build) -> Row:
    assert finding.subject.row and build.resources
    evidence = {
        "modeled_us_range": [round(us, 2) for us in _modeled(call, build).range_us],
        "proved_on": [describe(one.problem) for one in check_calls(call)],
        "repaired": str(finding.worst),
        "replaces": dict(finding.subject.call.config),
    }
    old = finding.subject.row
    return Row(old.problem, call.config, "modeled", evidence, build.toolchain, build.resources.code, old.serves)


def _with(old: Table, rows: Iterable[Row]) -> Table:
    new = {row.problem: row for row in rows}
    return replace(old, rows=tuple(new.get(row.problem, row) for row in old.rows))
