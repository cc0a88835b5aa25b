"""Write the tables of docs/how/limits.md: launches of a decode step, and limits of its calls and of a prefill step's.

`python -m tools.write_limits` takes minutes. Times are modeled; counts are read from machine code made here.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune import registry
from autotune.cli.limits import row
from autotune.config import key
from autotune.device import Device
from autotune.estimate.launches import launches_of_step
from autotune.state import state_root
from autotune.tuning.counted_work import flops_and_bytes
from autotune.tuning.jobs import loop_job
from autotune.tuning.workers.worker import Job, Limits, Workers
from autotune.workload.calls import calls
from autotune.workload.models import MODELS
from autotune.workload.rank import Call, problem_of
from autotune.workload.scenario import Parallelism, Scenario

PAGE = Path(__file__).resolve().parents[1] / "docs/how/limits.md"
DEVICES = ("h200", "b200", "mi355x")
STEP = Scenario("limits", 8192, 1024, (64,), (64,), "64 requests; a prompt of 8,192 tokens")
DECODE = (
    *("gemm/fp8_block_scaled", "gemm/bf16_linear", "moe/mxfp4_grouped_gemm"),
    *("attention/sparse_decode", "indexer/paged_logits", "hyperconnection/mhc_post_pre"),
)
PREFILL = ("gemm/fp8_block_scaled", "moe/mxfp4_grouped_gemm", "attention/sparse_prefill")
_COLUMNS = {
    "bytes us": "bytes",
    "flops us": "flops",
    "bound us": "bound",
    "best us": "best",
    "this us": "default",
    "instructions": "loop",
    "matrix": "matrix",
    "others per 16 B": "others per 16 B",
    "B per load": "B per load",
    "load kind": "loads",
    "shared": "shared",
    "tensor memory": "TMEM",
    "barriers": "barriers",
}


def main() -> None:
    """Write both tables into the page."""
    text = PAGE.read_text(encoding="utf-8")
    for name, table in (("launches", _launches()), ("limits", _limits())):
        part = re.compile(rf"(<!-- {name} -->\n).*?(<!-- end -->)", re.DOTALL)
        text, changed = part.subn(lambda found, table=table: f"{found[1]}{table}\n{found[2]}", text)  # type: ignore[misc]
        if not changed:
            raise SystemExit(f"{PAGE}: no place for the table of {name}")
    PAGE.write_text(text, encoding="utf-8")


def _launches() -> str:
    rows: dict[tuple[str, str, str], list[str]] = {}
    for name, model in MODELS.items():
        for device in map(devices.named, DEVICES):
            counted = launches_of_step(model, STEP, Parallelism(), device, "decode")
            most = ", ".join(f"{kernel.split('/')[1]} {count}" for kernel, count in counted.most_common(4))
            rows.setdefault((name, f"{sum(counted.values()):,}", most), []).append(device.name)
    return _table(
        ("model", "GPUs", "launches", "most of them"),
        [(name, ", ".join(gpus), count, most) for (name, count, most), gpus in rows.items()],
    )


def _limits() -> str:
    jobs: dict[Job, tuple[str, str]] = {}
    for phase, kernels in (("decode", DECODE), ("prefill", PREFILL)):
        for name in kernels:
            for device in map(devices.named, DEVICES):
                call = _largest(name, phase, device)
                kernel = registry.load(name)
                problem = problem_of(call, kernel, device)
                job = Job(name, key(problem), kernel.default(problem, device), device.name)
                jobs[job] = (phase, f"`{name.split('/')[1]}` {call.op}")
    with Workers(Limits(), state_root()) as workers:
        answers = dict(workers.run(loop_job, jobs))
    rows = []
    for job, (phase, call_name) in jobs.items():
        shown = row(job, job.device, answers[job])
        if shown["reason"]:
            raise SystemExit(f"{job.kernel} on {job.device}: {shown['reason']}")
        rows.append((phase, call_name, job.device, *(_cell(shown[column]) for column in _COLUMNS)))
    return _table(("step", "call", "GPU", *_COLUMNS.values()), rows)


def _largest(name: str, phase: str, device: Device) -> Call:
    """The call of a kernel that moves most in a step of V4-Pro."""
    kernel = registry.load(name)

    def moved(call: Call) -> float:
        return call.per_step * flops_and_bytes(kernel, problem_of(call, kernel, device), device)[1]

    found = calls(MODELS["deepseek-v4-pro"], STEP, Parallelism(), device)
    return max((call for call in found if (call.kernel, call.phase) == (name, phase)), key=moved)


def _cell(value: Any) -> str:  # noqa: ANN401
    return "" if value is None else f"{value:,.1f}" if isinstance(value, float) else str(value)


def _table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


if __name__ == "__main__":
    main()
