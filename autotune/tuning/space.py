"""Search spaces: YAML to the feasible configs of one problem on one device."""

from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import arch as archs
from autotune.config import Config, Problem, Scalar, build
from autotune.device import Device
from autotune.errors import SpaceError, UsageError, did_you_mean
from autotune.toolchain import launch_options

if TYPE_CHECKING:
    from autotune.kernel import Kernel

KEYS = frozenset({"params", "per_arch", "reduction", "check", "compile"}) | {
    *("hot_paths", "not_called", "count", "large", "largest_index")  # read by `kernel_facts`
}

_FORM = "docs/reference/search_spaces.md shows the form"

Lists = Mapping[str, tuple[Scalar, ...]]


@dataclass(frozen=True)
class Space:
    """Values to try by parameter name, for one device; and two lists of problems."""

    lists: Lists
    check: tuple[Problem, ...]
    """Small ones, that every config must get right."""
    compile: tuple[Problem, ...]
    """Sizes of the models, or the check problems where the file names none; drawn on the meta device only."""
    reduction: tuple[str, ...] = ()
    """Parameters that determine the reduction order."""

    @property
    def size(self) -> int:
        total = 1
        for values in self.lists.values():
            total *= len(values)
        return total

    @cached_property
    def configs(self) -> tuple[Config, ...]:
        products = itertools.product(*self.lists.values())
        return tuple(Config(dict(zip(self.lists, values, strict=True))) for values in products)


def feasible(space: Space, kernel: Kernel[Any], problem: Problem, device: Device) -> list[Config]:
    """The configs that the kernel's rules let through, in the file's order."""
    return [config for config in space.configs if kernel.reject(problem, config, device) is None]


def nearest(feasible: Sequence[Config], config: Config) -> Config:
    """`config`, or the feasible one with the fewest doublings of sizes and changed choices between them."""
    return (
        config
        if config in feasible
        else min(feasible, key=lambda candidate: _doublings(candidate, config), default=config)
    )


def _doublings(a: Config, b: Config) -> float:
    return sum(_doubling(value, b.get(name, value)) for name, value in a.items())


def _doubling(a: Scalar, b: Scalar) -> float:
    if isinstance(a, str) or isinstance(b, str):
        return float(a != b)
    return abs(math.log2((a + 1) / (b + 1)))


def load(kernel: Kernel[Any], device: Device, root: Path | None = None) -> Space:
    """The space of `kernel` on `device`, checked against the jit signature and the backend. Raises SpaceError.

    Its file is the one of the kernel's origin, or lies under `root` by the kernel's name.
    """
    path = kernel.origin.space if root is None else root / f"{kernel.name}.yaml"
    data = _stated(kernel, path)
    parts = data.get("per_arch") or {}
    _keys(parts, {*archs.VENDORS.values(), *archs.names()}, f"{path}: per_arch")
    for name, part in {"params": data.get("params"), **parts}.items():
        _lists(part, kernel, _vendors(name), f"{path}: {name}")
    lists = {**data["params"], **(parts.get(device.vendor) or {}), **(parts.get(device.arch) or {})}
    check = _problems(kernel, data, "check", path, device)
    for name in sorted(kernel.constexprs & kernel.default(check[0], device).keys() - lists.keys()):
        raise SpaceError(f"{path}: params lacks {name!r}, which the default config sets; add a list for it")
    values = {name: tuple(tried) for name, tried in lists.items()}
    models = _problems(kernel, data, "compile", path, device) if "compile" in data else check
    reduction = tuple(name for name in _reduction(data, str(path)) if name in values)
    return Space(values, check, models, reduction)


def _stated(kernel: Kernel[Any], path: Path) -> dict[str, Any]:
    """Return what the file states; a kernel that lists choices, or declares its problem, may leave out those parts."""
    declared = {"check": [{name: list(values) for name, values in getattr(kernel.problem, "PROVED", {}).items()}]}
    if kernel.choices is None:
        return {**declared, **read_file(path)} if declared["check"][0] else read_file(path)
    data = read_file(path) if path.exists() else {}
    if "params" in data:
        raise SpaceError(f"{path}: params lists what choices= of {kernel.path.name} lists too; remove one of them")
    if not declared["check"][0] and "check" not in data:
        raise SpaceError(f"{path}: must list check problems, as only autotune.problem(...) does without; {_FORM}")
    return {**declared, **data, "params": {name: list(values) for name, values in kernel.choices.items()}}


def read_file(path: Path) -> dict[str, Any]:
    """Return what a search space's file holds, its keys checked. Raises SpaceError."""
    import yaml  # `--help` and the commands of an environment that only serves do without

    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # ten times as fast where PyYAML came with libyaml
    try:
        data = yaml.load(path.read_text(encoding="utf-8"), Loader=loader)
    except FileNotFoundError as error:
        raise SpaceError(f"{path}: a kernel needs this file, its search space; {_FORM}") from error
    except (OSError, UnicodeDecodeError, yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"{path}:{mark.line + 1}" if mark else str(path)
        words = getattr(error, "problem", None) or str(error)
        raise SpaceError(f"{place}: cannot be read as YAML ({words}); {_FORM}") from error
    _keys(data, KEYS, str(path))
    return dict(data)


def _vendors(part: str) -> tuple[str, ...]:
    if part == "params":
        return ("amd", "nvidia")
    return (part,) if part in archs.VENDORS.values() else (archs.named(part).vendor,)


def _lists(part: Any, kernel: Kernel[Any], vendors: tuple[str, ...], place: str) -> None:  # noqa: ANN401
    options = [names for vendor in vendors if (names := launch_options(vendor)) is not None]
    if options:  # else the part is of a vendor for which nothing can be compiled here
        _keys(part, kernel.constexprs.union(frozenset.intersection(*options)), place)
    for name, values in part.items():
        if not isinstance(values, list) or not values:
            raise SpaceError(f"{place}: {name} must be a list with at least one value, got {values!r}")
        kinds = {type(value) for value in values}
        if len(kinds) != 1 or not kinds <= {int, str, bool}:
            raise SpaceError(f"{place}: {name} must hold integers, strings or true/false, all alike, got {values!r}")
        if len(set(values)) != len(values):
            raise SpaceError(f"{place}: {name} names a value twice: {values!r}; delete one")


def _reduction(data: dict[str, Any], place: str) -> list[str]:
    """Return all parameters for a space that names none: any of them might change the order."""
    parts = [data["params"], *(data.get("per_arch") or {}).values()]
    known = {name for part in parts for name in part}
    named = data.get("reduction", sorted(known))
    if not isinstance(named, list):
        raise SpaceError(f"{place}: reduction must be a list of parameters, got {named!r}; write [] where none is one")
    for name in named:
        if not isinstance(name, str) or name not in known:
            raise SpaceError(f"{place}: reduction: unknown name {name!r}{did_you_mean(str(name), known)}")
    return named


def _keys(data: Any, known: Collection[str], place: str) -> None:  # noqa: ANN401
    if not isinstance(data, dict):
        raise SpaceError(f"{place}: must be a mapping, got {type(data).__name__}")
    for name in data:
        if name not in known:
            raise SpaceError(f"{place}: unknown name {name!r}{did_you_mean(str(name), known)}")


def _problems(kernel: Kernel[Any], data: dict[str, Any], part: str, path: Path, device: Device) -> tuple[Problem, ...]:
    rows = data.get(part)
    if not isinstance(rows, list) or not rows:
        raise SpaceError(f"{path}: {part} must list at least one problem, got {rows!r}")
    return tuple(problem for row in rows for problem in _product(kernel, row, f"{path}: {part}", device))


def _product(kernel: Kernel[Any], row: Any, place: str, device: Device) -> Iterator[Problem]:  # noqa: ANN401
    if not isinstance(row, dict):
        raise SpaceError(f"{place}: a row must be a mapping of problem fields, got {row!r}")
    lists = [value if isinstance(value, list) else [value] for value in row.values()]
    for values in itertools.product(*lists):
        fields = dict(zip(row, values, strict=True))
        if "dtype" in kernel.problem.__dataclass_fields__:
            fields["dtype"] = device.fp8  # e4m3fnuz on CDNA3: the same problem in the device's own FP8
        try:
            yield build(kernel.problem, fields, place)
        except UsageError as error:
            raise SpaceError(str(error)) from error
