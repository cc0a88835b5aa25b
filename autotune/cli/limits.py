"""`autotune compile --limits`: how near calls are to what the hardware allows, by the model and by machine code."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from autotune import device as devices
from autotune import registry
from autotune.cli.output import show_rows
from autotune.cli.progress import progress_bar
from autotune.config import build, describe_key
from autotune.state import state_root
from autotune.tuning.jobs import loop_job
from autotune.tuning.workers.worker import Job, Limits, Workers


def run(jobs: Mapping[Job, Sequence[str]], arguments: argparse.Namespace) -> int:
    """Show the limits of each job, in a row for each target that it is of; 1 where a config does not compile."""
    answers: dict[Job, dict[str, Any] | str] = {}
    with Workers(Limits(), state_root()) as workers, progress_bar(arguments) as update:
        for job, answer in workers.run(loop_job, jobs):
            answers[job] = answer
            update("compile", len(answers), len(jobs))
    rows = [row(job, target, answers[job]) for job, targets in jobs.items() for target in targets]
    title = "times are modeled, not measured; counts are of one turn of the hot loop, read from machine code"
    show_rows(rows, arguments.json, title)
    return 1 if any(shown["reason"] for shown in rows) else 0


def row(job: Job, target: str, answer: Mapping[str, Any] | str) -> dict[str, Any]:
    """Bound, modeled times and facts of the hot loop of one call; `answer` is what `loop_job` gave."""
    return {
        "kernel": job.kernel,
        "target": target,
        "problem": describe_key(job.problem),
        **_modeled(job),
        **_loop(answer),
    }


def _modeled(job: Job) -> dict[str, Any]:
    from autotune.tuning.limits import best_of_space, limit

    kernel, device = registry.load(job.kernel), devices.target(job.device)
    problem = build(kernel.problem, dict(job.problem), job.kernel)
    bound = limit(kernel, problem, device)
    config, best_us, own_us = best_of_space(kernel, problem, device, job.config)
    return {
        "bytes us": round(bound.bytes_us, 2),
        "flops us": round(bound.flops_us, 2),
        "launch us": round(bound.launch_us, 2),
        "bound us": round(bound.us, 2),
        "bound by": bound.by,
        "best us": round(best_us, 2),
        "best config": dict(config),
        "this us": round(own_us, 2),
    }


def _loop(answer: Mapping[str, Any] | str) -> dict[str, Any]:
    from autotune.tuning.compilation.loop_facts import LoopFacts

    failed = answer if isinstance(answer, str) else answer.get("failed")
    facts = None if isinstance(answer, str) or failed else LoopFacts(**answer["loop"])
    return {
        "instructions": facts and facts.instructions,
        "matrix": facts and facts.matrix,
        "matrix share": facts and round(facts.matrix_share, 3),
        "lane arithmetic": facts and facts.lanes,
        "others per 16 B": facts and facts.others_a_load and round(facts.others_a_load, 1),
        "loads": facts and facts.loads,
        "B per load": facts and facts.load_bytes and round(facts.load_bytes, 1),
        "load kind": facts and facts.load_kind,
        "shared": facts and facts.shared,
        "tensor memory": facts and facts.tensor_memory,
        "barriers": facts and facts.barriers,
        "reason": failed,
    }
