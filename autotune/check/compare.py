"""A whole check: what is served goes in, findings come out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from autotune.check.artifact import Build
from autotune.check.builder import Builder
from autotune.check.call import Proved
from autotune.check.compilers import Toolchain, named
from autotune.check.served_rows import Subject
from autotune.check.triage import KINDS, Pair, Verdict, triage
from autotune.toolchain import PROVE, recorded_triton


@dataclass(frozen=True)
class Finding:
    """One subject with both builds and what is to be said of them, worst first."""

    subject: Subject
    before: Build
    after: Build
    verdicts: tuple[Verdict, ...]

    @property
    def worst(self) -> Verdict:
        return self.verdicts[0]


@dataclass
class Report:
    """`compiled` binaries were built by this run, `from_cache` by earlier ones."""

    baseline: str
    against: str
    findings: list[Finding] = field(default_factory=list)
    compiled: int = 0
    from_cache: int = 0
    proved: int = 0

    @property
    def regressions(self) -> list[Finding]:
        return [finding for finding in self.findings if finding.worst.is_regression]

    def counts(self) -> dict[str, int]:
        kinds = [finding.worst.kind for finding in self.findings]
        return {kind: kinds.count(kind) for kind in KINDS if kind in kinds}


def check(subjects: Sequence[Subject], baseline: Toolchain | None, against: Toolchain, builder: Builder) -> Report:
    """Compares what `baseline` and `against` make of the subjects; without a baseline, rows with their record.

    Raises UsageError where a toolchain does not work at all.
    """
    builds = builder.builds(against, [subject.call for subject in subjects])
    after = [builds[subject.call.signature] for subject in subjects]
    before = _before(subjects, baseline, after, builder)
    strange = [_breaks_record(*three) for three in zip(subjects, before, after, strict=True)]
    before = _defaults_before(subjects, strange, before, against, builder)
    doubtful = [
        odd or subject.is_stale or was.frontend != now.frontend
        for odd, subject, was, now in zip(strange, subjects, before, after, strict=True)
    ]
    pairs = [
        Pair(was, now, subject.call.device, subject.call.programs)
        for subject, was, now in zip(subjects, before, after, strict=True)
    ]
    pairs = builder.with_loops(pairs)
    report = Report(baseline.name if baseline else "the rows' own record", against.name)
    calls = [subject.call for subject, doubt in zip(subjects, doubtful, strict=True) if doubt]
    wrong = builder.refuted(against, calls) if against.can_interpret else None
    for subject, pair, odd, doubt in zip(subjects, pairs, strange, doubtful, strict=True):
        found = _verdicts(subject, pair, odd)
        if doubt and not pair.after.failed:
            found += _numerics(subject, wrong, against)
        ordered = sorted(found, key=lambda verdict: KINDS.index(verdict.kind))
        report.findings.append(Finding(subject, pair.before, pair.after, tuple(ordered)))
    report.compiled, report.from_cache, report.proved = builder.compiled, builder.from_cache, builder.proved
    return report


def _before(
    subjects: Sequence[Subject], baseline: Toolchain | None, after: Sequence[Build], builder: Builder
) -> list[Build]:
    """Builds of the baseline; without one, of the Triton that each row records, where that is another."""
    if baseline:
        builds = builder.builds(baseline, [subject.call for subject in subjects])
        return [builds[subject.call.signature] for subject in subjects]
    before = list(after)
    recorded: dict[str, list[int]] = {}
    for index, (subject, now) in enumerate(zip(subjects, after, strict=True)):
        version = recorded_triton(subject.row.toolchain) if subject.row else None
        if version and subject.row and subject.row.toolchain != now.toolchain and subject.row.code != _code(now):
            recorded.setdefault(version, []).append(index)
    for release, indices in recorded.items():
        toolchain = named(f"triton=={release}", builder.state)
        builds = builder.builds(toolchain, [subjects[index].call for index in indices])
        for index in indices:
            before[index] = builds[subjects[index].call.signature]
    return before


def _breaks_record(subject: Subject, before: Build, after: Build) -> bool:
    """Whether the row's own toolchain, on the row's own source, does not make the code that was proved."""
    if subject.row is None or subject.is_stale:
        return False
    return any(b.toolchain == subject.row.toolchain and _code(b) != subject.row.code for b in (before, after))


def _defaults_before(
    subjects: Sequence[Subject], strange: Sequence[bool], before: list[Build], against: Toolchain, builder: Builder
) -> list[Build]:
    """A row that is not what was proved has no past of its own: it has to hold against the default config."""
    calls = [subject.with_default for subject, odd in zip(subjects, strange, strict=True) if odd]
    builds = builder.builds(against, calls)
    return [
        builds[subject.with_default.signature] if odd else was
        for subject, odd, was in zip(subjects, strange, before, strict=True)
    ]


def _verdicts(subject: Subject, pair: Pair, strange: bool) -> list[Verdict]:
    before, after = pair.before, pair.after
    found = list(triage(pair))
    if after.failed and before.failed and subject.row:
        found = [Verdict(after.stage, after.stage, "", after.failed, "certain", "with both")]
    if strange and subject.row and not after.failed:
        found.append(Verdict("record", "machine code", subject.row.code, _code(after), "certain"))
    if subject.row and (refusal := subject.refusal):
        found.append(Verdict("refused", "rules", "", refusal, "certain"))
    if subject.is_stale:
        found.append(Verdict("stale", "source", subject.source, subject.kernel.identity.kernel, "certain"))
    return found


def _numerics(subject: Subject, wrong: dict[Proved, str] | None, against: Toolchain) -> list[Verdict]:
    if wrong is None:
        why = f"{against.name} is too old to {PROVE.name}: {PROVE.lacks}"
        return [Verdict("unproved", "numerics", "", "", "possible", why)]
    call = subject.call
    why = wrong.get(call.proved, "")
    if why.startswith("WrongResult"):
        return [Verdict("numerics", "numerics", "", why, "certain")]
    return [Verdict("unproved", "numerics", "", why, "possible")] if why else []


def _code(build: Build) -> str:
    return build.resources.code if build.resources else ""
