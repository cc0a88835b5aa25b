"""Other configs for the rows that a release made worse: what the table knows already, before any search."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial

from autotune import table
from autotune.check.artifact import Build
from autotune.check.builder import Builder, check_calls
from autotune.check.call import CheckedCall
from autotune.check.compare import Comparison
from autotune.check.compilers import Toolchain
from autotune.check.served_rows import ServedConfig
from autotune.check.triage import Pair, triage
from autotune.config import Config, describe
from autotune.table import Row, Table
from autotune.tuning.cost_model.model import Prediction, predict
from autotune.tuning.counted_work import work_of

_FATAL = ("compile", "fit", "numerics", "refused", "record")
"""Regressions that no measurement excuses: such a row gives way even to a modeled one."""


def repair(
    comparisons: Sequence[Comparison], against: Toolchain, builder: Builder
) -> tuple[list[Comparison], list[Comparison]]:
    """Rewrites the tables of regressed rows; (repaired, to be tuned again because no known config is sound).

    The row's stored finalists are tried first, best first; then the configs of the same table's other rows and the
    default, fastest in the model first. One is taken when it builds with `against`, regresses in nothing against the
    row's old build, and is proved.
    """
    regressed = [comparison for comparison in comparisons if comparison.served.row and comparison.worst.is_regression]
    tables = {path: table.load(path) for path in {f.served.table for f in regressed} if path}
    suspect = {(f.served.table, f.served.row.problem) for f in regressed if f.served.row}
    known = {path: [r.config for r in table.rows if (path, r.problem) not in suspect] for path, table in tables.items()}
    left = [f for f in regressed if f.served.row and (f.served.row.tier != "measured" or f.worst.kind in _FATAL)]
    ordered = {path for path, table in tables.items() if table.deterministic}
    fixed: list[tuple[Comparison, Row]] = []
    for options in (finalists, lambda served: relatives(served, known.get(served.table, []))):
        # A deterministic row's order is proved with its whole family: it is tuned again.
        calls = [[] if f.served.table in ordered else options(f.served) for f in left]
        rows = _rows(left, calls, against, builder)
        fixed += [(comparison, row) for comparison, row in zip(left, rows, strict=True) if row]
        left = [comparison for comparison, row in zip(left, rows, strict=True) if row is None]
    for path in tables:
        new = {comparison.served.row: row for comparison, row in fixed if comparison.served.table == path}
        if new:
            table.update(path, partial(_with, new))
    return [comparison for comparison, _ in fixed], left


def finalists(served: ServedConfig) -> list[CheckedCall]:
    """Return the next best configs of the search that made the row."""
    stored = served.row.evidence.get("finalists") if served.row else None
    dicts = [entry for entry in stored if isinstance(entry, dict)] if isinstance(stored, list) else []
    scalar = [entry for entry in dicts if all(isinstance(value, int | str) for value in entry.values())]
    return _others(served, [Config(entry) for entry in scalar])


def relatives(served: ServedConfig, configs: Iterable[Config]) -> list[CheckedCall]:
    """`configs` of the same table, and the default."""
    return _others(served, [*configs, served.with_default.config])


def _others(served: ServedConfig, configs: Iterable[Config]) -> list[CheckedCall]:
    call, names = served.call, served.with_default.config.keys()
    return [
        CheckedCall(call.kernel, call.problem, config, call.device)
        for config in dict.fromkeys(configs)
        if config != call.config and config.keys() == names
        if call.kernel.reject(call.problem, config, call.device) is None
    ]


def _rows(
    broken: Sequence[Comparison], options: Sequence[Sequence[CheckedCall]], against: Toolchain, builder: Builder
) -> list[Row | None]:
    """For each comparison a row with the first of its options that is sound, if any is."""
    builds = builder.builds(against, [call for calls in options for call in calls])
    ranked = [_ranked(comparison, calls, builds) for comparison, calls in zip(broken, options, strict=True)]
    refuted = builder.refuted(against, [call for calls in ranked for call in calls])

    def row(comparison: Comparison, calls: Iterable[CheckedCall]) -> Row | None:
        sound = (call for call in calls if call.proved not in refuted)
        return next((_row(comparison, call, builds[call.signature]) for call in sound), None)

    return [row(comparison, calls) for comparison, calls in zip(broken, ranked, strict=True)]


def _ranked(comparison: Comparison, calls: Iterable[CheckedCall], builds: dict[str, Build]) -> list[CheckedCall]:
    """Those that are no regression against the row's old build: finalists as stored, others as the model has them."""

    def is_sound(call: CheckedCall) -> bool:
        pair = Pair(comparison.before, builds[call.signature], call.device, call.programs)
        return (
            not pair.after.failed
            and bool(check_calls(call))
            and not any(verdict.is_regression for verdict in triage(pair))
        )

    stored = [call.config for call in finalists(comparison.served)]
    sound = filter(is_sound, calls)
    return sorted(sound, key=lambda call: 0.0 if call.config in stored else _modeled(call, builds[call.signature]).us)


def _modeled(call: CheckedCall, build: Build) -> Prediction:
    work = work_of(call.kernel, call.problem, call.config, call.device)
    return predict(work, call.config, call.device, build.resources)


def _row(comparison: Comparison, call: CheckedCall, build: Build) -> Row:
    assert comparison.served.row and build.resources
    evidence = {
        "modeled_us_range": [round(us, 2) for us in _modeled(call, build).range_us],
        "proved_on": [describe(checked.problem) for checked in check_calls(call)],
        "repaired": str(comparison.worst),
        "replaces": dict(comparison.served.call.config),
        "finalists": [dict(other.config) for other in finalists(comparison.served) if other.config != call.config],
        **build.resources.evidence,
    }
    old = comparison.served.row
    return Row(old.problem, call.config, "modeled", evidence, build.toolchain, build.resources.code, old.serves)


def _with(new: Mapping[Row | None, Row], now: Table | None) -> Table | None:
    """`now` with new rows in place of the regressed ones; a row that somebody else has replaced meanwhile stays."""
    return now and replace(now, rows=tuple(new.get(row, row) for row in now.rows))
