"""A whole check: served configs in, one comparison of two toolchains out for each."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autotune.check import plan_triage
from autotune.check.artifact import Build
from autotune.check.builder import Builder
from autotune.check.call import Proved
from autotune.check.compilers import Toolchain, named
from autotune.check.served_rows import ServedConfig
from autotune.check.triage import KINDS, Pair, Verdict, triage
from autotune.toolchain import PROVE, recorded_triton
from autotune.tuning.compilation.npu.findings import EVIDENCE


@dataclass(frozen=True)
class Comparison:
    """One served with both builds and what is to be said of them, worst first."""

    served: ServedConfig
    before: Build
    after: Build
    verdicts: tuple[Verdict, ...]

    @property
    def worst(self) -> Verdict:
        return self.verdicts[0]


@dataclass
class Report:
    """`compiled` binaries were built by this run, `from_cache` by earlier ones; `on_gpu` calls ran on a GPU."""

    baseline: str
    against: str
    comparisons: list[Comparison] = field(default_factory=list)
    compiled: int = 0
    from_cache: int = 0
    proved: int = 0
    on_gpu: int = 0

    @property
    def regressions(self) -> list[Comparison]:
        return [comparison for comparison in self.comparisons if comparison.worst.is_regression]

    @property
    def numerics(self) -> str:
        """Which part of a compiler the check of results covers."""
        if any(comparison.after.plans for comparison in self.comparisons):
            return f"none of those on NPUs: {EVIDENCE}"
        if self.on_gpu:
            return f"of sources in the interpreter, and of machine code by {self.on_gpu} calls on this GPU"
        return "of sources in the interpreter, where the front end's output changed; of machine code on a GPU only"

    def counts(self) -> dict[str, int]:
        kinds = [comparison.worst.kind for comparison in self.comparisons]
        return {kind: kinds.count(kind) for kind in KINDS if kind in kinds}


def check(
    served_configs: Sequence[ServedConfig], baseline: Toolchain | None, against: Toolchain, builder: Builder
) -> Report:
    """Compares what `baseline` and `against` make of the served_configs; without a baseline, rows with their record.

    Raises UsageError where a toolchain does not work at all.
    """
    builds = builder.builds(against, [served.call for served in served_configs])
    after = [builds[served.call.signature] for served in served_configs]
    before = _before(served_configs, baseline, after, builder)
    strange = [_breaks_record(*three) for three in zip(served_configs, before, after, strict=True)]
    before = _defaults_before(served_configs, strange, before, against, builder)
    doubtful = [
        odd or served.is_stale or was.frontend != now.frontend
        for odd, served, was, now in zip(strange, served_configs, before, after, strict=True)
    ]
    pairs = [
        Pair(was, now, served.call.device, served.call.programs)
        for served, was, now in zip(served_configs, before, after, strict=True)
    ]
    pairs = builder.with_loops(pairs)
    report = Report(baseline.name if baseline else "the rows' own record", against.name)
    calls = [served.call for served, doubt in zip(served_configs, doubtful, strict=True) if doubt]
    wrong = builder.refuted(against, calls) if against.can_interpret else None
    for served, pair, odd, doubt in zip(served_configs, pairs, strange, doubtful, strict=True):
        found = _verdicts(served, pair, odd)
        if doubt and not pair.after.failed:
            found += _numerics(served, wrong, against)
        ordered = sorted(found, key=lambda verdict: KINDS.index(verdict.kind))
        report.comparisons.append(Comparison(served, pair.before, pair.after, tuple(ordered)))
    report.compiled, report.from_cache, report.proved = builder.compiled, builder.from_cache, builder.proved
    return report


def _before(
    served_configs: Sequence[ServedConfig], baseline: Toolchain | None, after: Sequence[Build], builder: Builder
) -> list[Build]:
    """Builds of the baseline; without one, of the Triton that each row records, where that is another."""
    if baseline:
        builds = builder.builds(baseline, [served.call for served in served_configs])
        return [builds[served.call.signature] for served in served_configs]
    before = list(after)
    recorded: dict[str, list[int]] = {}
    for index, (served, now) in enumerate(zip(served_configs, after, strict=True)):
        version = recorded_triton(served.row.toolchain) if served.row else None
        if version and served.row and served.row.toolchain != now.toolchain and served.row.code != _code(now):
            recorded.setdefault(version, []).append(index)
    for release, indices in recorded.items():
        toolchain = named(f"triton=={release}", builder.state)
        builds = builder.builds(toolchain, [served_configs[index].call for index in indices])
        for index in indices:
            before[index] = builds[served_configs[index].call.signature]
    return before


def _breaks_record(served: ServedConfig, before: Build, after: Build) -> bool:
    """True if the row's own toolchain no longer makes the machine code that was proved, from the same source."""
    if served.row is None or served.is_stale:
        return False
    return any(b.toolchain == served.row.toolchain and _code(b) != served.row.code for b in (before, after))


def _defaults_before(
    served_configs: Sequence[ServedConfig],
    strange: Sequence[bool],
    before: list[Build],
    against: Toolchain,
    builder: Builder,
) -> list[Build]:
    """A row that is not what was proved has no past of its own: it has to hold against the default config."""
    calls = [served.with_default for served, odd in zip(served_configs, strange, strict=True) if odd]
    builds = builder.builds(against, calls)
    return [
        builds[served.with_default.signature] if odd else was
        for served, odd, was in zip(served_configs, strange, before, strict=True)
    ]


def _verdicts(served: ServedConfig, pair: Pair, strange: bool) -> list[Verdict]:
    before, after = pair.before, pair.after
    found = list(plan_triage.triage_plans(pair) if after.plans else triage(pair))
    if after.failed and before.failed and served.row:
        found = [Verdict(after.stage, after.stage, "", after.failed, "certain", "with both")]
    if strange and served.row and not after.failed:
        found.append(Verdict("record", "machine code", served.row.code, _code(after), "certain"))
    if served.row and (refusal := served.refusal):
        found.append(Verdict("refused", "rules", "", refusal, "certain"))
    if served.is_stale:
        found.append(Verdict("stale", "source", served.source, served.kernel.identity.kernel, "certain"))
    return found


def _numerics(served: ServedConfig, wrong: dict[Proved, str] | None, against: Toolchain) -> list[Verdict]:
    if wrong is None:
        why = f"{against.name} is too old to {PROVE.name}: {PROVE.lacks}"
        return [Verdict("unproved", "numerics", "", "", "possible", why)]
    call = served.call
    why = wrong.get(call.proved, "")
    if why.startswith("WrongResult"):
        return [Verdict("numerics", "numerics", "", why, "certain")]
    return [Verdict("unproved", "numerics", "", why, "possible")] if why else []


def _code(build: Build) -> str:
    return build.resources.code if build.resources else ""
