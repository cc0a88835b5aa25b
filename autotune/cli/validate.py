"""`autotune validate`: proves configs against the reference, in the interpreter or on the GPU."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from autotune import device as devices
from autotune import runtime
from autotune.cli import benches
from autotune.cli.kernels import add_kernels, kernel_names, sound_kernels
from autotune.cli.output import Commands, command, show_rows
from autotune.config import Config, build, key
from autotune.device import Device
from autotune.errors import UsageError
from autotune.state import state_root
from autotune.tuning import space
from autotune.tuning.jobs import validate_job
from autotune.tuning.measurement.bench import Bench
from autotune.tuning.session.checking import check
from autotune.tuning.workers.worker import Job, Limits, Workers

if TYPE_CHECKING:
    from autotune.kernel import Kernel


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "validate",
        "prove configs against the float64 reference: those of the tables and the defaults, on every check problem, in "
        "the interpreter, and their addresses at the sizes that they serve; a table whose rows are all right is noted "
        "as proved; with --bench on the GPU itself, where nothing is timed",
        "  autotune validate --device mi355x\n  autotune validate norm/rms_norm_quant --device b200\n"
        "  autotune validate own/softmax.py --device h100 --strict   # and the rules that kernels here obey\n"
        "  autotune validate --device h200 --bench gpu           # every default on its check problems\n"
        "  autotune validate --device h200 --bench gpu --rows    # every row's config on the row's own problem",
    )
    add_kernels(parser, "all")
    parser.add_argument("--device", required=True, help="such as mi355x: see `autotune devices`")
    parser.add_argument("--bench", metavar="BENCH", help="gpu or simulated:SEED: check there what the defaults compute")
    parser.add_argument(
        "--strict", action="store_true",
        help="also the rules that kernels here obey: documented, seeded inputs, a default inside the space, arguments "
        "that are checked; what breaks one is told with how to mend it",
    )  # fmt: skip
    parser.add_argument("--rows", action="store_true", help="with --bench: the rows of the tables in their place")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    device = devices.named(arguments.device)
    kernels, broken = sound_kernels(kernel_names(arguments.kernels), device)
    if arguments.bench is None:
        if arguments.rows:
            raise UsageError("--rows needs --bench: without a bench the rows' configs are proved on the check problems")
        rows = _interpreted(kernels, device)
    else:
        bench = benches.named(arguments.bench, device)
        if bench is None:
            raise UsageError("--bench none checks nothing: write gpu or simulated:SEED, or leave --bench out")
        chosen = _of_rows if arguments.rows else _defaults
        rows = _checked(bench, [job for kernel in kernels for job in chosen(kernel, device)])
    if arguments.strict:
        columns = dict.fromkeys(rows[0] if rows else ())  # with a bench they are more
        rows += [{**columns, **row} for kernel in kernels for row in _rules(kernel, device)]
    rows.sort(key=lambda row: (row["kernel"], row["config"], row["problem"]))
    if not rows:
        raise UsageError(f"nothing to validate: the tables have no row of these kernels that {device.name} allows")
    show_rows(rows, arguments.json)
    return 1 if broken or any(row["verdict"] != "right" for row in rows) else 0


def _interpreted(kernels: list[Kernel[Any]], device: Device) -> list[dict[str, Any]]:
    """Prove the tables' configs and the defaults, and stamp each table whose rows were all right."""
    from autotune.check import proof_stamp  # it imports Triton

    claims = {kernel: proof_stamp.claims(kernel, device) for kernel in kernels}
    jobs = dict.fromkeys(
        job
        for kernel in kernels
        for job in (*_proofs(kernel, device), *_addresses(kernel, device), *claims[kernel].jobs)
    )
    with Workers(Limits(), state_root(), interpret=True) as workers:
        answers = {
            job: {"failed": "validate", "reason": answer} if isinstance(answer, str) else answer
            for job, answer in workers.run(validate_job, list(jobs))
        }
    right = {job for job, answer in answers.items() if "failed" not in answer}
    for kernel in kernels:
        if said := proof_stamp.stamp(claims[kernel], right):
            print(said, file=sys.stderr)
    return [
        _row(job, answer, answer.get("reason") or answer.get("failed") or "right") for job, answer in answers.items()
    ]


def _checked(bench: Bench, jobs: list[Job]) -> list[dict[str, Any]]:
    return [
        {
            **_row(job, answer, answer.get("kind") or "right"),
            "reason": answer.get("reason"),
            "bench": bench.name,
        }
        for job, answer in check(bench, jobs, state_root())
    ]


def _row(job: Job, answer: dict[str, Any], verdict: str) -> dict[str, Any]:
    return {
        "kernel": job.kernel,
        "problem": ",".join(f"{name}={value}" for name, value in job.problem),
        "config": str(job.config),
        "checked": "addresses" if job.addresses else "values",
        "error/bound": answer.get("error"),
        "verdict": verdict,
    }


def _rules(kernel: Kernel[Any], device: Device) -> list[dict[str, Any]]:
    """A row for each rule that the kernel breaks, or one that says that it obeys all."""
    from autotune.check import kernel_rules  # it imports Triton

    broken = [(breach.problem, str(breach)) for breach in kernel_rules.breaches(kernel, device)]
    rows = [
        {"kernel": kernel.name, "problem": problem, "config": "", "checked": "rules", "verdict": verdict}
        for problem, verdict in broken or [("", "right")]
    ]
    return [{**row, "error/bound": None} for row in rows]


def _proofs(kernel: Kernel[Any], device: Device) -> list[Job]:
    """Each config of the tables and each default on every check problem that allows it."""
    checks = space.load(kernel, device).check
    configs: set[Config] = {kernel.default(problem, device) for problem in checks}
    configs |= {row.config for row in runtime.rows(kernel, device)}
    return [
        Job(kernel.name, key(problem), config, device.name)
        for config in sorted(configs, key=str)
        for problem in checks
        if kernel.reject(problem, config, device) is None
    ]


def _addresses(kernel: Kernel[Any], device: Device) -> Iterator[Job]:
    """Each row at the sizes that it serves, and each default at sizes past 2^31 elements: shapes alone."""
    from autotune.check.proof_stamp import address_jobs  # it imports Triton
    from autotune.tuning.validation.coverage import grown, of_each_format

    for row in runtime.rows(kernel, device):
        yield from address_jobs(kernel, row, device)
    for problem in of_each_format(space.load(kernel, device).check):
        size = grown(kernel, problem, device)
        config = kernel.default(size, device)
        if kernel.reject(size, config, device) is None:
            yield Job(kernel.name, key(size), config, device.name, addresses=True)


def _defaults(kernel: Kernel[Any], device: Device) -> Iterator[Job]:
    """Each check problem with its own default config."""
    for problem in space.load(kernel, device).check:
        config = kernel.default(problem, device)
        if kernel.reject(problem, config, device) is None:
            yield Job(kernel.name, key(problem), config, device.name)


def _of_rows(kernel: Kernel[Any], device: Device) -> Iterator[Job]:
    """Each row of the table with its own problem."""
    for row in runtime.rows(kernel, device):
        problem = build(kernel.problem, dict(row.problem), f"the table of {kernel.name} on {device.name}")
        if kernel.reject(problem, row.config, device) is None:
            yield Job(kernel.name, row.problem, row.config, device.name)
