"""The page of a tuning session: search curves, failures, seconds a stage, rows, and the kernels that were tuned."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.config import Problem, key
from autotune.device import Device
from autotune.estimate.step_times import StepCall, call_estimates
from autotune.report.html import columns
from autotune.report.page_data import kernels_data
from autotune.report.page_rows import CallRow, call_rows
from autotune.runtime import Lookup
from autotune.tuning import kernel_facts
from autotune.tuning.search.trials import Trials
from autotune.tuning.session.progress import Summary, grouped
from autotune.tuning.session.promotion import served
from autotune.workload.rank import Call

if TYPE_CHECKING:
    from autotune.kernel import Kernel

STEP = "session"
"""The one step of the page: all problems of a session, each with its launches as weight."""


@dataclass(frozen=True)
class EndedSession:
    """One kernel on one device: what was asked, what came of it, and the trials that are on disk."""

    kernel: Kernel[Any]
    device: Device
    problems: Mapping[Problem, int]
    summary: Summary
    trials: Sequence[Trials]


@dataclass(frozen=True)
class SessionFacts:
    """The line of one session."""

    kernel: str
    device: str
    tier: str
    problems: int
    rows: int
    up_to_date: int
    trials: int
    feasible: int
    compiled: int
    from_cache: int
    validated: int
    gain: float
    """Default over tuned time, geometric mean over the calls of a step, as `tier` says."""
    seconds: float
    compile_cpu_s: float
    gpu_s: float
    table: str


@dataclass(frozen=True)
class StageSeconds:
    """Wall time of one stage of one session."""

    session: str
    stage: str
    seconds: float


@dataclass(frozen=True)
class Failure:
    """Configs of one session that ended for one reason."""

    session: str
    cause: str
    """The stage, or the kind where a bench names one."""
    words: str
    count: int


@dataclass(frozen=True)
class CurvePoint:
    """The best time of one problem's search after some of its trials."""

    session: str
    problem: str
    trial: int
    us: float
    over_best: float
    """`us` over the best of all its trials."""


def session_page_data(sessions: Sequence[EndedSession]) -> dict[str, Any]:
    """Return what the script of a session's page reads."""
    names = list(dict.fromkeys(session.kernel.name for session in sessions))
    return {
        "title": f"Tuning of {', '.join(names[:3])}{f' and {len(names) - 3} more' if len(names) > 3 else ''}",
        "subtitle": f"{len(sessions)} session{'s' if len(sessions) > 1 else ''}: one kernel on one device each.",
        "steps": [STEP],
        "first_step": STEP,
        **kernels_data([row for session in sessions for row in _rows(session)], _devices(sessions)),
        "sessions": columns([_facts(session) for session in sessions]),
        "stages": columns([stage for session in sessions for stage in _stages(session)]),
        "failures": columns([failure for session in sessions for failure in _failures(session)]),
        "curves": columns([point for session in sessions for point in _curves(session)]),
        "left_out": [],
        "made_by": "Made by `autotune tune --report`.",
    }


@dataclass(frozen=True)
class _Named:
    name: str


def _devices(sessions: Sequence[EndedSession]) -> list[_Named]:
    return [_Named(name) for name in dict.fromkeys(session.device.name for session in sessions)]


def _name(session: EndedSession) -> str:
    return f"{session.kernel.name} on {session.device.name}"


def _facts(session: EndedSession) -> SessionFacts:
    summary = session.summary
    return SessionFacts(
        session.kernel.name,
        session.device.name,
        summary.tier,
        summary.problems + (0 if summary.problems else summary.up_to_date),
        summary.rows,
        summary.up_to_date,
        summary.trials,
        summary.feasible,
        summary.compiled,
        summary.from_cache,
        summary.validated,
        round(summary.speedup, 3),
        round(sum(summary.seconds.values()), 1),
        round(summary.compile_cpu_s, 1),
        round(summary.gpu_s, 1),
        str(summary.table),
    )


def _stages(session: EndedSession) -> Iterator[StageSeconds]:
    for stage, seconds in session.summary.seconds.items():
        yield StageSeconds(_name(session), stage, round(seconds, 2))


def _failures(session: EndedSession) -> Iterator[Failure]:
    for reason in grouped(session.summary.reasons):
        yield Failure(_name(session), reason.kind, reason.words, reason.count)


def _curves(session: EndedSession) -> Iterator[CurvePoint]:
    for study in session.trials:
        best = best_so_far([outcome for _, outcome in study.outcomes])
        for trial, us in best:
            yield CurvePoint(_name(session), study.study.problem, trial, us, us / best[-1][1])


def best_so_far(outcomes: Sequence[Mapping[str, Any]]) -> list[tuple[int, float]]:
    """Return (trial, shortest time up to it) where that fell, and of the last trial; none where none succeeded."""
    points: list[tuple[int, float]] = []
    for trial, outcome in enumerate(outcomes, 1):
        us = outcome.get("us")
        if us is not None and (not points or us < points[-1][1]):
            points.append((trial, us))
    if points and points[-1][0] < len(outcomes):
        points.append((len(outcomes), points[-1][1]))
    return points


def _rows(session: EndedSession) -> list[CallRow]:
    """Return the session's problems as its table serves them now."""
    kernel, device, filed = session.kernel, session.device, session.summary.table
    place = replace(device, name=_device_folder(filed, kernel.name).name)
    weights = {served(problem, device): weight for problem, weight in session.problems.items()}
    estimates = call_estimates(kernel, list(weights), device, 0, Lookup(kernel, place, _root(filed, kernel.name)))
    path = next(iter(kernel_facts.read(kernel.name).hot_paths), 0)
    calls = [
        StepCall(Call(path, kernel.name, STEP, STEP, dict(key(problem)), weight), problem, estimates[problem])
        for problem, weight in weights.items()
    ]
    whole = sum(call.call.per_step * call.estimate.tuned.us for call in calls)
    return call_rows(STEP, calls, device, whole)


def _device_folder(path: Path, kernel: str) -> Path:
    return path.parents[kernel.count("/")]


def _root(path: Path, kernel: str) -> Path:
    return _device_folder(path, kernel).parents[1]
