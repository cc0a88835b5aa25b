"""Verdicts of this machine's GPU on rows whose machine code changed: right or wrong, faster or slower.

Times of two compilers come from two processes and cannot be interleaved, so the baseline is timed before and after, and
the difference of the two is part of the noise.
"""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from autotune import device as devices
from autotune.check.builder import Builder, check_calls
from autotune.check.call import CheckedCall
from autotune.check.compare import Comparison, Report
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
class RowTimes:
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


def check_changed(report: Report, against: Toolchain, builder: Builder, gpu: Device | None) -> None:
    """Run the check problems of comparisons whose code changed on `gpu`, this machine's, and add what it finds wrong.

    The interpreter runs the kernel's source; only this judges what a back end or an assembler makes of it.
    """
    places = [p for p in _changed(report, gpu) if not report.comparisons[p].after.failed]
    calls = {p: {_name(call): call for call in check_calls(report.comparisons[p].served.call)} for p in places}
    answers = builder.checked(against, {name: call for several in calls.values() for name, call in several.items()})
    report.on_gpu = len(answers)
    for place, several in calls.items():
        failed = [answers[name]["failed"] for name in several if "failed" in answers.get(name, {})]
        if failed:
            report.comparisons[place] = _with(report.comparisons[place], _wrong(failed[0]))


def time_changed(report: Report, sides: tuple[Toolchain, Toolchain], builder: Builder, gpu: Device | None) -> None:
    """Time comparisons whose code changed on `gpu`, this machine's, and replace them by the result.

    `sides` are (baseline, against).
    """
    places = [
        place
        for place in _changed(report, gpu)
        if not report.comparisons[place].after.failed and not report.comparisons[place].before.failed
    ]
    comparisons = [report.comparisons[place] for place in places]
    others = [_rivals(comparison, report) for comparison in comparisons]
    for place, comparison in zip(places, measured(comparisons, others, sides, builder), strict=True):
        report.comparisons[place] = comparison


def _changed(report: Report, gpu: Device | None) -> list[int]:
    """Places of the comparisons of `gpu` whose machine code is not the same."""
    return [
        place
        for place, comparison in enumerate(report.comparisons)
        if comparison.served.device == gpu and comparison.worst.kind != "same"
    ]


def _wrong(failed: str) -> Verdict:
    kind = "numerics" if failed.startswith("WrongResult") else "unproved"
    return Verdict(kind, "GPU", "", failed, "certain")


def _with(comparison: Comparison, verdict: Verdict) -> Comparison:
    verdicts = sorted([verdict, *comparison.verdicts], key=lambda verdict: KINDS.index(verdict.kind))
    return replace(comparison, verdicts=tuple(verdicts))


def _rivals(comparison: Comparison, report: Report, most: int = 4) -> list[CheckedCall]:
    """The stored finalists, then configs of other rows of the table and the default."""
    same = [other.served.call.config for other in report.comparisons if other.served.table == comparison.served.table]
    return [*finalists(comparison.served), *relatives(comparison.served, same)][:most]


def measured(
    comparisons: Sequence[Comparison],
    others: Sequence[Sequence[CheckedCall]],
    sides: tuple[Toolchain, Toolchain],
    builder: Builder,
) -> list[Comparison]:
    """The comparisons, with what the GPU says of them; `others` are the calls that may take each one's place."""
    baseline, against = sides
    calls = {_name(comparison.served.call): comparison.served.call for comparison in comparisons}
    rivals = {_name(call): call for several in others for call in several}
    first = builder.times(baseline, calls)
    after = builder.times(against, calls | rivals)
    last = builder.times(baseline, calls)
    return [
        _judged(comparison, _name(comparison.served.call), several, (first, after, last))
        for comparison, several in zip(comparisons, others, strict=True)
    ]


def _judged(
    comparison: Comparison, name: str, several: Sequence[CheckedCall], answers: tuple[Mapping[str, Answer], ...]
) -> Comparison:
    first, after, last = (answer.get(name, {"failed": "not asked"}) for answer in answers)
    if "failed" in after:
        found = _wrong(after["failed"])
    elif "failed" in first or "failed" in last:
        found = Verdict("unproved", "measure", str(first.get("failed") or last.get("failed")), "", "possible")
    else:
        rivals = {call.config: answers[1][_name(call)].get("samples_us", ()) for call in several}
        sound = {config: samples for config, samples in rivals.items() if samples}
        found = timed(RowTimes((first["samples_us"], last["samples_us"]), after["samples_us"], sound))
    return _with(comparison, found)


def timed(times: RowTimes) -> Verdict:
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
    """Return the relative error of the median: half the interquartile range over the root of the number."""
    if len(samples) < 2:
        return 1.0
    low, middle, high = statistics.quantiles(samples, n=4)
    return float((high - low) / 2 / middle / len(samples) ** 0.5)


def _name(call: CheckedCall) -> str:
    # Grids differ between problems of one binary.
    return f"{describe(call.problem)} {call.signature}"
