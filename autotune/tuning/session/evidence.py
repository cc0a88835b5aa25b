"""What a row says for itself: figures of its trial and its race, and how its inputs were drawn."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autotune.config import Config, Problem
from autotune.tuning.measurement.bench import Timing
from autotune.tuning.measurement.race import Interval, Verdict
from autotune.tuning.session.winners import Searched, Won


def modeled(one: Searched, outcome: Mapping[str, Any]) -> dict[str, Any]:
    us = float(outcome["us"])
    default = one.default_us or us
    return {
        "modeled_us_range": [round(us, 2) for us in outcome["range_us"]],
        "modeled_speedup_over_default": round(default / us, 3),
        "bound": outcome["bound"],
    }


def measured(one: Searched, won: Won, outcome: Mapping[str, Any]) -> dict[str, Any]:
    evidence: dict[str, Any] = {"us": outcome["us"], "spread": outcome["spread"]}
    evidence |= {"samples": outcome["samples"], "modeled_us": round(outcome["modeled_us"], 2)}
    evidence |= {name: outcome[name] for name in ("clock_mhz", "throttled") if outcome[name]}
    evidence["device_error_over_bound"] = outcome["error"]
    default = one.default_us
    if default is not None:
        evidence |= {"default_us": default, "speedup_over_default": round(default / outcome["us"], 3)}
    if won.verdict is not None:
        evidence |= _raced(won, won.verdict, one.default)
    return evidence


def _raced(won: Won, verdict: Verdict, default: Config) -> dict[str, Any]:
    """The race's own figures, of more samples than a trial's."""
    mine = won.entries.index(won.config)
    timing = Timing(verdict.samples_us[mine])
    evidence: dict[str, Any] = {"us": round(timing.us, 4), "spread": round(timing.spread, 5)}
    evidence |= {"samples": len(timing.samples_us), "verdict": verdict.reason, "noise_floor": round(verdict.floor, 4)}
    if mine:
        evidence["gain"] = _shown(verdict.gains[mine])
    if default in won.entries:
        theirs = verdict.samples_us[won.entries.index(default)]
        paired = Timing(timing.samples_us[: len(theirs)]).us
        evidence |= {"default_us": round(Timing(theirs).us, 4)}
        evidence |= {"speedup_over_default": round(Timing(theirs[: len(timing.samples_us)]).us / paired, 3)}
    return evidence


def _shown(gain: Interval) -> dict[str, float]:
    return {"over_incumbent": round(gain.gain, 4), "low": round(gain.low, 4), "high": round(gain.high, 4)}


def drawn(problem: Problem) -> dict[str, Any]:
    names = [name for name in getattr(problem, "DRAWN", ()) if name != "dtype"]
    return {"inputs": {name: getattr(problem, name) for name in names}} if names else {}
