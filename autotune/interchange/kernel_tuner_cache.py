"""Kernel Tuner's cache files: the spaces that its simulation mode replays, and the form in which it keeps a session."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune import registry
from autotune.config import Scalar, describe, key, parse
from autotune.interchange.entries import (
    Entry,
    File,
    Hints,
    LeftOut,
    Read,
    Written,
    keyed,
    of_a_rehearsal,
    problem_fields,
    without_times,
)
from autotune.tuning.measurement.replay import CacheFile, read_cache_file
from autotune.tuning.search.trials import Trials


def read(path: Path, hints: Hints) -> Read:
    """The fastest config of the space. Raises UsageError."""
    found = read_cache_file(path)
    left = [LeftOut(str(path), name[:80], reason) for name, reason in found.damaged]
    kernel, device = _kernel(found) or hints.kernel, _device(found) or hints.device
    if not kernel or not device:
        return [], [*left, LeftOut(str(path), "", "names no kernel or no device of ours: say --kernel and --device")]
    rehearsal = of_a_rehearsal(found.header.get("bench"), path)
    if rehearsal:
        return [], [rehearsal]
    timed = [(us, config) for config, us in found.outcomes.items() if isinstance(us, float)]
    if not timed:
        return [], [*left, LeftOut(str(path), "", "no config has a time that a kernel can take")]
    us, config = min(timed, key=lambda session: session[0])
    fields = set(problem_fields(kernel))
    problem = {**_sizes(found, hints, kernel, str(path)), **{n: v for n, v in config.items() if n in fields}}
    options = {name: value for name, value in config.items() if name not in fields}
    origin = {"from": "cachefile", "file": path.name, "foreign_us": round(us, 4), "configs": len(found.outcomes)}
    return [Entry(path, "the fastest", kernel, device, problem, options, {}, origin)], left


def write(sessions: Iterable[Trials]) -> Written:
    """One file a study that was measured."""
    files = {}
    left = []
    for session in sessions:
        if session.study.measured:
            text = json.dumps(_cache_file(session), indent=0, allow_nan=False) + "\n"
            files[f"{session.label}.json"] = File(text, {"trials": len(session.outcomes)})
        else:
            left.append(without_times(session))
    return files, left


def _cache_file(session: Trials) -> dict[str, Any]:
    """`problem`, `toolchain` and `bench` are ours; Kernel Tuner reads the rest and lets them be."""
    names = list(session.outcomes[0][0])
    values = {name: sorted({config[name] for config, _ in session.outcomes}) for name in names}
    return {
        "device_name": session.device,
        "kernel_name": session.kernel,
        "problem_size": [value for _, value in key(session.problem) if type(value) is int],
        "problem": describe(session.problem),
        "toolchain": session.study.toolchain,
        "bench": session.study.bench,
        "tune_params_keys": names,
        "tune_params": values,
        "objective": "time",
        "cache": {",".join(str(value) for value in c.values()): {**c, **_entry(o)} for c, o in session.outcomes},
    }


def _entry(outcome: dict[str, Any]) -> dict[str, Any]:
    if "us" in outcome:
        return {"time": outcome["us"] / 1e3, "times": [outcome["us"] / 1e3]}
    failure = "CompilationFailedConfig" if outcome["failed"] == "compile" else "RuntimeFailedConfig"
    return {"time": failure, "__error__": failure}


def _kernel(found: CacheFile) -> str:
    name = found.header.get("kernel_name")
    return name if isinstance(name, str) and name in registry.names() else ""


def _device(found: CacheFile) -> str:
    name = found.header.get("device_name")
    if not isinstance(name, str):
        return ""
    return name if name in devices.names() else devices.called(name) or ""


def _sizes(found: CacheFile, hints: Hints, kernel: str, place: str) -> dict[str, Scalar]:
    """The problem as our own files spell it, else by --key from the numbers of `problem_size`."""
    text = found.header.get("problem")
    if isinstance(text, str):
        problem_type: Any = registry.load(kernel).problem
        return dict(key(parse(problem_type, text)))
    return keyed(found.header.get("problem_size"), hints, place) if hints.key else {}
