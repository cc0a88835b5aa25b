"""`autotune compile` for an NPU: the plan of one config, or of every kernel's default."""

from __future__ import annotations

import argparse
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from autotune import device as devices
from autotune.cli.output import print_json, show_rows
from autotune.cli.progress import progress_bar
from autotune.config import describe_key
from autotune.state import state_root
from autotune.tuning.workers.worker import Job, Limits, Workers

_CALL_S = 600.0
"""Launches of one call, each under a limit of processor time of its own, on a busy machine."""


def run(jobs: Mapping[Job, Sequence[str]], arguments: argparse.Namespace) -> int:
    """Show the plan of each job, in a row for each target that it is of; 1 where a call cannot be planned, else 0.

    Raises ToolchainError where the compilers are absent, UsageError where they cannot be fetched.
    """
    from autotune.tuning.compilation.npu import findings, tools
    from autotune.tuning.compilation.npu.planning import plan_job

    root = state_root() / "toolchains"
    if arguments.fetch:
        from autotune.check import releases

        releases.npu_tools(tools.COMPILER[1], root)
    tools.managed(root)
    answers: dict[Job, dict[str, Any] | str] = {}
    with Workers(Limits(timeout_s=_CALL_S), state_root()) as workers, progress_bar(arguments) as update:
        for job, answer in workers.run(plan_job, jobs):
            answers[job] = answer
            update("plan", len(answers), len(jobs))
    rows = [_row(job, target, answers[job]) for job, targets in jobs.items() for target in targets]
    if arguments.json:
        print_json(rows)
    else:
        show_rows([_in_words(row) for row in rows], False, f"{tools.managed(root).name}: {findings.EVIDENCE}")
        said = [f"{row['kernel']} on {row['target']}: {text}" for row in rows for text in row["findings"]]
        print("\n".join([*said, *_totals(rows)]))
    return 1 if any(row["verdict"].startswith("not planned") for row in rows) else 0


def _row(job: Job, target: str, answer: dict[str, Any] | str) -> dict[str, Any]:
    """The call's verdict and findings, and what each launch was planned to use."""
    from autotune.tuning.compilation.npu import findings
    from autotune.tuning.compilation.npu.planning import LaunchPlan

    if isinstance(answer, str):  # the process died or hung
        launches = [LaunchPlan(job.kernel.rpartition("/")[2], stage="process", why=answer)]
    else:
        launches = [LaunchPlan.from_json(launch) for launch in answer["launches"]]
    return {
        "kernel": job.kernel,
        "target": target,
        "device": job.device,
        "problem": describe_key(job.problem),
        "config": dict(job.config),
        "verdict": findings.verdict(launches),
        "findings": findings.findings(launches, job.config, devices.target(job.device).arch),
        "launches": [{name: part for name, part in launch.as_json().items() if name != "ttir"} for launch in launches],
        "evidence": findings.EVIDENCE,
    }


def _in_words(row: dict[str, Any]) -> dict[str, Any]:
    """The columns for people: of the kernel's own launch, then the verdict on all."""
    plan = row["launches"][0]["plan"] or {}
    return {
        "kernel": row["kernel"],
        "target": row["target"],
        "cores": plan.get("cores"),
        "on chip": _on_chip(plan),
        "matrix operations": ", ".join(name.removeprefix("mma_tile_") for name in plan.get("matrix_operations", {})),
        "syncs": plan.get("syncs"),
        "workspace B": plan.get("workspace_bytes") or None,
        "verdict": row["verdict"],
    }


def _on_chip(plan: dict[str, Any]) -> str:
    """`UB 81120, L1 2 x 49152`: bytes, those of both buffers where loads go to two in turn."""
    sizes = {name: plan.get(f"{name.lower()}_bytes", 0) for name in ("UB", "L1", "L0C")}
    doubled = plan.get("double_buffered", ())
    return ", ".join(f"{name} {size}{' doubled' if name in doubled else ''}" for name, size in sizes.items() if size)


def _totals(rows: list[dict[str, Any]]) -> list[str]:
    counts = Counter((row["target"], row["verdict"].split(" (")[0].split(",")[0]) for row in rows)
    scalar = Counter(row["target"] for row in rows if row["verdict"].startswith("planned,"))
    return [
        f"{target}: {counts[target, 'planned']} of {sum(row['target'] == target for row in rows)} planned, "
        f"{scalar[target]} of them element by element"
        for target in dict.fromkeys(row["target"] for row in rows)
    ]
