"""Constants of the static model for each arch and dtype, and where they were fitted: `constants.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PATH = Path(__file__).with_name("constants.toml")


@dataclass(frozen=True)
class Constants:
    """Shares of the datasheet's rates that kernels reach, the cost of a launch, and how far predictions lie off."""

    matrix_efficiency: float
    memory_efficiency: float
    launch_us: float
    spread: float
    """Nine of ten measured times lie within a factor of this, where any were measured."""
    source: str


@cache
def constants(arch: str, dtype: str) -> Constants:
    """The closest entry: this arch and dtype, this arch, or the rest."""
    entries = tomllib.loads(_PATH.read_text())
    by_dtype = entries.get(arch, entries["*"])
    return Constants(**by_dtype.get(dtype, by_dtype.get("*", entries["*"]["*"])))
