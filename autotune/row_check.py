"""Check of a row before it serves: a problem and a config as its kernel takes them today.

A row that somebody edited, or that was tuned for an older form of its kernel, would end a call in Triton or in the
kernel's own rules. The check runs once, where a table is read: 40 us a row, as much as reading it takes.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping, Sequence
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from autotune.config import Config, Problem, Scalar, build, describe, key
from autotune.device import Device
from autotune.errors import UsageError, did_you_mean
from autotune.table import Row
from autotune.toolchain import launch_options

if TYPE_CHECKING:
    from autotune.kernel import Kernel

MOST_THREADS = 1024
"""Threads of a block, on every GPU of either vendor."""
MOST_ELEMENTS = 1 << 20
"""Elements of a Triton tensor, TRITON_MAX_TENSOR_NUMEL; no size or count of a config is larger."""

_TILES = ("BLOCK", "ROWS", "CHUNK")
"""Beginnings of names that are sides of tiles: Triton takes powers of two."""
_COUNTS = ("GROUP", "SPLIT", "STEPS", "PARTS", "BITS")
"""Beginnings of names by which something is divided."""
_OPTIONS = ("num_warps", "num_ctas", "num_stages", "waves_per_eu", "maxnreg", "matrix_instr_nonkdim", "kpack")
"""Launch options that are integers."""


class Flaw(NamedTuple):
    """Reason for which a row serves nothing; `kind` is one of `autotune lint`'s: stale, invalid or dead."""

    kind: str
    reason: str


def whole(rows: Sequence[Row], kernel: Kernel[Any], device: Device) -> tuple[tuple[Row, ...], dict[Row, Flaw]]:
    """Return the rows that may serve, and the flaw of each other row. The kernel's own rules are asked at each call.

    A row that was written before its problem had some field means that field's default, and is returned with it.
    """
    form: _Form | None = None
    good: list[Row] = []
    flaws: dict[Row, Flaw] = {}
    for row in rows:
        try:
            problem: Problem = build(kernel.problem, dict(row.problem), "row")
        except UsageError as error:
            flaws[row] = Flaw("dead", f"no call makes this problem ({str(error).removeprefix('row: ')})")
            continue
        if tuple(item for item in key(problem) if item[0] in dict(row.problem)) != row.problem:
            flaws[row] = Flaw("dead", f"its fields are not those of the problem: {describe(problem)}")
            continue
        form = form or _form(kernel, problem, device)
        if flaw := _flaw(row.config, form, device):
            flaws[row] = flaw
        else:
            good.append(row if key(problem) == row.problem else replace(row, problem=key(problem)))
    return tuple(good), flaws


@dataclass(frozen=True)
class _Form:
    """Parameters that a config of one kernel sets: the same for all problems."""

    needed: AbstractSet[str]
    known: AbstractSet[str] | None
    """None where this Triton cannot tell, built without the device's back end."""
    kinds: Mapping[str, type]


def _form(kernel: Kernel[Any], problem: Problem, device: Device) -> _Form:
    default, options = kernel.default(problem, device), launch_options(device.vendor)
    known = None if options is None else kernel.constexprs | options | default.keys()
    kinds = dict.fromkeys(_OPTIONS, int) | {name: type(value) for name, value in default.items()}
    return _Form(_without_default(kernel) & default.keys(), known, kinds)


def _without_default(kernel: Kernel[Any]) -> frozenset[str]:
    """Constexprs that a config must give. One that came later has a default, which is what older rows mean."""
    parameters = inspect.signature(getattr(kernel.jit, "fn", kernel.jit)).parameters
    return frozenset(name for name in kernel.constexprs if parameters[name].default is inspect.Parameter.empty)


def _flaw(config: Config, form: _Form, device: Device) -> Flaw | None:
    if missing := sorted(form.needed - config.keys()):
        return Flaw("stale", f"it lacks {', '.join(missing)}, which the kernel of today needs; tune again")
    for name, value in config.items():
        if form.known is not None and name not in form.known:
            hint = did_you_mean(name, form.kinds)
            return Flaw("stale", f"the kernel of today takes no {name!r}{hint}; tune again")
        if reason := _refusal(name, value, form.kinds.get(name, type(value)), device):
            return Flaw("invalid", reason)
    return None


def _refusal(name: str, value: Scalar, kind: type, device: Device) -> str | None:
    if type(value) is not kind:
        return f"{name} must be {_KINDS[kind]}, got {value!r}"
    if type(value) is not int:
        return None
    if not 0 <= value <= MOST_ELEMENTS:
        return f"{name}={value} is no size that Triton compiles"
    if name.startswith(_COUNTS) and value < 1:
        return f"{name} must be at least 1, got {value}"
    if (name.startswith(_TILES) or name in ("num_warps", "num_ctas")) and value.bit_count() != 1:
        return f"{name} must be a power of two, got {value}"
    threads = value * device.warp_size
    if name == "num_warps" and threads > MOST_THREADS:
        return f"num_warps={value} are {threads} threads on {device.name}, a block has {MOST_THREADS} at most"
    return None


_KINDS = {int: "an integer", str: "a string", bool: "true or false"}
