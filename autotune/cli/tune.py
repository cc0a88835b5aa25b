"""`autotune tune`: sessions over a model's shapes, for devices that need not be present."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from autotune import device as devices
from autotune import registry, runtime, workload
from autotune.cli.output import Commands, command, kernel_names, parse_problem, show_rows
from autotune.device import Device
from autotune.errors import UsageError
from autotune.kernel import Kernel
from autotune.tuning.cache import state_root
from autotune.tuning.session import Plan, Session, Summary
from autotune.tuning.worker import Limits


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "tune",
        "search, compile, prove and predict; writes tables (tier `modeled` where no GPU is present)",
        "  autotune tune --device mi355x --device b200\n"
        "  autotune tune norm/rms_norm_quant --device h200 --model deepseek-v3.2 --tp 8 --trials 40\n"
        "  autotune tune gemm/fp8_block_scaled --device b200 --problem m=64,n=2048,k=7168",
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL", help="default: every kernel that the model calls")
    parser.add_argument("--device", action="append", required=True, help="name of a device record; may be repeated")
    parser.add_argument("--model", default="deepseek-v4-pro")
    parser.add_argument("--scenario", default="8k1k")
    parser.add_argument("--tp", type=int, default=8, help="tensor parallelism (default 8)")
    parser.add_argument("--ep", type=int, default=1, help="expert parallelism (default 1: experts are split by width)")
    parser.add_argument("--dp-attention", action="store_true", help="attention is data-parallel over the --tp ranks")
    parser.add_argument("--problem", action="append", help="tune this problem instead of the model's; may be repeated")
    parser.add_argument("--trials", type=int, default=Plan.trials, help="configs tried a problem (default 12)")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--jobs", type=int, default=Limits.processes, help="worker processes (default: all cores)")
    parser.add_argument("--tables", type=Path, help="where tables go (default: where the runtime reads them)")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.trials < 1 or arguments.jobs < 1 or arguments.tp < 1:
        raise UsageError(
            f"--trials, --jobs and --tp must be at least 1, got {arguments.trials}, {arguments.jobs}, {arguments.tp}"
        )
    names, chosen = kernel_names(arguments.kernels), [devices.named(name) for name in arguments.device]
    if arguments.problem and len(arguments.kernels) != 1:
        raise UsageError("--problem needs exactly one KERNEL, whose fields it names")
    plan = Plan(
        tables=arguments.tables or runtime.tables_root(),
        state=state_root(),
        trials=arguments.trials,
        seed=arguments.seed,
        limits=Limits(processes=arguments.jobs),
    )
    summaries = [_session(registry.load(name), device, plan, arguments) for device in chosen for name in names]
    done = [summary for summary in summaries if summary is not None]
    show_rows(
        [_row(summary) for summary in done],
        arguments.json,
        "tuning sessions (default / best: modeled times of a step, not measured)",
    )
    if not arguments.json:
        for summary in done:
            print(summary.table)
    return 0 if done else 1


def _session(kernel: Kernel[Any], device: Device, plan: Plan, arguments: argparse.Namespace) -> Summary | None:
    if arguments.problem:
        problems = {parse_problem(kernel, text, device): 1 for text in arguments.problem}
    else:
        problems = workload.problems(
            kernel,
            workload.model.named(arguments.model),
            workload.scenario.named(arguments.scenario),
            workload.Parallelism(arguments.tp, arguments.ep, arguments.dp_attention),
            device,
        )
    if not problems:
        print(f"{kernel.name}: {arguments.model} never calls it; skipped", file=sys.stderr)
        return None
    columns = (TextColumn("{task.description:<52}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console, transient=not console.is_terminal) as progress:
        task = progress.add_task(f"{kernel.name} on {device.name}")
        log = _Log(kernel.name, device.name, console)

        def update(stage: str, finished: int, total: int) -> None:
            progress.update(
                task, description=f"{kernel.name} on {device.name}: {stage}", completed=finished, total=total
            )
            log.note(stage, finished, total)

        return Session(kernel, device, plan, update).run(problems)


class _Log:
    """One line a tenth where stderr is no terminal, so that a log file shows progress too."""

    def __init__(self, kernel: str, device: str, console: Console) -> None:
        self._head, self._console, self._last = f"{kernel} {device}", console, ""

    def note(self, stage: str, finished: int, total: int) -> None:
        step = f"{stage} {10 * finished // max(total, 1) * 10} %"
        if stage != "compile" and step != self._last and not self._console.is_terminal:
            print(f"{self._head}: {step} ({finished}/{total})", file=sys.stderr, flush=True)
            self._last = step


def _row(summary: Summary) -> dict[str, Any]:
    return {
        "kernel": summary.kernel,
        "device": summary.device,
        "problems": summary.problems,
        "considered": summary.considered,
        "rejected": summary.rejected,
        "tried": summary.trials,
        "compiled": summary.compiled,
        "from cache": summary.from_cache,
        "failed": dict(summary.failed),
        "distinct codes": summary.distinct_codes,
        "validated": summary.validated,
        "default / best": round(summary.speedup, 3),
        "tier": summary.tier,
    }
