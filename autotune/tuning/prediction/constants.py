"""Constants of the static model for each arch and dtype, and where they were fitted: `constants.toml`."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass
from functools import cache
from pathlib import Path

_PATH = Path(__file__).with_name("constants.toml")


@dataclass(frozen=True)
class Constants:
    """The cost of a launch, a factor on the rest that keeps its order, and how far predictions lie off."""

    launch_us: float
    factor: float
    spread: float
    """The truth is expected within a factor of this."""
    source: str


@cache
def constants(arch: str, dtype: str) -> Constants:
    """The entry of this arch and dtype, or the rest's."""
    entries = tomllib.loads(_PATH.read_text())
    return Constants(**entries.get(arch, {}).get(dtype, entries["*"]["*"]))
