"""The `configs=[triton.Config(...)]` of `@triton.autotune`, to paste into the source of a kernel."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from pathlib import Path

from autotune.config import Config, Scalar, describe_key
from autotune.errors import UsageError
from autotune.interchange.entries import NEUTRAL, File, Hints, Read, Written, row_left_out, tiers_of
from autotune.table import Table

OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg")
"""Launch options that `triton.Config` takes by name; others, such as `waves_per_eu`, are keywords of the launch too."""

_LEFT_OUT = ("num_ctas", "maxnreg", "waves_per_eu", "matrix_instr_nonkdim")


def read(path: Path, hints: Hints) -> Read:
    """Raises UsageError: source code is not read."""
    raise UsageError(f"{path}: configs are written as source code, which is not read; import triton reads its cache")


def write(tables: list[Table]) -> Written:
    """One file a table: each config that wins a row, the one that wins most first. Simulated rows are left out."""
    files, left = {}, []
    for table in tables:
        rows = [row for row in table.rows if row.tier != "simulated"]
        left += [row_left_out(table, row, "a rehearsal, not a result") for row in table.rows if row not in rows]
        wins = Counter(row.config for row in rows)
        won = {row.config: describe_key(row.problem) for row in reversed(rows)}
        lines = [f"    {spelled(config)},  # {_wins(count, won[config])}\n" for config, count in wins.most_common()]
        tiers = tiers_of(rows)
        said = ", ".join(f"{count} {tier}" for tier, count in tiers.items())
        text = f"# {table.kernel} on {table.device}: {said} rows.\nconfigs=[\n{''.join(lines)}],\n"
        if rows:
            files[f"{table.device}/{table.kernel}.configs.py"] = File(text, tiers)
    return files, left


def spelled(config: Config) -> str:
    """Return a config as Python; options at a value that changes nothing are left out."""
    kept: Mapping[str, Scalar] = {
        name: value for name, value in config.items() if not (name in _LEFT_OUT and NEUTRAL[name] == value)
    }
    inner = ", ".join(f'"{name}": {value!r}' for name, value in kept.items() if name not in OPTIONS)
    outer = "".join(f", {name}={value!r}" for name, value in kept.items() if name in OPTIONS)
    return f"triton.Config({{{inner}}}{outer})"


def _wins(count: int, problem: str) -> str:
    return problem if count == 1 else f"{count} problems, such as {problem}"
