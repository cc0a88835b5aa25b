"""Other configs for the rows that a release made worse: what the table knows already, before any search."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace

from autotune import table
from autotune.check.artifact import Build
from autotune.check.builder import Builder, check_calls
from autotune.check.call import Call
from autotune.check.compare import Finding
from autotune.check.compilers import Toolchain
from autotune.check.served_rows import Subject
from autotune.check.triage import Pair, triage
from autotune.config import Config, describe
from autotune.table import Row, Table
from autotune.tuning.cost_model.model import Prediction, predict

_FATAL = ("compile", "fit", "numerics", "refused", "record")
"""What no measurement can excuse: such a row gives way even to a modeled one."""


def repair(findings: Sequence[Finding], against: Toolchain, builder: Builder) -> tuple[list[Finding], list[Finding]]:
    """Rewrites the tables of regressed rows; (repaired, to be tuned again because no known config is sound).

    The row's stored finalists are tried first, best first; then the configs of the same table's other rows and the
    default, fastest in the model first. One is taken when it builds with `against`, regresses in nothing against the
    row's old build, and is proved.
    """
    regressed = [finding for finding in findings if finding.subject.row and finding.worst.is_regression]
    tables = {path: table.load(path) for path in {f.subject.table for f in regressed} if path}
    suspect = {(f.subject.table, f.subject.row.problem) for f in regressed if f.subject.row}
    known = {path: [r.config for r in one.rows if (path, r.problem) not in suspect] for path, one in tables.items()}
    left = [f for f in regressed if f.subject.row and (f.subject.row.tier != "measured" or f.worst.kind in _FATAL)]
    ordered = {path for path, one in tables.items() if one.deterministic}
    fixed: list[tuple[Finding, Row]] = []
    for options in (finalists, lambda subject: relatives(subject, known.get(subject.table, []))):
        # A deterministic row's order is proved with its whole family: it is tuned again.
        calls = [[] if f.subject.table in ordered else options(f.subject) for f in left]
        rows = _rows(left, calls, against, builder)
        fixed += [(finding, row) for finding, row in zip(left, rows, strict=True) if row]
        left = [finding for finding, row in zip(left, rows, strict=True) if row is None]
    for path, old in tables.items():
        new = [row for finding, row in fixed if finding.subject.table == path]
        if new:
            table.save(_with(old, new), path)
    return [finding for finding, _ in fixed], left


def finalists(subject: Subject) -> list[Call]:
    """What the search that made the row liked next best."""
    stored = subject.row.evidence.get("finalists") if subject.row else None
    dicts = [one for one in stored if isinstance(one, dict)] if isinstance(stored, list) else []
    scalar = [one for one in dicts if all(isinstance(value, int | str) for value in one.values())]
    return _others(subject, [Config(one) for one in scalar])


def relatives(subject: Subject, configs: Iterable[Config]) -> list[Call]:
    """`configs` of the same table, and the default."""
    return _others(subject, [*configs, subject.with_default.config])


def _others(subject: Subject, configs: Iterable[Config]) -> list[Call]:
    call, names = subject.call, subject.with_default.config.keys()
    return [
        Call(call.kernel, call.problem, config, call.device)
        for config in dict.fromkeys(configs)
        if config != call.config and config.keys() == names
        if call.kernel.reject(call.problem, config, call.device) is None
    ]


def _rows(
    broken: Sequence[Finding], options: Sequence[Sequence[Call]], against: Toolchain, builder: Builder
) -> list[Row | None]:
    """For each finding a row with the first of its options that is sound, if any is."""
    builds = builder.builds(against, [call for calls in options for call in calls])
    ranked = [_ranked(finding, calls, builds) for finding, calls in zip(broken, options, strict=True)]
    refuted = builder.refuted(against, [call for calls in ranked for call in calls])

    def row(finding: Finding, calls: Iterable[Call]) -> Row | None:
        sound = (call for call in calls if call.proved not in refuted)
        return next((_row(finding, call, builds[call.signature]) for call in sound), None)

    return [row(finding, calls) for finding, calls in zip(broken, ranked, strict=True)]


def _ranked(finding: Finding, calls: Iterable[Call], builds: dict[str, Build]) -> list[Call]:
    """Those that are no regression against the row's old build: finalists as stored, others as the model has them."""

    def is_sound(call: Call) -> bool:
        pair = Pair(finding.before, builds[call.signature], call.device, call.programs)
        return (
            not pair.after.failed
            and bool(check_calls(call))
            and not any(verdict.is_regression for verdict in triage(pair))
        )

    stored = [call.config for call in finalists(finding.subject)]
    sound = filter(is_sound, calls)
    return sorted(sound, key=lambda call: 0.0 if call.config in stored else _modeled(call, builds[call.signature]).us)


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
        "finalists": [dict(other.config) for other in finalists(finding.subject) if other.config != call.config],
    }
    old = finding.subject.row
    return Row(old.problem, call.config, "modeled", evidence, build.toolchain, build.resources.code, old.serves)


def _with(old: Table, rows: Iterable[Row]) -> Table:
    new = {row.problem: row for row in rows}
    return replace(old, rows=tuple(new.get(row.problem, row) for row in old.rows))
