"""On which problems a row must be proved: the search space's check problems, and what its interval adds to them.

A row that serves an interval is proved at both ends, at tails on either side of a tile's edge, at one random inner
value, and at one value for each distinct machine code: Triton makes another for a size that is 1, and for one that 16
divides, where a kernel does not forbid it. Sizes that are too large for the interpreter are folded: a multiple of every
tile is taken away, so that what is left has the same tails. Every distinct config of a table is proved on its own;
equal problems are proved once.
"""

from __future__ import annotations

import random
from collections.abc import Iterable, Mapping, Sequence

from autotune.config import Config, P, describe, key, resized
from autotune.device import Device
from autotune.kernel import Kernel
from autotune.tuning.compilation.launch import launches

Interval = tuple[int, int]
"""Low and high, ends included."""

_AFFORDABLE_STEPS = 128
"""Programs x iterations of one launch: a second or two in the interpreter, where one takes 2 to 50 ms."""
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
    intervals = serves or {}
    added: list[P] = []
    for base in like(problem, [one for one in checks if kernel.reject(one, config, device) is None]):
        for name, (low, high) in intervals.items():
            values = (low, *tails(low, high, config), inner(row, name, (low, high)), high)
            added += _replaced(base, name, (*values, *codes(kernel, row, name, (low, high), device)))
    added += [problem] if _affordable(kernel, problem, config, device) else []
    wanted = [*checks, *(_folded(kernel, one, config, device) for one in added)]
    return tuple(one for one in dict.fromkeys(wanted) if kernel.reject(one, config, device) is None)


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
        for problem in _replaced(row[0], name, [value]):
            if kernel.reject(problem, row[1], device) is None:
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
    """The first check problem with the problem's formats and flags, or the first of all."""
    same = [check for check in checks if _formats(check) == _formats(problem)]
    return (same or list(checks))[:1]


def _formats(problem: P) -> tuple[object, ...]:
    drawn = getattr(problem, "DRAWN", ())
    return tuple(v for n, v in key(problem) if not (type(v) is int or n in drawn))


def _replaced(problem: P, name: str, values: Iterable[int]) -> list[P]:
    """Those values left out that another field of the check problem forbids."""
    return [found for value in values if (found := resized(problem, name, value)) is not None]


def _folded(kernel: Kernel[P], problem: P, config: Config, device: Device) -> P:
    """`problem` where it is affordable, else with its largest size cut down to one with the same tail."""
    if _affordable(kernel, problem, config, device):
        return problem
    name = max(problem.VARYING, key=lambda field: int(getattr(problem, field)))
    size = getattr(problem, name)
    smaller = [
        one
        for tile in (period(config), 64, 16, 4)
        for folds in (2, 1)
        if size % tile + folds * tile < size
        for one in _replaced(problem, name, [size % tile + folds * tile])
    ]
    fitting = (one for one in smaller if _affordable(kernel, one, config, device))
    return next(fitting, smaller[-1] if smaller else problem)


def _affordable(kernel: Kernel[P], problem: P, config: Config, device: Device) -> bool:
    work = kernel.work(problem, config, device)
    return work.programs * work.iterations <= _AFFORDABLE_STEPS
