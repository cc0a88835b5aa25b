"""Writes docs/images/day0.svg and the two sentences of the README below it, from the tables as they are now.

python -m tools.day0_picture

The bars are those of `autotune report`. The kernels that multiply matrices on MI355X are compiled (a minute), since
tables made before rows kept their instructions do not name them.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import vl_convert

from autotune import device as devices
from autotune import files, registry
from autotune.config import key
from autotune.estimate.points import WholeStep, points
from autotune.estimate.step_times import StepCall
from autotune.report import charts
from autotune.report.matrix_use import NATIVE, MatrixUse, matrix_use
from autotune.report.step_bars import bar_ranges, segments
from autotune.state import state_root
from autotune.tuning.jobs import compile_job
from autotune.tuning.workers.worker import Job, Limits, Workers
from autotune.workload import Parallelism, models, scenario

ROOT = Path(__file__).parents[1]
IMAGE, README = ROOT / "docs/images/day0.svg", ROOT / "README.md"
TOLD, OTHERS = "mi355x", ("b200",)
REQUESTS, RANKS = 64, 8
_BLOCK = re.compile(r"(<!-- day0 -->).*?(<!-- /day0 -->)", re.DOTALL)


def main() -> None:
    steps = {name: _step(name) for name in (TOLD, *OTHERS)}
    files.write(IMAGE, _picture(steps))
    story = _story(steps[TOLD])
    text, count = _BLOCK.subn(lambda block: f"{block[1]}\n\n{story}{block[2]}", README.read_text(encoding="utf-8"))
    if not count:
        raise SystemExit(f"{README}: the marks <!-- day0 --> and <!-- /day0 --> are missing")
    files.write(README, text)
    print(story)


def _step(name: str) -> WholeStep:
    model, lengths = models.named("deepseek-v4-pro"), scenario.named("8k1k")
    (point,) = points(model, lengths, Parallelism(RANKS), devices.named(name), [REQUESTS], sample=0)
    return point.decode


def _picture(steps: dict[str, WholeStep]) -> str:
    """Return the bars as SVG, in ink on white: an image in a README has no colour of its reader's to take."""
    spec: dict[str, Any] = json.loads(json.dumps(charts.step_bars()).replace("currentColor", "#222222"))
    each = [(devices.named(name), whole) for name, whole in steps.items()]
    bars = [asdict(part) for device, whole in each for part in segments("decode", whole, device)]
    ranges = [asdict(bar) for device, whole in each for bar in bar_ranges("decode", whole, device)]
    for row in (*bars, *ranges):
        row["bar"] = f"{row['device']} {row['version']}"
    title = f"A decode step of DeepSeek V4-Pro, 8K/1K, {REQUESTS} requests, TP{RANKS}: modeled, not measured"
    spec |= {"width": 620, "title": title, "background": "white"}
    spec["padding"] = {"left": 28, "right": 12, "top": 8, "bottom": 8}  # viewers have wider fonts
    spec["datasets"] = {"segments": bars, "ranges": [bar for bar in ranges if bar["version"] != "bound"]}
    svg: str = vl_convert.vegalite_to_svg(spec)
    return svg


def _story(whole: WholeStep) -> str:
    """Return what of the step's matrix time is native on `TOLD`, and from which step to which tuning leads."""
    judged = _matrix_times(whole.kernels.calls)
    native = sum(us for _, use, us in judged if use.kind == NATIVE) / sum(us for _, _, us in judged)
    rest = sorted({f"`{kernel}` ({use.kind})" for kernel, use, _ in judged if use.kind != NATIVE})
    lacking = f" Not native: {', '.join(rest)}." if rest else ""
    longest, use, _ = max(judged, key=lambda each: each[2])
    first = (
        f"On day 0 {TOLD.upper()} runs {native:.0%} of its matrix kernels' time on its best instructions, the "
        f"longest, `{longest}`, on `{use.reason}`"
    )
    default, tuned = (_milliseconds(time.ends) for time in (whole.default, whole.tuned))
    second = f"Tuning takes the step from {default} to {tuned}, modeled; the bound is {whole.bound_us / 1e3:.1f} ms."
    return f"*{first}.{lacking}\n{second}*"


def _milliseconds(ends: tuple[float, float, float]) -> str:
    least, us, most = (end / 1e3 for end in ends)
    return f"{us:.1f} ms ({least:.0f} to {most:.0f})"


def _matrix_times(calls: Sequence[StepCall]) -> list[tuple[str, MatrixUse, float]]:
    """Return (kernel, its matrix instructions, microseconds a step) of the calls that multiply matrices."""
    device = devices.named(TOLD)
    works = [(call, registry.load(call.call.kernel).work(call.problem, call.estimate.config, device)) for call in calls]
    multiplying = [(call, work) for call, work in works if work.dtype != "fp32"]
    jobs = [Job(call.call.kernel, key(call.problem), call.estimate.config, TOLD) for call, _ in multiplying]
    with Workers(Limits(), state_root()) as workers:
        compiled = dict(workers.run(compile_job, list(dict.fromkeys(jobs))))
    found = []
    for (call, work), job in zip(multiplying, jobs, strict=True):
        result = compiled[job]
        if isinstance(result, str) or "failed" in result:
            raise SystemExit(f"{job.kernel} {job.problem} does not compile for {TOLD}: {result}")
        evidence = {"matrix": list(result["resources"]["matrix_instructions"])}
        use = matrix_use(work, call.estimate.config, device, evidence)
        found.append((job.kernel, use, call.call.per_step * call.estimate.tuned.us))
    return found


if __name__ == "__main__":
    main()
