"""On which problems a row must be proved: the search space's check problems, and what its interval adds to them.

A row that serves an interval is proved at both ends, at tails on either side of a tile's edge, at one random inner
value, and at one value for each distinct machine code: Triton makes another for a size that is 1, and for one that 16
divides, where a kernel does not forbid it. The other sizes are a check problem's. Sizes that are too large for the
interpreter, or for every check problem, are folded: a multiple of every tile and of 16 is taken away, so that what is
left has the same tails and the same code. A config that every check problem is too small for, such as many splits of a
long row, is proved on the row's own problem, made small along the field that rows serve. Every distinct config of a
table is proved on its own; equal problems are proved once.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterable, Mapping, Sequence

from torch import Tensor

from autotune.config import Config, P, describe, key, resized
from autotune.device import Device
from autotune.kernel import Kernel
from autotune.tuning.compilation.launch import launches
from autotune.tuning.counted_work import work_of

Interval = tuple[int, int]
"""Low and high, ends included."""

_AFFORDABLE_STEPS = 128
"""Programs x iterations of one launch: a second or two in the interpreter, where one takes 2 to 50 ms."""
_LARGEST_SIZE = 2**26
"""Rows: some sixty times those of the largest step that engines take."""
_LARGEST_INPUT = 2**32
"""Elements: twice as many as 32 bits count."""
_SMALL_SIZES = (1, 2, 3, 5, 8, 13, 21, 34, 55, 89)
"""Sizes for problems in place of checks: the first six that a config allows. Odd ones have ragged tiles."""
_STAND_INS = 6
_WIDEST = 256
"""Larger blocks tile columns, never the fields along which rows serve."""


def problems_to_prove(
    kernel: Kernel[P],
    row: tuple[P, Config],
    device: Device,
    checks: Sequence[P],
    serves: Mapping[str, Interval] | None = None,
) -> tuple[P, ...]:
    """Problems that `row`, a problem and its config, must get right before it serves `serves` (field: low, high).

    All of them are allowed by the kernel's rules; an empty answer is no proof.
    """
    problem, config = row
    allowed = [check for check in checks if kernel.reject(check, config, device) is None]
    allowed = allowed or _stand_ins(kernel, row, device)
    wanted = [*allowed]
    for name, (low, high) in (serves or {}).items():
        values = (low, *tails(low, high, config), inner(row, name, (low, high)), high)
        for value in (*values, *codes(kernel, row, name, (low, high), device)):
            wanted += _placed(kernel, (like(problem, allowed), config), name, value, device)
    if kernel.reject(problem, config, device) is None and _affordable(kernel, problem, config, device):
        wanted.append(problem)
    return tuple(dict.fromkeys(wanted))


def _stand_ins(kernel: Kernel[P], row: tuple[P, Config], device: Device) -> list[P]:
    """The row's problem with few rows, in the place of check problems that are all too small for its config."""
    problem, config = row
    if not kernel.problem.VARYING:
        return []
    sized = (resized(problem, kernel.problem.VARYING[0], size) for size in _SMALL_SIZES)
    allowed = [p for p in sized if p is not None and kernel.reject(p, config, device) is None]
    return allowed[:_STAND_INS]


def served_sizes(
    kernel: Kernel[P], row: tuple[P, Config], device: Device, serves: Mapping[str, Interval] | None = None
) -> tuple[P, ...]:
    """The row's own problem, and the largest that its intervals hold: where offsets are largest."""
    problem, config = row
    largest: P | None = problem
    for name, (_, high) in (serves or {}).items():
        largest = largest and resized(largest, name, high)
    sizes = dict.fromkeys(size for size in (problem, largest) if size is not None)
    return tuple(size for size in sizes if kernel.reject(size, config, device) is None)


def grown(kernel: Kernel[P], problem: P, device: Device) -> P:
    """`problem` with the first size along which rows serve doubled until an input has 2^32 elements.

    Less where the inputs would not fit into the device's memory, or the kernel's rules refuse its default config. A
    default serves every size, whatever the tables hold.
    """
    name = kernel.problem.VARYING[0]
    chosen = larger = problem
    while True:
        size = 2 * getattr(larger, name)
        next_problem = resized(larger, name, size) if 0 < size < _LARGEST_SIZE else None
        if next_problem is None:
            return chosen
        larger = next_problem
        inputs = [value for value in larger.inputs(0, "meta") if isinstance(value, Tensor)]
        if sum(value.numel() * value.element_size() for value in inputs) > device.dram_gb * 1e9:
            return chosen
        if kernel.reject(larger, kernel.default(larger, device), device) is None:
            chosen = larger
        if max((value.numel() for value in inputs), default=0) >= _LARGEST_INPUT:
            return chosen


def tails(low: int, high: int, config: Config) -> tuple[int, ...]:
    """Within the interval: one past a multiple of every tile, and one short of the next."""
    tile = period(config)
    edge = low // tile * tile
    around = (edge + 1, edge + tile - 1, edge + tile + 1)
    return tuple(value for value in around if low < value < high)


def codes(kernel: Kernel[P], row: tuple[P, Config], name: str, interval: Interval, device: Device) -> tuple[int, ...]:
    """The smallest value in the interval for each distinct machine code that its launches run."""
    low, high = interval
    sixteen = -(-low // 16) * 16
    # One value of each kind that Triton tells apart: 1, a multiple of 16, and one that is neither.
    kinds = sorted({low, low + 1, sixteen, sixteen + 1, high} & set(range(low, high + 1)))
    found: dict[tuple[str, ...], int] = {}
    for value in kinds:
        problem = resized(row[0], name, value)
        if problem is not None and kernel.reject(problem, row[1], device) is None:
            seen = launches(kernel, problem, row[1], device)
            found.setdefault(tuple(launch.signature for launch in seen), value)
    return tuple(found.values())


def inner(row: tuple[P, Config], name: str, interval: Interval) -> int:
    """One value strictly inside where there is any, the same for the same row."""
    low, high = interval
    chance = random.Random(f"{describe(row[0])} {row[1]} {name} {low} {high}")
    return chance.randint(low + 1, high - 1) if high - low > 1 else low


def period(config: Config) -> int:
    """The largest tile of the config: sizes that differ by it have equal tails."""
    sizes = [v for n, v in config.items() if n.startswith(("BLOCK", "ROWS")) and type(v) is int and v <= _WIDEST]
    return max(sizes, default=1)


def like(problem: P, checks: Iterable[P]) -> list[P]:
    """The check problems with the problem's formats and flags, or all where none has."""
    same = [check for check in checks if _formats(check) == _formats(problem)]
    return same or list(checks)


def of_each_format(checks: Iterable[P]) -> list[P]:
    """One of the check problems for each combination of formats and flags: the last."""
    return list({_formats(check): check for check in checks}.values())


def _formats(problem: P) -> tuple[object, ...]:
    drawn = getattr(problem, "DRAWN", ())
    return tuple(v for n, v in key(problem) if not (type(v) is int or n in drawn))


def _placed(kernel: Kernel[P], bases: tuple[Sequence[P], Config], name: str, value: int, device: Device) -> list[P]:
    """The first of the base problems, which are for one config, with `value` in field `name` or what it folds to.

    None where no base takes any of them; the last that is allowed where all are more than the interpreter can afford.
    """
    problems, config = bases
    found: list[P] = []
    for size in folds(value, config):
        for base in problems:
            sized = resized(base, name, size)
            if sized is None or kernel.reject(sized, config, device) is not None:
                continue
            if _affordable(kernel, sized, config, device):
                return [sized]
            found.append(sized)
    return found[-1:]


def folds(value: int, config: Config) -> tuple[int, ...]:
    """`value`, then smaller sizes with its tail and its divisibility by 16: two tiles or one below it, then less."""
    steps = dict.fromkeys((math.lcm(period(config), 16), 64, 16))
    smaller = (value % step + times * step for step in steps for times in (2, 1))
    return (value, *(size for size in dict.fromkeys(smaller) if size < value))


def _affordable(kernel: Kernel[P], problem: P, config: Config, device: Device) -> bool:
    work = work_of(kernel, problem, config, device)
    return work.programs * work.iterations <= _AFFORDABLE_STEPS
