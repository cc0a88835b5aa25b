"""`autotune check`: the tables that are shipped, against a new Triton, ptxas or ROCm; no GPU needed."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import arch as archs
from autotune import device as devices
from autotune import runtime
from autotune.cli.kernels import add_kernels, kernel_names, sound_kernels
from autotune.cli.output import Commands, command, print_json, show_rows
from autotune.cli.progress import progress_bar
from autotune.errors import AutotuneError, UsageError
from autotune.state import state_root
from autotune.tuning.workers.worker import Limits

if TYPE_CHECKING:
    from autotune.check.compare import Comparison, Report
    from autotune.check.compilers import Toolchain
    from autotune.check.served_rows import ServedConfig


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "check",
        "what a new Triton, ptxas or ROCm does to the tables; exit 1 where a row regresses",
        "  autotune check\n"
        "  autotune check --baseline triton==3.8.0 --against triton==3.9.0 --html report.html\n"
        "  autotune check --baseline ptxas==13.0 --against ptxas==13.5 --arch sm_100\n"
        "  autotune check --baseline ascendnpu-ir==1.1.0 --against ascendnpu-ir==1.2.0 --arch ascend910b\n"
        "  autotune check --against-env /path/to/venv --arch all",
    )
    add_kernels(parser, "all")
    add_toolchains(parser)
    parser.add_argument(
        "--arch",
        action="append",
        metavar="ARCH",
        help="check all that this arch is served, default configs where there is no table; `all` GPUs; may be repeated "
        "(default: the tables only)",
    )
    parser.add_argument("--device", action="append", default=[], help="only tables of this device; may be repeated")
    parser.add_argument("--jobs", type=int, default=Limits.processes, help="processes (default: all cores)")
    for name, what in (("junit", "JUnit XML"), ("markdown", "Markdown"), ("html", "one page with heatmap and rows")):
        parser.add_argument(f"--{name}", type=Path, metavar="FILE", help=f"also write {what}")
    parser.add_argument("--reproducers", type=Path, metavar="DIR", help="one file a regression that needs only Triton")
    parser.add_argument("--fix", action="store_true", help="replace regressed rows: known configs first, then a search")
    parser.set_defaults(run=run)


def add_toolchains(parser: argparse.ArgumentParser) -> None:
    spec = "`installed`, `triton==3.9.0`, `ptxas==13.5` or `ascendnpu-ir==1.2.0`"
    against, baseline = parser.add_mutually_exclusive_group(), parser.add_mutually_exclusive_group()
    against.add_argument("--against", default="installed", metavar="SPEC", help=f"{spec} (default: installed)")
    against.add_argument("--against-env", type=Path, metavar="VENV", help="the Triton of this virtual environment")
    baseline.add_argument("--baseline", metavar="SPEC", help=f"{spec} (default: what each row records)")
    baseline.add_argument("--baseline-env", type=Path, metavar="VENV", help="the Triton of this virtual environment")


def run(arguments: argparse.Namespace) -> int:
    from autotune.check import report as reports
    from autotune.check.builder import Builder
    from autotune.check.compare import check
    from autotune.check.repair import repair
    from autotune.check.timing import check_changed, present, time_changed

    chosen = _subjects(arguments)
    against = _toolchain(arguments.against, arguments.against_env)
    baseline = None
    if arguments.baseline or arguments.baseline_env:
        baseline = _toolchain(arguments.baseline, arguments.baseline_env)
    with progress_bar(arguments) as update:
        builder = Builder(state_root(), Limits(processes=arguments.jobs, timeout_s=300), update)
        found = check(chosen, baseline, against, builder)
        gpu = present()
        check_changed(found, against, builder, gpu)
        if baseline:
            time_changed(found, (baseline, against), builder, gpu)
        repaired, left = repair(found.regressions, against, builder) if arguments.fix else ([], [])
    _write(found, arguments)
    if arguments.json:
        print_json(reports.as_json(found))
    else:
        _show(found)
    for comparison in repaired:
        print(f"repaired: {comparison.served.name}", file=sys.stderr)
    return 1 if len(repaired) + _retune(left, against) < len(found.regressions) else 0


def _retune(comparisons: Sequence[Comparison], against: Toolchain) -> int:
    """Searches for rows that no known config repairs; the number of searches that ended well."""
    from autotune.check import retune

    lines = list(map(retune.command, comparisons))
    if against.python == sys.executable:
        return sum(retune.run(words, against) for words in lines)
    for words in lines:
        print(f"no known config repairs it; in that environment: autotune {shlex.join(words)}", file=sys.stderr)
    return 0


def _subjects(arguments: argparse.Namespace) -> list[ServedConfig]:
    """Rows of the tables, and with --arch what is served besides. Raises UsageError where there is nothing."""
    from autotune.check import served_rows

    kernels, _ = sound_kernels(kernel_names(arguments.kernels))
    names = [kernel.name for kernel in kernels]
    archs = _archs(arguments.arch or ["all"])
    chosen = [devices.named(name).name for name in arguments.device]
    found = served_rows.of_tables(runtime.tables_root(), names, archs, chosen)
    if arguments.arch:
        found += served_rows.defaults(names, archs, found)
    if not found:
        raise UsageError(f"no table under {runtime.tables_root()} fits; `--arch sm_90` checks default configs too")
    return found


def _archs(given: list[str]) -> list[str]:
    for name in given:
        if name != "all":
            devices.of_arch(name)
    return archs.gpus() if "all" in given else given


def _toolchain(spec: str, environment: Path | None) -> Toolchain:
    from autotune.check import compilers as toolchains

    return toolchains.of_environment(environment) if environment else toolchains.named(spec, state_root())


def _write(found: Report, arguments: argparse.Namespace) -> None:
    from autotune.check import html_report
    from autotune.check import report as reports

    for path, text in (
        (arguments.junit, reports.junit),
        (arguments.markdown, reports.markdown),
        (arguments.html, html_report.html),
    ):
        if path:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(text(found), encoding="utf-8")
    if arguments.reproducers:
        arguments.reproducers.mkdir(parents=True, exist_ok=True)
        for number, group in enumerate(reports.grouped(found.regressions), 1):
            _reproducer(found, group[0], arguments.reproducers / f"regression_{number}.py")


def _reproducer(found: Report, comparison: Comparison, path: Path) -> None:
    from autotune.check import reproduce

    about = f"{comparison.served.name}, {found.baseline} against {found.against}: {comparison.worst}"
    try:
        path.write_text(reproduce.script(comparison.served.call, path.name, about), encoding="utf-8")
    except AutotuneError as error:
        print(f"no reproducer of {comparison.served.name}: {error}", file=sys.stderr)


def _show(found: Report) -> None:
    from autotune.check import report as reports
    from autotune.check.triage import FINE

    rows = [_row(group) for group in reports.grouped(found.comparisons) if group[0].worst.kind not in FINE]
    show_rows(rows, False, f"{found.baseline} against {found.against}")
    about = reports.as_json(found)["kinds"]
    print("\n".join(f"{count:6} {kind}: {about[kind]}" for kind, count in found.counts().items()))
    print(f"{found.compiled} builds compiled, {found.from_cache} from cache, {found.proved} proofs run")
    print(f"results checked: {found.numerics}")


def _row(group: list[Comparison]) -> dict[str, Any]:
    served, worst = group[0].served, group[0].worst
    return {
        "kernel": served.kernel.name,
        "device": served.device.name,
        "rows": len(group),
        "kind": worst.kind,
        "before": worst.before,
        "after": worst.after,
        "why": worst.reason,
        "confidence": worst.confidence,
    }
