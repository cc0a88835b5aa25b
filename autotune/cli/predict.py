"""`autotune predict`: how the configs of one problem rank on one device, with no GPU; times are modeled."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from autotune import device as devices
from autotune.cli.kernels import add_kernel, the_kernel
from autotune.cli.output import Commands, command, parse_problem, show_rows
from autotune.config import Config, Problem, describe, key
from autotune.device import Device
from autotune.errors import UsageError
from autotune.state import state_root
from autotune.tuning import space
from autotune.tuning.jobs import compile_job
from autotune.tuning.workers.worker import Job, Limits, Workers

if TYPE_CHECKING:
    from autotune.kernel import Kernel, Work
    from autotune.tuning.compilation.resources import Resources
    from autotune.tuning.cost_model.model import Prediction


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "predict",
        "rank a problem's configs by the cost model, measuring nothing: time as a range, what bounds it, each term",
        "  autotune predict gemm/fp8_block_scaled m=64,n=2048,k=7168 --device mi355x\n"
        "  autotune predict gemm/fp8_block_scaled m=64,n=2048,k=7168 --device b200 --compile 16\n"
        "  autotune predict attention/sparse_mla tokens=64,heads=16,keys=2048 --device h200 --count 8",
    )
    add_kernel(parser)
    parser.add_argument("problem", help="name=value pairs")
    parser.add_argument("--device", required=True, help="such as mi355x: see `autotune devices`")
    parser.add_argument("--top", type=int, default=10, help="configs shown (default 10)")
    parser.add_argument("--compile", type=int, default=0, metavar="N", help="compile the first N and rank them again")
    parser.add_argument(
        "--count",
        type=int,
        default=0,
        metavar="N",
        help="count bytes and flops of the first N in the interpreter, rank them again by the counts, show those only",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from autotune.tuning.cost_model import calibration

    if arguments.top < 1 or min(arguments.compile, arguments.count) < 0:
        given = f"{arguments.top}, {arguments.compile}, {arguments.count}"
        raise UsageError(f"--top must be positive, --compile and --count not negative, got {given}")
    kernel, device = the_kernel(arguments.kernel), devices.named(arguments.device)
    problem = parse_problem(kernel, arguments.problem, device)
    feasible = space.feasible(space.load(kernel, device), kernel, problem, device)
    if not feasible:
        raise UsageError(f"no config of {kernel.name} is allowed for {describe(problem)} on {device.name}")
    found: dict[Config, Resources | None] = dict.fromkeys(feasible)
    ranked = _ranked(kernel, problem, device, found)
    if arguments.compile:
        found = _compiled(kernel, problem, device, [config for config, _ in ranked[: arguments.compile]])
        ranked = _ranked(kernel, problem, device, found)
    if arguments.count:
        counted = _counted(kernel, problem, device, [config for config, _ in ranked[: arguments.count]])
        ranked = _ranked(kernel, problem, device, {config: found[config] for config in counted}, counted)
    fit = calibration.load(state_root()).get(calibration.family(kernel, device, _dtype(kernel, problem, device)))
    ranked = [(config, fit.of(modeled) if fit else modeled) for config, modeled in ranked[: arguments.top]]
    rows = [_row(place, *item) for place, item in enumerate(ranked, 1)]
    title = f"{kernel.name} {describe(problem)} on {device.name}: {len(feasible)} configs, modeled, not measured"
    title += f" ({ranked[0][1].source})" if ranked else ""
    show_rows(rows, arguments.json, title)
    return 0 if rows else 1


def _ranked(
    kernel: Kernel[Any],
    problem: Problem,
    device: Device,
    found: dict[Config, Resources | None],
    counted: dict[Config, Work] | None = None,
) -> list[tuple[Config, Prediction]]:
    from autotune.tuning.cost_model.call_batch import side_by_side, works
    from autotune.tuning.cost_model.model import predict_all

    configs = list(found)
    if not configs:
        return []
    asked = [counted[config] for config in configs] if counted else works(kernel, problem, configs, device)
    calls = side_by_side(asked, configs)
    predictions = predict_all(calls, device, list(found.values()))
    order = sorted(range(len(configs)), key=lambda at: (predictions.us[at], str(configs[at])))
    return [(configs[at], predictions[at]) for at in order]


def _dtype(kernel: Kernel[Any], problem: Problem, device: Device) -> str:
    from autotune.tuning.counted_work import work_of

    return work_of(kernel, problem, kernel.default(problem, device), device).dtype


def _compiled(
    kernel: Kernel[Any], problem: Problem, device: Device, configs: list[Config]
) -> dict[Config, Resources | None]:
    """The configs that compile and fit, with their resources; the rest cannot run."""
    from autotune.tuning.compilation.resources import Resources

    jobs = [Job(kernel.name, key(problem), config, device.name) for config in configs]
    found: dict[Config, Resources | None] = {}
    with Workers(Limits(), state_root()) as workers:
        for job, result in workers.run(compile_job, jobs):
            if not isinstance(result, str) and "failed" not in result:
                found[job.config] = Resources.from_json(result["resources"])
    return found


def _counted(kernel: Kernel[Any], problem: Problem, device: Device, configs: list[Config]) -> dict[Config, Work]:
    """The work of each config, counted by the interpreter. Raises UsageError where it cannot run a config."""
    from autotune.kernel import Work
    from autotune.tuning.counted_work import count_job

    jobs = [Job(kernel.name, key(problem), config, device.name) for config in configs]
    found: dict[Config, Work] = {}
    with Workers(Limits(), state_root(), interpret=True) as workers:
        for job, result in workers.run(count_job, jobs):
            if isinstance(result, str) or "failed" in result:
                why = result if isinstance(result, str) else result["failed"]
                raise UsageError(f"{kernel.name} {describe(problem)} with {job.config} cannot be counted: {why}")
            found[job.config] = Work(**result["work"])
    return found


def _row(place: int, config: Config, prediction: Prediction) -> dict[str, Any]:
    least, most = prediction.range_us
    terms = {name: round(us, 2) for name, us in prediction.terms if us >= 0.01}
    return {
        "rank": place,
        "config": str(config),
        "modeled us": f"{least:.1f} to {most:.1f}",
        "bound": prediction.bound,
        "terms us": terms,
    }
