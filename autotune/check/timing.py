"""What only the GPU can say: a row timed with both compilers, and whether another known config now wins.

Times of two compilers come from two processes and cannot be interleaved; so the baseline is timed before and after, and
the distance of the two is part of the noise.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autotune import device as devices
from autotune.check.builder import Builder
from autotune.check.call import Call
from autotune.check.compare import Finding, Report
from autotune.check.compilers import Toolchain
from autotune.check.repair import finalists, relatives
from autotune.check.triage import KINDS, Verdict
from autotune.check.worker_pool import Answer
from autotune.config import Config, describe
from autotune.device import Device
from autotune.errors import DeviceError

_LEAST = 0.02
"""Smaller differences are no news, however certain."""
_SIGMAS = 3.0


@dataclass(frozen=True)
class Times:
    """Samples in us of one row: the baseline before and after, the new compiler, and other configs with the new one."""

    before: tuple[Sequence[float], Sequence[float]]
    after: Sequence[float]
    others: Mapping[Config, Sequence[float]]


def present() -> Device | None:
    """The GPU of this machine, where there is one that a record describes."""
    try:
        return devices.current()
    except DeviceError:
        return None


def time_changed(report: Report, sides: tuple[Toolchain, Toolchain], builder: Builder) -> None:
    """Times the findings whose code changed, where this machine has the GPU of their rows, and puts what the GPU says
    in their place; `sides` are (baseline, against)."""
    gpu = present()
    places = [
        place
        for place, finding in enumerate(report.findings)
        if finding.subject.device == gpu and finding.worst.kind != "same"
        if not finding.after.failed and not finding.before.failed
    ]
    findings = [report.findings[place] for place in places]
    others = [_rivals(finding, report) for finding in findings]
    for place, finding in zip(places, measured(findings, others, sides, builder), strict=True):
        report.findings[place] = finding


def _rivals(finding: Finding, report: Report, most: int = 4) -> list[Call]:
    """The stored finalists, then configs of other rows of the table and the default."""
    same = [other.subject.call.config for other in report.findings if other.subject.table == finding.subject.table]
    return [*finalists(finding.subject), *relatives(finding.subject, same)][:most]


def measured(
    findings: Sequence[Finding], others: Sequence[Sequence[Call]], sides: tuple[Toolchain, Toolchain], builder: Builder
) -> list[Finding]:
    """The findings, with what the GPU says of them; `others` are the calls that may take each one's place."""
    baseline, against = sides
    calls = {_name(finding.subject.call): finding.subject.call for finding in findings}
    rivals = {_name(call): call for several in others for call in several}
    first = builder.times(baseline, calls)
    after = builder.times(against, calls | rivals)
    last = builder.times(baseline, calls)
    return [
        _judged(finding, _name(finding.subject.call), several, (first, after, last))
        for finding, several in zip(findings, others, strict=True)
    ]


def _judged(finding: Finding, name: str, several: Sequence[Call], answers: tuple[Mapping[str, Answer], ...]) -> Finding:
    first, after, last = (answer.get(name, {"failed": "not asked"}) for answer in answers)
    if "failed" in after:
        kind = "numerics" if after["failed"].startswith("WrongResult") else "unproved"
        found = Verdict(kind, "measure", "", after["failed"], "certain")
    elif "failed" in first or "failed" in last:
        found = Verdict("unproved", "measure", str(first.get("failed") or last.get("failed")), "", "possible")
    else:
        rivals = {call.config: answers[1][_name(call)].get("samples_us", ()) for call in several}
        sound = {config: samples for config, samples in rivals.items() if samples}
        found = timed(Times((first["samples_us"], last["samples_us"]), after["samples_us"], sound))
    verdicts = sorted([found, *finding.verdicts], key=lambda verdict: KINDS.index(verdict.kind))
    return replace(finding, verdicts=tuple(verdicts))


def timed(times: Times) -> Verdict:
    """`slower`, `swap` (another config beats the row with the new compiler), `faster`, or `alike` within the noise."""
    was = statistics.median([*times.before[0], *times.before[1]])
    now = statistics.median(times.after)
    drift = abs(statistics.median(times.before[0]) - statistics.median(times.before[1])) / was
    noise = max(_LEAST, drift + _SIGMAS * (_error(times.after) + _error(times.before[0])))
    texts = f"{was:.4g} us", f"{now:.4g} us"
    rivals = {config: statistics.median(samples) for config, samples in times.others.items()}
    best = min(rivals, key=lambda config: rivals[config], default=None)
    if best is not None and rivals[best] < now * (1 - noise):
        return Verdict("swap", "measure", *texts, "measured", f"{rivals[best]:.4g} us with {best}")
    if now > was * (1 + noise):
        return Verdict("slower", "measure", *texts, "measured", "still the best that is known")
    kind = "faster" if now < was * (1 - noise) else "alike"
    return Verdict(kind, "measure", *texts, "measured", f"noise {noise:.1%}")


def _error(samples: Sequence[float]) -> float:
    """Of the median, as a fraction: half the distance of the quartiles over the root of their number."""
    if len(samples) < 2:
        return 1.0
    low, middle, high = statistics.quantiles(samples, n=4)
    return float((high - low) / 2 / middle / len(samples) ** 0.5)


def _name(call: Call) -> str:
    # Grids differ between problems of one binary.
    return f"{describe(call.problem)} {call.signature}"
