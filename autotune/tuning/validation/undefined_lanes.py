"""Lanes that a load masked off without `other` must reach no result: outputs are the same whatever they hold."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import torch
from torch import Tensor

from autotune.errors import Defect
from autotune.kernel import Expected
from autotune.tuning.interpreter.fills import OTHERS, Fills, Lane


def check_fills(undefined: Mapping[str, Lane], is_same: Callable[[Fills], bool]) -> None:
    """Raises Defect unless `is_same` holds of every fill; `undefined` are the loads with undefined lanes, by place.

    The load to blame is the first whose fill alone changes the outputs.
    """
    for fill in OTHERS:
        if is_same(Fills(fill)):
            continue
        blamed = (place for place in undefined if not is_same(Fills(special={place: fill})))
        place = next(blamed, next(iter(undefined)))
        lane = undefined[place]
        more = f"masked off without `other`, reaches a result, which differs where it holds the {fill} finite value"
        raise Defect("uses an undefined lane", place, lane.program, lane.argument, lane.offset, more)


def same_outputs(
    expected: Sequence[Expected], before: Sequence[Tensor], run: Callable[[Fills], Sequence[Tensor]], fills: Fills
) -> bool:
    """True if `run` gives with `fills` what it gave `before`, save in elements that `expected` leaves free."""
    try:
        after = run(fills)
    except Defect:  # an undefined lane used as an address
        return False
    return all(map(_agree, expected, before, after))


def _agree(want: Expected, before: Tensor, after: Tensor) -> bool:
    same = (before == after) | (before.isnan() & after.isnan()) | torch.isposinf(want.bound)
    return bool(same.all())
