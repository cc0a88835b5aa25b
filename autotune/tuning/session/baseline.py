"""A row against the library: torch's own function in one interleaved measurement with the tuned and default configs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from autotune.config import Config, Problem
from autotune.table import Row
from autotune.tuning.cost_model.roofline import roofline_us
from autotune.tuning.jobs import check_job, measure_job
from autotune.tuning.measurement.bench import Check, Measurement, Timing
from autotune.tuning.session.evaluator import Measurer
from autotune.tuning.workers.process import Lost

_PASSES = 16
"""Interleaved samples of each; as many as intervals are compared by."""


@dataclass(frozen=True)
class LibraryComparison:
    """Microseconds of one row's problem on one bench; None for what was not measured."""

    problem: str
    default_us: float | None
    tuned_us: float
    library_us: float | None
    library: str
    """The library's name, with why its time does not count where it does not; empty where the kernel names none."""
    roofline_us: float
    speedup: float | None
    """Speedup of the tuned config over a library whose results are right."""

    @classmethod
    def of(cls, row: Row) -> LibraryComparison | None:
        """Read the comparison from a row's evidence; None if its time was only modeled."""
        evidence = row.evidence
        if "us" not in evidence or "roofline_us" not in evidence:
            return None
        library = evidence.get("library", {})
        doubts = [f"{kind}: {library[kind]}" for kind in ("differs", "absent") if kind in library]
        return cls(
            problem=",".join(f"{name}={value}" for name, value in row.problem),
            # Times of one interleaved measurement, where there was one.
            default_us=library.get("default_us", evidence.get("default_us")),
            tuned_us=library.get("tuned_us", evidence["us"]),
            library_us=library.get("us"),
            library="; ".join([library["name"], *doubts]) if library else "",
            roofline_us=evidence["roofline_us"],
            speedup=library.get("speedup"),
        )


def against_library(measurer: Measurer, problem: Problem, tuned: Config, default: Config | None) -> dict[str, Any]:
    """Evidence of a row: `roofline_us`, and `library` where the kernel names one.

    The library's result is held against the reference first. One that is wrong there, or of another precision, is
    timed all the same but has `differs`, the reason, in place of a `speedup`; one that cannot run has only `absent`.
    `default` is None where the default config cannot run the problem.
    """
    kernel = measurer.subject.kernel
    evidence = {"roofline_us": round(roofline_us(kernel, problem, measurer.subject.device), 4)}
    if kernel.library is None:
        return evidence
    told = {"name": kernel.library.name, **_library(measurer, problem, tuned, default)}
    return {**evidence, "library": told}


def _library(measurer: Measurer, problem: Problem, tuned: Config, default: Config | None) -> dict[str, Any]:
    subject, bench, slot = measurer.subject, measurer.bench, measurer.slot(problem)
    library = replace(subject.job(problem, Config()), library=True)
    verdict = _ask(measurer, slot, check_job, Check(bench, slot, library))
    if verdict.get("kind", "wrong") != "wrong":
        return {"absent": verdict["reason"]}
    configs = dict.fromkeys(config for config in (tuned, default) if config is not None)
    jobs = (library, *(subject.job(problem, config) for config in configs))
    answer = _ask(measurer, slot, measure_job, Measurement(bench, slot, jobs, _PASSES, check=False))
    if "failed" in answer:
        return {"absent": f"not timed: {answer['reason']}"}
    theirs, *ours = (Timing(tuple(times)) for times in answer["times"])
    us = {config: round(timing.us, 4) for config, timing in zip(configs, ours, strict=True)}
    times = {"us": round(theirs.us, 4), "spread": round(theirs.spread, 5), "tuned_us": us[tuned]}
    if default is not None:
        times["default_us"] = us[default]
    if "failed" in verdict:
        return {**times, "differs": verdict["reason"]}
    return {**times, "speedup": round(theirs.us / ours[0].us, 3), "error_over_bound": verdict["error"]}


def _ask(measurer: Measurer, slot: int, task: Callable[[Any], Any], asked: Check | Measurement) -> dict[str, Any]:
    try:
        answer: dict[str, Any] = measurer.lanes[slot].submit(task, asked).result()
    except Lost as lost:
        return {"failed": "measure", "kind": lost.kind, "reason": str(lost)}
    return answer
