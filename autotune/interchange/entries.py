"""What every format shares: keys and times, and making rows of tier `imported` from foreign entries."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from autotune import device as devices
from autotune import registry
from autotune.config import Config, Problem, Scalar, build, field_names, key
from autotune.device import Device
from autotune.errors import UsageError
from autotune.files import scalars
from autotune.table import Row
from autotune.tuning.session.trials import Trials

if TYPE_CHECKING:
    from autotune.kernel import Kernel

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


def keyed(values: Any, hints: Hints, place: str) -> dict[str, Scalar]:  # noqa: ANN401
    """Triton appends the dtypes of tensors to the key: they are left out; an FP8 problem is the device's own."""
    if not isinstance(values, list) or len(values) < len(hints.key):
        raise UsageError(f"{place}: the key must be a list that gives {', '.join(hints.key)}, got {str(values)[:80]}")
    found = dict(zip(hints.key, values, strict=False))
    return dict(scalars(found, f"{place}: key"))


def measured_us(row: Row) -> float | None:
    """Measured microseconds, ours or another tool's; a modelled range is no time."""
    for name in ("us", "foreign_us"):
        value = row.evidence.get(name)
        if isinstance(value, int | float) and not isinstance(value, bool):
            return float(value)
    return None


def problem_fields(kernel: str) -> Iterator[str]:
    problem_type: Any = registry.load(kernel).problem
    yield from field_names(problem_type)


def of_a_rehearsal(bench: Any, place: str) -> Unmapped | None:  # noqa: ANN401
    """A file that we wrote from a simulated GPU: its times are of no device."""
    if isinstance(bench, str) and bench.startswith("simulated"):
        return Unmapped(place, f"its times are of a {bench} bench, of no device")
    return None


def without_times(trials: Trials) -> Unmapped:
    place = f"{trials.kernel} on {trials.device}: {trials.study.problem}"
    return Unmapped(place, "the session ended at the model; a predicted time is no result")


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
