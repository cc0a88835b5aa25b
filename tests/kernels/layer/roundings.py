"""Roundings of the formats that kernels store, as maps of intervals.

Rounding is monotone: a kernel whose value before it lay between two numbers stores something between their roundings.
So what an exact value known within an error may become is an interval too, and mostly a single number. Scales are
powers of two, so that of a group's maximum within its own interval only one or two can come.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from autotune.inputs import FP8

Interval = tuple[Tensor, Tensor]
Rounding = Callable[[Tensor, Tensor], Interval]

MOST = {"e4m3fn": 448.0, "e4m3fnuz": 240.0, "e2m1": 6.0}
FLOOR = 1e-4
"""DeepSeek's smallest maximum of a group."""


def fp32(low: Tensor, high: Tensor) -> Interval:
    return low - low.abs() * 2.0**-24, high + high.abs() * 2.0**-24


def bf16(low: Tensor, high: Tensor) -> Interval:
    return low.to(torch.bfloat16).double(), high.to(torch.bfloat16).double()


def fp8(dtype: str, group: int, power: bool = True) -> Rounding:
    """Groups along the last dimension, each with a power of two that brings its maximum to at most the format's."""
    return lambda low, high: _scaled(low, high, group, dtype, FLOOR, power)


def mx(kind: str) -> Rounding:
    """Groups of 32 in FP8 or e2m1, scaled as by `fp8` but without a floor."""
    return lambda low, high: _scaled(low, high, 32, kind, MOST[kind] * 2.0**-120, True)


def then(first: Rounding, second: Rounding) -> Rounding:
    return lambda low, high: second(*first(low, high))


def kv_row(layout: str, dtype: str, power: bool = True, rope_too: bool = False) -> Rounding:
    """Rows of 512 as the caches hold them; with `fp8_584` and `fp8_pools` the last 64 columns stay bf16."""
    quantised = fp8(dtype, 64, power)

    def split(low: Tensor, high: Tensor) -> Interval:
        plain, rope = quantised(low[..., :448], high[..., :448]), bf16(low[..., 448:], high[..., 448:])
        return torch.cat((plain[0], rope[0]), -1), torch.cat((plain[1], rope[1]), -1)

    if layout == "bf16":
        return bf16
    return quantised if layout == "fp8" or rope_too else split


def _scaled(low: Tensor, high: Tensor, group: int, kind: str, floor: float, power: bool) -> Interval:
    low_groups, high_groups = (end.unflatten(-1, (-1, group)) for end in (low, high))
    least = torch.maximum(low_groups, -high_groups).clamp_min(0).amax(-1, keepdim=True)
    most = torch.maximum(low_groups.abs(), high_groups.abs()).amax(-1, keepdim=True)
    scales = [_scale(amax, kind, floor, power) for amax in (least * (1 - 2.0**-22), most * (1 + 2.0**-22))]
    codes = [[_nearest(end / scale, kind) for end in (low_groups, high_groups)] for scale in scales]
    # Of two powers each goes with its own codes; of all scales between two ends any goes with any.
    ends = [
        code * scale
        for number, scale in enumerate(scales)
        for code in (codes[number] if power else [*codes[0], *codes[1]])
    ]
    return torch.stack(ends).amin(0).flatten(-2), torch.stack(ends).amax(0).flatten(-2)


def _scale(amax: Tensor, kind: str, floor: float, power: bool) -> Tensor:
    scale = amax.clamp_min(floor) / MOST[kind]
    return torch.exp2(torch.ceil(torch.log2(scale))) if power else scale


def _nearest(x: Tensor, kind: str) -> Tensor:
    x = x.clamp(-MOST[kind], MOST[kind])
    if kind != "e2m1":
        return x.float().to(FP8[kind]).double()
    a = x.abs()
    code = sum((a > middle).long() for middle in (0.25, 1.25, 2.5, 5.0))
    code = code + sum((a >= middle).long() for middle in (0.75, 1.75, 3.5))  # ties go to even codes
    return torch.tensor([0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0], dtype=torch.float64)[code] * x.sign()
