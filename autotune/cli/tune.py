"""`autotune tune`: sessions over a model's shapes, measured where the GPU is here, modeled where it is not."""

from __future__ import annotations

import argparse
import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import device as devices
from autotune import misses, packages, runtime
from autotune.check import lint
from autotune.cli import benches
from autotune.cli.effort import EFFORTS, effort_help
from autotune.cli.kernels import add_kernels, check_place, kernel_names, sound_kernels
from autotune.cli.output import Commands, check_output, command
from autotune.cli.sessions import Asked, run_all
from autotune.cli.tuned_problems import DEFAULT_MODEL, problems_to_tune
from autotune.cli.workload_options import add_workload
from autotune.device import Device
from autotune.errors import UsageError, did_you_mean
from autotune.state import state_root
from autotune.tuning.measurement.bench import Bench
from autotune.tuning.search.stopping import Budget
from autotune.tuning.session import executors, ray_executor
from autotune.tuning.workers.worker import Limits
from autotune.workload import day0

if TYPE_CHECKING:
    from autotune.kernel import Kernel
    from autotune.tuning.session.plan import Plan

_DAY0_PORTFOLIO = 1.0
"""Percent: half of what the model's own ties are given."""


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "tune",
        "search configs, prove them and write tables; measures where the GPU is here, and models where it is not",
        "  autotune tune --device mi355x --device b200\n"
        "  autotune tune --day0 --device mi355x                       # all models, all layouts, all kernels\n"
        "  autotune tune norm/rms_norm_quant --device h200 --model deepseek-v3.2 --tp 8 --trials 40 --minutes 30\n"
        "  autotune tune gemm/fp8_block_scaled --device b200 --problem m=64,n=2048,k=7168\n"
        "  autotune tune moe/mxfp4_grouped_gemm --device mi355x --inputs routing=captured:loads.json\n"
        "  autotune tune gemm/fp8_block_scaled --device h100 --deterministic\n"
        "  autotune tune norm/rms_norm_quant --device h200 --problem rows=64,cols=7168 --exhaustive\n"
        "  autotune tune --device mi355x --ray auto --storage postgresql://tuner@db/trials",
    )
    add_kernels(parser, "every kernel that the model calls")
    parser.add_argument(
        "--device", action="append", help="name of a device record; may be repeated (default: this machine's GPU)"
    )
    add_workload(parser)
    parser.set_defaults(model=None)
    parser.add_argument(
        "--day0", action="store_true",
        help="tune what engines serve on a GPU: every model (or --model) at --tp 8, where usual with data-parallel "
        f"attention and wide expert parallelism; on {', '.join(day0.DEVICES)}, or --device; stopped, the same command "
        "goes on",
    )  # fmt: skip
    parser.add_argument("--from-misses", type=Path, metavar="FILE", help="tune what serving missed (misses.record)")
    parser.add_argument("--problem", action="append", help="tune this problem instead of the model's; may be repeated")
    parser.add_argument(
        "--inputs", action="append", default=[], metavar="FIELD=VALUE",
        help="how inputs are drawn: routing=zipf:1.2, routing=captured:FILE.json (a list of tokens by expert), "
        "pattern=clustered; kept as evidence of each row",
    )  # fmt: skip
    parser.add_argument("--effort", choices=EFFORTS, help=effort_help())
    parser.add_argument("--trials", type=int, help=f"configs tried a problem (default {Budget.trials})")
    parser.add_argument(
        "--exhaustive", action="store_true",
        help="try every feasible config of the space; stopped or out of --minutes, the same command goes on",
    )  # fmt: skip
    parser.add_argument(
        "--configs", type=Path, metavar="FILE",
        help="try the configs of FILE (JSON: a list, or an object a line), the default and the incumbent, nothing else",
    )  # fmt: skip
    parser.add_argument(
        "--portfolio", type=float, metavar="PERCENT",
        help="write rows of few configs, each problem at most so much slower than its best by the model, and print the "
        f"price (default: off; with --day0: {_DAY0_PORTFOLIO:g})",
    )  # fmt: skip
    parser.add_argument("--minutes", type=float, help="end the search of each kernel and device after so long")
    parser.add_argument(
        "--until-gain", type=float, metavar="PERCENT",
        help="end a problem's search where the chance that an untried config is faster by more is under 1 %%",
    )  # fmt: skip
    parser.add_argument("--sampler", default="surrogate", help="surrogate (default) or random, the baseline")
    parser.add_argument("--seed", type=int, default=0, help="seed of the search (default: 0)")
    parser.add_argument(
        "--jobs",
        type=int,
        default=Limits.processes,
        help="worker processes (default: all cores; a GPU that is measured keeps one)",
    )
    parser.add_argument("--tables", type=Path, help="where tables go (default: where the runtime reads them)")
    parser.add_argument(
        "--bench", metavar="BENCH",
        help="gpu, none, or simulated:SEED, a rehearsal whose rows go to a folder and a tier of their own "
        "(default: gpu where the device is the one in this machine, else none)",
    )  # fmt: skip
    parser.add_argument(
        "--ray", metavar="ADDRESS", help="compile and measure on this Ray cluster (`auto`: the running one)"
    )
    parser.add_argument("--storage", metavar="URL", help="keep trials in this database: postgresql://user@host/name")
    parser.add_argument(
        "--deterministic", action="store_true",
        help="batch-invariant: a row has the same bits in every batch; one order of reduction for all sizes, proved, "
        "and its price told; in tables of their own (default: `deterministic` under the state folder)",
    )  # fmt: skip
    parser.add_argument(
        "--again", action="store_true",
        help="search also where the table has the result of the same search: same kernel, reference, space, model, "
        "compilers and options; otherwise such rows stay as they are",
    )  # fmt: skip
    parser.add_argument(
        "--report", type=Path, metavar="FILE",
        help="write an HTML page of these sessions: search curves, failures, seconds a stage, rows (extra `report`)",
    )  # fmt: skip
    parser.add_argument("--retry-crashed", action="store_true", help="forget which configs hung, crashed or were wrong")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    _check(arguments)
    names = kernel_names(arguments.kernels)
    chosen = [devices.named(name) for name in arguments.device or (day0.DEVICES if arguments.day0 else ())]
    chosen = chosen or [devices.current_recorded()]
    if arguments.problem and arguments.from_misses:
        raise UsageError("--problem and --from-misses both say what to tune; give one")
    if arguments.problem and (len(arguments.kernels) != 1 or len(names) != 1):
        raise UsageError("--problem needs exactly one KERNEL, whose fields it names")
    if arguments.from_misses:
        for stale in lint.missed(misses.read(arguments.from_misses))[1]:
            print(f"left out: {stale.place}: {stale.reason}", file=sys.stderr)
    plans = [(device, _plan(arguments, device)) for device in chosen]
    kernels, broken = sound_kernels(names, chosen[0])
    for _, plan in plans:
        check_place(plan.tables, kernels, arguments.tables)
    wanted = [
        (k, device, _listing(plan, k, device, arguments.configs), problems_to_tune(k, device, arguments))
        for device, plan in plans
        for k in kernels
    ]
    for kernel, device, _, problems in wanted:
        if not problems:
            asks = arguments.from_misses or arguments.model or DEFAULT_MODEL
            print(f"{kernel.name}: {asks} never calls it on {device.name}; skipped", file=sys.stderr)
    return max(run_all([Asked(*each) for each in wanted if each[-1]], arguments), int(broken > 0))


def _listing(plan: Plan, kernel: Kernel[Any], device: Device, path: Path | None) -> Plan:
    """`plan`, with the configs of the file at `path` where there is one."""
    from autotune.tuning import space
    from autotune.tuning.session import listed

    if path is None:
        return plan
    return replace(plan, configs=listed.read(path, kernel.name, space.load(kernel, device).lists))


def _check(arguments: argparse.Namespace) -> None:
    if arguments.report:
        packages.require("report")
        check_output(arguments.report, "--report")
    for name in ("trials", "jobs", "tp"):
        value = getattr(arguments, name)
        if value is not None and value < 1:
            raise UsageError(f"--{name} must be at least 1, got {value}")
    if arguments.exhaustive or arguments.configs:
        _check_all_tried(arguments)
    if arguments.deterministic and arguments.minutes is not None:
        raise UsageError("--minutes cannot end a deterministic session, each order needs its trials; give --trials")
    if arguments.day0 and (arguments.problem or arguments.from_misses or arguments.dp_attention or arguments.ep != 1):
        raise UsageError(
            "--day0 says what to tune; --problem, --from-misses, --ep and --dp-attention do not go with it"
        )
    for name in ("minutes", "until_gain", "portfolio"):
        value = getattr(arguments, name)
        if value is not None and not 0 < value < float("inf"):
            raise UsageError(f"--{name.replace('_', '-')} must be positive, got {value:g}")


def _check_all_tried(arguments: argparse.Namespace) -> None:
    name = "--exhaustive" if arguments.exhaustive else "--configs"
    if arguments.exhaustive and arguments.configs:
        raise UsageError("--exhaustive tries the whole space and --configs a list; give one")
    if any(getattr(arguments, option) is not None for option in ("effort", "trials", "until_gain")):
        ends = "--effort, --trials and --until-gain, which end a search, do not go with it"
        raise UsageError(f"{name} tries all of them; {ends}")
    if arguments.configs and len(arguments.kernels) != 1:
        raise UsageError("--configs needs exactly one KERNEL, whose parameters it sets")
    if arguments.configs and arguments.deterministic:
        raise UsageError("--configs does not go with --deterministic, which searches each order of reduction")


def _plan(arguments: argparse.Namespace, device: Device) -> Plan:
    from autotune.tuning.session.plan import Plan

    bench = benches.named(arguments.bench, device, remote=arguments.ray is not None)
    tables = arguments.tables or _tables(bench, arguments.deterministic)
    effort = EFFORTS[arguments.effort or "quick"]
    portfolio = _DAY0_PORTFOLIO if arguments.day0 and arguments.portfolio is None else arguments.portfolio
    until_gain = effort.until_gain if arguments.until_gain is None else arguments.until_gain
    return Plan(
        tables=tables,
        state=state_root(),
        budget=Budget(arguments.trials or effort.trials, arguments.minutes, until_gain and until_gain / 100),
        seed=arguments.seed,
        sampler=_sampler(arguments.sampler),
        limits=Limits(processes=arguments.jobs),
        bench=bench,
        start=ray_executor.start(arguments.ray, device.arch) if arguments.ray else executors.local,
        storage=arguments.storage,
        retry_crashed=arguments.retry_crashed,
        exhaustive=arguments.exhaustive,
        deterministic=arguments.deterministic,
        portfolio=None if portfolio is None or bench is not None or arguments.deterministic else portfolio / 100,
        again=arguments.again,
    )


def _sampler(name: str) -> str:
    from autotune.tuning.search.sampler import SAMPLERS

    if name not in SAMPLERS:
        raise UsageError(f"--sampler must be one of {', '.join(SAMPLERS)}, got {name!r}{did_you_mean(name, SAMPLERS)}")
    return name


def _tables(bench: Bench | None, deterministic: bool) -> Path:
    """The folder for new tables; deterministic rows are served only to whoever names theirs in AUTOTUNE_TABLES, a
    rehearsal's to nobody: they are filed under no real device."""
    if bench is not None and bench.tier == "simulated":
        return state_root() / ("simulated-deterministic" if deterministic else "simulated")
    return state_root() / "deterministic" if deterministic else runtime.tables_root()
