"""The page of a run: what failed, what the hardware reaches, what was right, how long, and where the model is off."""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable, Iterator
from itertools import groupby

from autotune import device as devices
from benchmarks.gpu_run.calibration import Calibration, calibrations, timed
from benchmarks.gpu_run.corrections import diff
from benchmarks.gpu_run.markdown import table
from benchmarks.gpu_run.plan import STEPS
from benchmarks.gpu_run.results import Results

_WORST = 20
_REASON = 200


def page(results: Results) -> str:
    """Markdown; sections of steps that told nothing are left out, the table of steps shows all of them."""
    sections = [(title, make(results)) for title, make in _SECTIONS]
    return "\n".join([_head(results), *(f"## {title}\n\n{text}" for title, text in sections if text)])


def _head(results: Results) -> str:
    versions = results.of("identify").get("versions", {})
    told = ", ".join(
        f"{name} {versions[name]}" for name in ("python", "torch", "triton", "cuda", "hip") if versions.get(name)
    )
    unreal = "" if results.is_measured else f"\n**No GPU was measured: bench {results.bench} made these times up.**\n"
    return f"# One run on {results.device}\n\n{told}\n{unreal}"


def _steps(results: Results) -> str:
    rows = []
    for step in STEPS:
        ended, told = results.ended.get(step.name, {}), results.of(step.name)
        failed = sum("failed" in line for line in told.values())
        state = ended.get("state", "not asked for")
        why = ended.get("why", "")
        if state == "begun":
            state, why = "killed", "the run ended before this step did"
        rows.append((step.name, step.about, state, why, len(told), failed, ended.get("seconds")))
    return table(("step", "what it asks", "state", "why", "results", "failed", "s"), rows)


def _failures(results: Results) -> str:
    """Grouped by step and reason, the most frequent first."""
    found = sorted((step, reason[:_REASON], unit) for step, unit, reason in results.failures())
    groups = [(key, [unit for *_, unit in group]) for key, group in groupby(found, lambda fact: fact[:2])]
    groups.sort(key=lambda group: -len(group[1]))
    return table(("step", "times", "reason", "first"), ((s, len(u), r, u[0]) for (s, r), u in groups))


def _doctor(results: Results) -> str:
    rows = ((name, line["ok"], line["detail"]) for name, line in results.of("doctor").items())
    return table(("check", "ok", "detail"), rows)


def _ceilings(results: Results) -> str:
    rows = []
    for unit, line in results.of("ceilings").items():
        if "failed" in line:
            continue
        us = {flush: min(samples) for flush, samples in line["samples_us"].items()}
        tb_s, tflops = line["bytes_moved"] / us["read"] / 1e6, line["flops"] / us["read"] / 1e6
        rows.append((unit, us["read"], us["written"], us["none"], tb_s or None, tflops or None))
    heads = ("call of torch", "us, cache flushed by reads", "by writes", "not flushed", "TB/s", "TFLOPS")
    return table(heads, rows)


def _clocks(results: Results) -> str:
    """Over the whole run, from what nvidia-smi told twice a second."""
    readings = ((name, statistics.median(told), min(told), max(told)) for name, told in results.clocks.items() if told)
    return table(("reading", "median", "least", "most"), readings)


def _numerics(results: Results) -> str:
    told = [line for line in results.of("numerics").values() if "failed" not in line]
    sums = table(
        ("tile rows", "fraction bits kept", "terms aligned"),
        ((s["rows"], s["bits"], s["terms"]) for s in told if "bits" in s),
    )
    heads = ("kernel", "problem", "tile rows", "worst error/bound", "share above", "relative error")
    rows = [(c["kernel"], c["problem"], c["rows"], c["worst"], c["above"], c["rms"]) for c in told if "worst" in c]
    record = devices.named(results.device).architecture
    known = f"The record of {record.name} says {record.fp8_sums or 'fp32'}; 23 bits and 0 terms are fp32 here.\n"
    return f"{known}\n{sums}\n{table(heads, rows)}" if told else ""


def _validated(results: Results) -> str:
    """One row a kernel."""
    rows = []
    lines = sorted(results.of("validate").values(), key=lambda line: line["kernel"])
    for kernel, group in groupby(lines, lambda line: line["kernel"]):
        told = list(group)
        right = [line["error"] for line in told if "failed" not in line]
        rows.append((kernel, f"{len(right)} of {len(told)}", max(right, default=None)))
    return table(("kernel", "right", "worst error/bound"), rows)


def _noise(results: Results) -> str:
    rows = [line for line in results.of("noise").values() if "failed" not in line]
    left_out = ("unit", "at", "bench", "device", "gpu")
    heads = [name for name in rows[0] if name not in left_out] if rows else []
    return table(heads, ([line.get(name) for name in heads] for line in rows))


def _sizes(results: Results) -> str:
    rows = (
        (
            *(line["kernel"], line["problem"], "failed" not in line, line.get("error"), line.get("us")),
            *(_percent(line.get("spread")), line["modeled_us"], line["bound"], line["roofline_us"]),
            line["roofline_us"] / line["us"] if line.get("us") else None,
        )
        for line in sorted(results.of("sizes").values(), key=lambda line: line["unit"])
    )
    heads = ("kernel", "problem", "right", "error/bound", results.us, "spread %", "modeled us", "modeled bound")
    return table((*heads, "roofline us", "share of the roofline"), rows)


def _misses(results: Results) -> str:
    """Where the model is off most; its term that would have to shrink or grow."""
    found = sorted(timed(results), key=lambda line: -abs(math.log(line["us"] / line["modeled_us"])))
    rows = (
        (
            line["kernel"],
            line["problem"],
            line["us"],
            line["modeled_us"],
            line["us"] / line["modeled_us"],
            line["terms"],
        )
        for line in found[:_WORST]
    )
    return table(("kernel", "problem", results.us, "modeled us", "ratio", "modeled terms, us"), rows)


def _peers(results: Results) -> str:
    rows = []
    for line in results.of("peers").values():
        default = line.get("us", {}).get("default")
        for racer, us in line.get("us", {}).items():
            faster = default / us if default else None
            rows.append((line["kernel"], line["problem"], racer, us, faster, line["roofline_us"], ""))
        for racer, why in line.get("left_out", {}).items():
            rows.append((line["kernel"], line["problem"], racer, None, None, line["roofline_us"], why[:_REASON]))
    return table(("kernel", "problem", "racer", results.us, "default / this", "roofline us", "left out because"), rows)


def _serving(results: Results) -> str:
    told = results.of("serving").items()
    heads = ("call", "first call s", "graph equals eager", "host us a call", "compile s", "compiled equals eager")
    names = ("first_call_s", "graph_equals_eager", "host_us", "seconds", "equal")
    return table(heads, ((unit, *(line.get(name) for name in names)) for unit, line in told))


def _spaces(results: Results) -> str:
    return _sessions(results, "spaces")


def _agreement(results: Results) -> str:
    names = ("problems", "times", "rank", "regret", "factor", "spread")
    rows = ((unit, *(line.get(name) for name in names)) for unit, line in results.of("agreement").items())
    heads = ("device, dtype, family", "problems", "times", "rank correlation", "regret of the first")
    return table((*heads, "time / modeled", "spread of it"), rows)


def _tune(results: Results) -> str:
    return _sessions(results, "tune")


def _sessions(results: Results, step: str) -> str:
    names = ("considered", "tried", "compiled", "failed trials", "rows", "default / best", "tier")
    rows = (
        (line.get("kernel", unit), line.get("problem"), *map(line.get, names))
        for unit, line in results.of(step).items()
    )
    return table(("kernel", "problem", *names), rows)


def _tests(results: Results) -> str:
    return table(("test", "outcome"), ((unit, line["outcome"]) for unit, line in results.of("tests").items()))


def _profile(results: Results) -> str:
    lines = results.of("profile")
    names = list(next(iter(lines.values()))["counters"]) if lines else []
    return table(
        ("launch", *names), ((unit, *(line["counters"].get(n) for n in names)) for unit, line in lines.items())
    )


def _corrections(results: Results) -> str:
    """Nothing where no GPU was measured: made-up times correct no record."""
    text = diff(results) if results.is_measured else ""
    return f"```diff\n{text}```\n" if text else ""


def _calibrations(results: Results) -> str:
    """Constants of times that were not measured are shown as what they are: a rehearsal."""
    device = devices.named(results.device)
    source = f"benchmarks.gpu_run on {device.name}"
    if not results.is_measured:
        source = f"REHEARSAL on bench {results.bench}, not to be applied"
    parts: Iterator[str] = (
        fact.toml(device.name, source) if isinstance(fact, Calibration) else f"# {fact}\n"
        for fact in calibrations(results)
    )
    text = "\n".join(parts)
    return f"```toml\n{text}```\n" if text else ""


def _percent(share: float | None) -> float | None:
    return None if share is None else 100 * share


_SECTIONS: tuple[tuple[str, Callable[[Results], str]], ...] = (
    ("Steps", _steps),
    ("What failed, and why", _failures),
    ("Where the model is off most", _misses),
    ("Corrections of the device record", _corrections),
    ("Constants for autotune/tuning/cost_model/constants.toml", _calibrations),
    ("Ceilings", _ceilings),
    ("FP8 sums", _numerics),
    ("Defaults on their check problems", _validated),
    ("Noise floor", _noise),
    ("Kernels at model sizes", _sizes),
    ("Libraries", _peers),
    ("Serving", _serving),
    ("Spaces measured whole", _spaces),
    ("A short session", _tune),
    ("The model against all trials", _agreement),
    ("pytest -m gpu", _tests),
    ("Counters", _profile),
    ("Clocks", _clocks),
    ("Doctor", _doctor),
)
