"""`autotune compile`: what one config costs on one target, or on all."""

from __future__ import annotations

import argparse
from typing import Any

from autotune import device as devices
from autotune import registry
from autotune.cli.output import Commands, command, parse_problem, show_rows
from autotune.config import Config, Problem, key
from autotune.device import Device
from autotune.errors import UsageError, did_you_mean
from autotune.kernel import Kernel
from autotune.tuning import space
from autotune.tuning.cache import state_root
from autotune.tuning.tasks import compile_job
from autotune.tuning.worker import Job, Limits, Workers


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "compile",
        "registers, spills, shared memory, matrix instructions and occupancy of one config",
        "  autotune compile gemm/fp8_block_scaled --target all\n"
        "  autotune compile gemm/fp8_block_scaled m=64,n=2048,k=7168 --target sm_90 --config BLOCK_M=64,num_warps=4",
    )
    parser.add_argument("kernel")
    parser.add_argument("problem", nargs="?", help="name=value pairs (default: the last check problem of the space)")
    parser.add_argument("--target", default="all", help="an arch, a device name, or `all` (default)")
    parser.add_argument("--config", default="", help="name=value pairs put over the default config")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    kernel = registry.load(arguments.kernel)
    targets = _targets(arguments.target)
    rows: dict[str, dict[str, Any]] = {}
    jobs: dict[Job, str] = {}
    for device in targets:
        problem = _problem(kernel, arguments.problem, device)
        config = _over(kernel.default(problem, device), arguments.config)
        refusal = kernel.reject(problem, config, device)
        if refusal:
            rows[device.arch] = {"target": device.arch, **_failure(refusal)}
        else:
            jobs[Job(kernel.name, key(problem), config, device.name)] = device.arch
    with Workers(Limits(), state_root()) as workers:
        for job, result in workers.run(compile_job, jobs):
            rows[jobs[job]] = {"target": jobs[job], **_columns(result)}
    show_rows([rows[device.arch] for device in targets], arguments.json, kernel.name)
    return 1 if len(targets) == 1 and rows[targets[0].arch]["reason"] else 0


def _targets(name: str) -> list[Device]:
    if name == "all":
        return [devices.of_arch(arch) for arch in devices.ARCHS]
    if name in devices.ARCHS:
        return [devices.of_arch(name)]
    if name in devices.names():
        return [devices.named(name)]
    raise UsageError(f"--target {name!r} is no arch or device{did_you_mean(name, [*devices.ARCHS, *devices.names()])}")


def _problem(kernel: Kernel[Any], text: str | None, device: Device) -> Problem:
    if text:
        return parse_problem(kernel, text, device)
    return space.load(kernel, device).check[-1]


def _over(default: Config, text: str) -> Config:
    changes: dict[str, int | bool] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in default:
            raise UsageError(f"--config: unknown parameter {name!r}{did_you_mean(name, default)}")
        if not value.lstrip("-").isdigit() and value.lower() not in ("true", "false"):
            raise UsageError(f"--config: {name} must be an integer or true/false, got {value!r}")
        changes[name] = int(value) if value.lstrip("-").isdigit() else value.lower() == "true"
    return Config({**default, **changes})


def _columns(result: dict[str, Any] | str) -> dict[str, Any]:
    if isinstance(result, str) or "failed" in result:
        return _failure(result if isinstance(result, str) else result["failed"])
    found = result["resources"]
    return {
        "registers": found["registers"],
        "spills": found["spills"],
        "stack B": found["stack_bytes"],
        "shared B": found["shared_bytes"],
        "TMEM columns": found["tmem_columns"],
        "matrix instructions": found["matrix_instructions"],
        "code B": found["code_bytes"],
        "programs/unit": found["programs_per_unit"],
        "code": found["code"],
        "reason": None,
    }


def _failure(reason: str) -> dict[str, Any]:
    names = ("registers", "spills", "stack B", "shared B", "TMEM columns", "matrix instructions", "code B")
    return {**dict.fromkeys((*names, "programs/unit", "code")), "reason": reason}
