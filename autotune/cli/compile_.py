"""`autotune compile`: what one config costs on one target, or on all; or what every kernel's default does.

For NPUs it plans: see `npu_plans`.
"""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from autotune import arch as archs
from autotune import device as devices
from autotune import registry
from autotune.cli import limits, npu_plans
from autotune.cli.kernels import add_kernel, kernel_names, sound_kernels
from autotune.cli.output import Commands, command, parse_problem, show_rows
from autotune.config import Config, Problem, build, describe, key
from autotune.device import Device
from autotune.errors import UsageError, did_you_mean
from autotune.state import state_root
from autotune.tuning import space
from autotune.tuning.compilation import matrix
from autotune.tuning.jobs import compile_job
from autotune.tuning.workers.worker import Job, Limits, Workers

if TYPE_CHECKING:
    from autotune.kernel import Kernel


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "compile",
        "compile one config, or every default: registers, spills, shared memory, matrix instructions and occupancy",
        "  autotune compile gemm/fp8_block_scaled --target all\n"
        "  autotune compile gemm/fp8_block_scaled m=64,n=2048,k=7168 --target sm_90 --config BLOCK_M=64,num_warps=4\n"
        "  autotune compile --target gfx950,sm_100      every kernel at its default: spills? the best instruction?\n"
        "  autotune compile gemm/bf16_linear --target b200,mi355x --limits      how near the hardware?\n"
        "  autotune compile --target ascend950 --fetch      every kernel planned for an NPU, with findings",
    )
    add_kernel(parser, nargs="?", also=" (default: every kernel, one row a kernel and target)")
    parser.add_argument("problem", nargs="?", help="name=value pairs (default: the first of the space's `compile`)")
    parser.add_argument("--target", help=f"archs or devices, comma between, or `all` (every kernel: {_SERVED})")
    parser.add_argument("--config", default="", help="name=value pairs put over the default config")
    parser.add_argument(
        "--limits",
        action="store_true",
        help="show bounds, the modeled best of the space, and what the hot loop's instructions are spent on",
    )
    parser.add_argument(
        "--fetch",
        action="store_true",
        help="bring the compilers for NPUs where they are absent: 215 MB from PyPI, once",
    )
    parser.set_defaults(run=run)


_SERVED = ",".join(archs.SERVED)


def run(arguments: argparse.Namespace) -> int:
    names = kernel_names([arguments.kernel] if arguments.kernel else [])
    if len(names) > 1 and (arguments.problem or arguments.config):
        which = f"{arguments.kernel} means {len(names)} kernels" if arguments.kernel else "no kernel is named"
        raise UsageError(f"{which}; a problem or --config goes with one")
    alone = bool(arguments.kernel) and len(names) == 1
    targets = _targets(arguments.target or ("all" if alone else _SERVED))
    are_gpus = {device.architecture.is_gpu for device in targets.values()}
    if are_gpus == {True, False}:
        raise UsageError(f"--target {arguments.target}: GPUs and NPUs have other columns; name them in two commands")
    if are_gpus == {False}:
        if arguments.limits:
            raise UsageError("--limits reads machine code of GPUs; plans of NPUs come without it")
        jobs, broken = _jobs(names, targets, arguments)
        return npu_plans.run(jobs, arguments) or int(broken > 0)
    if arguments.fetch:
        raise UsageError("--fetch brings the compilers for NPUs: name one, as --target ascend950")
    if arguments.limits:
        jobs, broken = _jobs(names, targets, arguments)
        return limits.run(jobs, arguments) or int(broken > 0)
    if alone:
        return _one(registry.load(names[0]), targets, arguments)
    return _every(names, list(targets.values()), arguments.json)


def _jobs(
    names: list[str], targets: dict[str, Device], arguments: argparse.Namespace
) -> tuple[dict[Job, list[str]], int]:
    """Kernels at their defaults, with what `--config` changes, and the targets of each; how many files are broken.

    The rules of GPUs' threads and registers are not asked.
    """
    kernels, broken = sound_kernels(names, next(iter(targets.values())))
    jobs: dict[Job, list[str]] = {}
    for kernel in kernels:
        for target, device in targets.items():
            problem = _problem(kernel, arguments.problem, device)
            config = _over(kernel.default(problem, device), arguments.config)
            jobs.setdefault(Job(kernel.name, key(problem), config, device.name), []).append(target)
    return jobs, broken


def _one(kernel: Kernel[Any], targets: dict[str, Device], arguments: argparse.Namespace) -> int:
    rows: dict[str, dict[str, Any]] = {}
    jobs: dict[Job, list[str]] = {}
    for target, device in targets.items():
        problem = _problem(kernel, arguments.problem, device)
        config = _over(kernel.default(problem, device), arguments.config)
        refusal = kernel.reject(problem, config, device)
        if refusal:
            rows[target] = {"target": target, **_failure(refusal)}
        else:
            jobs.setdefault(Job(kernel.name, key(problem), config, device.name), []).append(target)
    with Workers(Limits(), state_root()) as workers:
        for job, result in workers.run(compile_job, jobs):
            rows |= {target: {"target": target, **_columns(result)} for target in jobs[job]}
    show_rows([rows[target] for target in targets], arguments.json, kernel.name)
    return 1 if len(rows) == 1 and any(row["reason"] for row in rows.values()) else 0


def _every(names: list[str], targets: list[Device], as_json: bool) -> int:
    kernels, broken = sound_kernels(names, targets[0])
    jobs = [_default_job(kernel, device) for kernel in kernels for device in targets]
    with Workers(Limits(), state_root()) as workers:
        found = dict(workers.run(compile_job, jobs))
    rows = [_report(job, found[job]) for job in jobs]
    show_rows(rows, as_json, "every kernel at its default")
    return 1 if broken or any(row["verdict"] not in ("best", matrix.NOT_JUDGED) for row in rows) else 0


def _default_job(kernel: Kernel[Any], device: Device) -> Job:
    problem = _problem(kernel, None, device)
    return Job(kernel.name, key(problem), kernel.default(problem, device), device.name)


def _report(job: Job, result: dict[str, Any] | str) -> dict[str, Any]:
    from autotune.tuning.counted_work import work_of

    kernel, device = registry.load(job.kernel), devices.target(job.device)
    problem = build(kernel.problem, dict(job.problem), job.kernel)
    columns = _columns(result)
    verdict = columns["reason"] or (f"spills {columns['spills']}" if columns["spills"] else None)
    if verdict is None:
        work = work_of(kernel, problem, job.config, device)
        verdict = matrix.shortfall(columns["matrix instructions"], work, job.config, device)
    shown = ("matrix instructions", "registers", "spills", "shared B", "programs/unit")
    head = {"kernel": job.kernel, "target": device.arch, "problem": describe(problem)}
    return {**head, **{name: columns[name] for name in shown}, "verdict": verdict or "best"}


def _targets(text: str) -> dict[str, Device]:
    """The devices to compile for, by the names that the rows show: of archs or of devices, as they were asked for."""
    found = ((name, devices.target(name)) for name in (archs.gpus() if text == "all" else text.split(",")))
    return {device.arch if devices.is_arch(name) else device.name: device for name, device in found}


def _problem(kernel: Kernel[Any], text: str | None, device: Device) -> Problem:
    if text:
        return parse_problem(kernel, text, device)
    loaded = space.load(kernel, device)
    return loaded.compile[0]


def _over(default: Config, text: str) -> Config:
    changes: dict[str, int | bool] = {}
    for part in filter(None, text.split(",")):
        name, _, value = part.partition("=")
        if name not in default:
            raise UsageError(f"--config: unknown parameter {name!r}{did_you_mean(name, default)}")
        changes[name] = _value(name, value)
    return Config({**default, **changes})


def _value(name: str, text: str) -> int | bool:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        return int(text)
    except ValueError:
        raise UsageError(f"--config: {name} must be an integer or true/false, got {text!r}") from None


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
