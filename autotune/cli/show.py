"""`autotune show`: the rows of the tables, with where each comes from."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Mapping, Sequence
from typing import Any

from autotune import device as devices
from autotune import runtime, table
from autotune.cli.kernels import add_kernels, kernel_names
from autotune.cli.output import WIDTH, Commands, command, print_csv, print_json, show_rows
from autotune.config import Scalar, describe_key
from autotune.device import Device
from autotune.table import Row


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "show",
        "rows of tuned tables: problem, config, time; --json and --csv have all evidence",
        "  autotune show gemm/fp8_block_scaled --device mi355x\n"
        "  autotune show --device b200 --wide            a line for each row, with tier, toolchain and code hash\n"
        "  autotune show --device b200 --csv > b200.csv",
        extra="",
    )
    add_kernels(parser, "all that have a table")
    parser.add_argument("--device", required=True, help="such as mi355x: see `autotune devices`")
    parser.add_argument("--wide", action="store_true", help="a line for each row, as long as it must be")
    parser.add_argument("--csv", action="store_true", help="print CSV, one column for each kind of evidence")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    device = devices.named(arguments.device)
    names = kernel_names(arguments.kernels)
    tables = {name: rows for name in names if (rows := _rows(name, device))}
    if not tables:
        wanted = ", ".join(arguments.kernels) or "any kernel"
        print(f"no table of {wanted} for {device.name} under {runtime.tables_root()}; `autotune tune` makes one")
        return 1
    records = [_record(name, row) for name, rows in tables.items() for row in rows]
    if arguments.json:
        print_json(records)
    elif arguments.csv:
        print_csv(records)
    elif arguments.wide:
        lines = [_line(name, row) for name, rows in tables.items() for row in rows]
        show_rows(lines, False, width=1000, paged=True)
    else:
        for name, rows in tables.items():
            show_rows(_brief(rows), False, f"{name} on {device.name}: {_summary(rows)}", paged=True)
    return 0


def _rows(kernel: str, device: Device) -> tuple[Row, ...]:
    path = table.path_of(runtime.tables_root(), device.arch, device.name, kernel)
    return table.load(path).rows if path.exists() else ()


def _record(kernel: str, row: Row) -> dict[str, Any]:
    """Everything that the table says of a row; rows of different tiers have different evidence."""
    return {
        "kernel": kernel,
        "problem": describe_key(row.problem),
        "config": str(row.config),
        "tier": row.tier,
        **row.evidence,
        "toolchain": row.toolchain,
        "code": row.code,
    }


def _line(kernel: str, row: Row) -> dict[str, Any]:
    """Columns that people look for first."""
    record = _record(kernel, row)
    return {name: record[name] for name in ("kernel", "problem", "config", "tier")} | {
        "us": _time(row),
        "toolchain": row.toolchain,
        "code": row.code,
    }


def _summary(rows: Sequence[Row]) -> str:
    """`12 rows; tier modeled: no time was measured; in every row: dtype=e4m3fn, BLOCK_K=128`."""
    tiers = sorted({row.tier for row in rows}, key=table.TIERS.index)
    said = "tier modeled: no time was measured" if tiers == ["modeled"] else f"tier {', '.join(tiers)}"
    same = _same([dict(row.problem) for row in rows]) | _same([dict(row.config) for row in rows])
    alike = ", ".join(f"{name}={value}" for name, value in same.items())
    return f"{len(rows)} row{'s' * (len(rows) != 1)}; {said}" + (f"; in every row: {alike}" if alike else "")


def _brief(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """A column for each problem field and parameter that differs between rows, or one column of parameters."""
    problems, configs = [dict(row.problem) for row in rows], [dict(row.config) for row in rows]
    fields = [name for name in problems[0] if name not in _same(problems)]
    names = [name for name in dict.fromkeys(n for config in configs for n in config) if name not in _same(configs)]
    tiers = {row.tier for row in rows}
    heading = "modeled us" if tiers == {"modeled"} else "us"
    lines = []
    for row, problem, config in zip(rows, problems, configs, strict=True):
        known = {"tier": row.tier} if len(tiers) > 1 else {}
        sizes: dict[str, Any] = {name: problem.get(name, "") for name in fields}
        tuned: dict[str, Any] = {_stacked(name): _value(config.get(name, "")) for name in names}
        time = _time(row)
        if heading != "us":  # the heading says modeled, and a range is narrower
            time = time.removeprefix("modeled ").replace(" to ", "-")
        lines.append({**sizes, **tuned, **known, heading: time})
    if _width(lines) <= WIDTH:
        return lines
    tuned_names = {_stacked(name) for name in names}
    joined = [", ".join(f"{name}={config[name]}" for name in names if name in config) for config in configs]
    return [
        {name: value for name, value in line.items() if name not in tuned_names} | {"config": text}
        for line, text in zip(lines, joined, strict=True)
    ]


def _same(mappings: Sequence[Mapping[str, Scalar]]) -> dict[str, Scalar]:
    """Items that all mappings share; none for a single mapping, whose items are worth columns."""
    if len(mappings) == 1:
        return {}
    first = mappings[0]
    return {name: value for name, value in first.items() if all(other.get(name) == value for other in mappings)}


def _stacked(name: str) -> str:
    """A parameter's name as a narrow heading, such as `BLOCK_M` over two lines."""
    return "\n".join(part for word in name.split("_") for part in textwrap.wrap(word, 7))


def _value(value: Scalar) -> Scalar:
    return {True: "yes", False: "no"}[value] if isinstance(value, bool) else value


def _width(lines: Sequence[Mapping[str, Any]]) -> int:
    """Columns that a table of `lines` takes, two between each pair."""
    widths = [max(len(part) for line in lines for part in (*name.split("\n"), str(line[name]))) for name in lines[0]]
    return sum(widths) + 2 * (len(widths) - 1)


def _time(row: Row) -> str:
    """The measured time, or the range that the model gives, named as such."""
    match row.evidence:
        case {"us": int() | float() as us}:
            return f"{us:.4g}"
        case {"modeled_us_range": [int() | float() as low, int() | float() as high]}:
            return f"modeled {_short(low)} to {_short(high)}"
    return "unknown"


def _short(us: float) -> str:
    return f"{us:.3g}" if us < 1000 else f"{us:.0f}"
