"""`autotune validate`: proves configs against the reference, with no GPU."""

from __future__ import annotations

import argparse
from typing import Any

from autotune import device as devices
from autotune import registry, runtime
from autotune.cli.output import Commands, command, kernel_names, show_rows
from autotune.config import Config, key
from autotune.device import Device
from autotune.kernel import Kernel
from autotune.tuning import space
from autotune.tuning.session.cache import state_root
from autotune.tuning.session.tasks import validate_job
from autotune.tuning.workers.worker import Job, Limits, Workers


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "validate",
        "run the configs of the tables (and the defaults) on every check problem against the float64 reference",
        "  autotune validate --device mi355x\n  autotune validate norm/rms_norm_quant --device b200",
    )
    parser.add_argument("kernels", nargs="*", metavar="KERNEL")
    parser.add_argument("--device", required=True)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    device = devices.named(arguments.device)
    jobs = [job for name in kernel_names(arguments.kernels) for job in _jobs(registry.load(name), device)]
    rows: list[dict[str, Any]] = []
    with Workers(Limits(), state_root(), interpret=True) as workers:
        for job, result in workers.run(validate_job, jobs):
            failed = result if isinstance(result, str) else result.get("failed")
            rows.append(
                {
                    "kernel": job.kernel,
                    "problem": ",".join(f"{name}={value}" for name, value in job.problem),
                    "config": str(job.config),
                    "error/bound": None if failed or isinstance(result, str) else result["error"],
                    "verdict": failed or "right",
                }
            )
    rows.sort(key=lambda row: (row["kernel"], row["config"], row["problem"]))
    show_rows(rows, arguments.json)
    return 1 if any(row["verdict"] != "right" for row in rows) else 0


def _jobs(kernel: Kernel[Any], device: Device) -> list[Job]:
    checks = space.load(kernel, device).check
    configs: set[Config] = {kernel.default(problem, device) for problem in checks}
    configs |= {row.config for row in runtime.rows(kernel.name, device)}
    return [
        Job(kernel.name, key(problem), config, device.name)
        for config in sorted(configs, key=str)
        for problem in checks
        if kernel.reject(problem, config, device) is None
    ]
