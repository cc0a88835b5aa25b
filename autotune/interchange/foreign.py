"""What every format shares: reading hostile files, and making rows of tier `imported` from foreign entries."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune import registry
from autotune.config import Config, Problem, Scalar, build, key
from autotune.device import Device
from autotune.errors import UsageError
from autotune.kernel import Kernel
from autotune.table import Row

LIMIT_BYTES = 64 << 20
"""The largest shipped file is under 1 MB."""

NEUTRAL: dict[str, Scalar] = {
    "SPLIT_K": 1,
    "PERSISTENT": False,
    "GROUP_M": 1,
    "num_ctas": 1,
    "maxnreg": 0,
    "waves_per_eu": 0,
    "matrix_instr_nonkdim": 0,
}
"""What a foreign kernel that lacks a parameter does; of the options, Triton's own defaults."""


def neutral(device: Device) -> dict[str, Scalar]:
    """NEUTRAL with the defaults that differ by backend (CUDAOptions and HIPOptions of Triton 3.9)."""
    return {**NEUTRAL, "num_warps": 4, "num_stages": 2 if device.is_amd else 3}


POWERS_OF_TWO = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "BLOCK", "ROWS", "BLOCK_D", "num_warps", "num_ctas")


@dataclass(frozen=True)
class Unmapped:
    """A file or an entry of one that has no row here, and why."""

    place: str
    reason: str


@dataclass(frozen=True)
class Entry:
    """One foreign config in our names. `kept` has no parameter here: it changes nothing, and is exported again."""

    place: str
    kernel: str
    device: str
    problem: Mapping[str, Scalar]
    options: Mapping[str, Scalar]
    kept: Mapping[str, Any] = field(default_factory=dict)
    origin: Mapping[str, Any] = field(default_factory=dict)
    """`from`, `file`, and what else the format needs to write the entry again."""
    serves: tuple[tuple[str, int, int], ...] = ()
    toolchain: str = "unknown"


@dataclass(frozen=True)
class Hints:
    """What the user says where a file does not: the model of MoE files, the kernel and key of Triton's caches."""

    device: str = ""
    model: str = ""
    kernel: str = ""
    key: tuple[str, ...] = ()


Home = tuple[str, str]
"""(kernel, device)"""


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Raises UsageError for anything that is not JSON of reasonable size, or has a key twice."""
    return parse_json(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Raises UsageError."""
    try:
        if path.stat().st_size > LIMIT_BYTES:
            raise UsageError(f"{path}: larger than {LIMIT_BYTES >> 20} MiB; that is no table of configs")
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error


def parse_json(text: str, place: str) -> Any:  # noqa: ANN401
    def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
        found = dict(pairs)
        if len(found) != len(pairs):
            raise ValueError("a key stands twice in one object")
        return found

    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: not JSON ({error})") from error


def scalars(data: Any, place: str) -> dict[str, Any]:  # noqa: ANN401
    """An object of plain values. Raises UsageError."""
    if not isinstance(data, dict) or not all(v is None or isinstance(v, int | str | bool) for v in data.values()):
        raise UsageError(f"{place}: must be an object of integers, strings and true/false, got {str(data)[:80]}")
    return data


def rows(entries: Iterable[Entry]) -> tuple[dict[Home, list[Row]], list[Unmapped]]:
    """Rows by kernel and device; an entry that our kernel's rules refuse is listed."""
    found: dict[Home, list[Row]] = {}
    refused: list[Unmapped] = []
    for entry in entries:
        kernel, device = registry.load(entry.kernel), devices.named(entry.device)
        result = _row(entry, kernel, device)
        if isinstance(result, str):
            refused.append(Unmapped(entry.place, result))
        else:
            found.setdefault((kernel.name, device.name), []).append(result)
    return found, refused


def _row(entry: Entry, kernel: Kernel[Any], device: Device) -> Row | str:
    try:
        problem: Problem = build(kernel.problem, entry.problem, entry.place)
    except UsageError as error:
        return str(error)
    config = _config(entry, kernel.default(problem, device), neutral(device))
    if isinstance(config, str):
        return config
    refusal = kernel.reject(problem, config, device)
    if refusal is not None:
        return f"{kernel.name} refuses it on {device.name}: {refusal}"
    unused = {name: value for name, value in entry.options.items() if name not in config}
    evidence = {**entry.origin, **({"kept": kept} if (kept := {**entry.kept, **unused}) else {})}
    return Row(key(problem), config, "imported", evidence, entry.toolchain, "", entry.serves)


def _config(entry: Entry, default: Config, absent: Mapping[str, Scalar]) -> Config | str:
    for name, value in entry.options.items():
        if type(value) is not type(default.get(name, value)):
            return f"{name} must be {type(default[name]).__name__}, got {value!r}"
        if isinstance(value, int) and not 0 <= value <= 65536:
            return f"{name}={value} is no size that Triton compiles"
        if name in POWERS_OF_TWO and (not isinstance(value, int) or value < 1 or value & (value - 1)):
            return f"{name}={value} is no power of two"
    missing = [name for name in default if name not in entry.options and name not in absent]
    if missing:
        return f"the entry lacks {', '.join(missing)}"
    return Config({name: entry.options[name] if name in entry.options else absent[name] for name in default})


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")
