"""Keys of the lightning indexer: 128 wide, FP8 with an fp32 scale or FP4 with four e8m0, in pages of bytes.

A page holds its keys first (128 or 64 B each), then 4 B of scales a key. A slot is page * page_size + row.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.inputs import FP8, Draw
from autotune.kernel import Expected
from autotune.kernels._quant import decode_e8m0, decode_fp4, e8m0_exponents, fp4_encode, fp8_groups, hadamard, mx_groups

KEY = 128


@triton.jit
def quantise_rows(y, ROWS: tl.constexpr, FP4: tl.constexpr, FP8_MAX: tl.constexpr, FNUZ: tl.constexpr):
    """fp32 y [ROWS, 128], transformed and rounded to bf16, as bytes [ROWS, 64 or 128] and scales [ROWS, 4 or 1]."""
    y = (hadamard(y, ROWS, 128) * 0.08838834764831845).to(tl.bfloat16).to(tl.float32)
    if FP4:
        q, scale = mx_groups(y, ROWS, 128, 6.0)
        return fp4_encode(q, ROWS, 128), scale
    else:
        q, scale = fp8_groups(y, 1e-4, ROWS, 128, 128, FP8_MAX, True)
        return q.to(tl.float8e4b8 if FNUZ else tl.float8e4nv).to(tl.uint8, bitcast=True), scale


@triton.jit
def key_at(slot, PAGE_SIZE: tl.constexpr, FP4: tl.constexpr):
    """Bytes from the cache's start to the key and to the scales of slots int64."""
    WIDE: tl.constexpr = 64 if FP4 else 128
    page = slot // PAGE_SIZE * (PAGE_SIZE * (WIDE + 4))
    row = slot % PAGE_SIZE
    return page + row * WIDE, page + PAGE_SIZE * WIDE + row * 4


@triton.jit
def store_keys(q, scale, slot, cache_ptr, PAGE_SIZE: tl.constexpr, FP4: tl.constexpr):
    """Store the result of `quantise_rows` into the slots int64 [ROWS]; a negative slot is skipped."""
    keep = (slot >= 0)[:, None]
    key, scales = key_at(tl.where(slot >= 0, slot, 0), PAGE_SIZE, FP4)
    tl.store(cache_ptr + key[:, None] + tl.arange(0, 64 if FP4 else 128)[None, :], q, mask=keep)
    if FP4:
        tl.store(cache_ptr + scales[:, None] + tl.arange(0, 4)[None, :], scale, mask=keep)
    else:
        scale_ptr = cache_ptr.to(tl.pointer_type(tl.float32))
        tl.store(scale_ptr + scales[:, None] // 4 + tl.arange(0, 1)[None, :], scale, mask=keep)


def page_bytes(page_size: int, fp4: bool) -> int:
    return page_size * ((KEY // 2 if fp4 else KEY) + 4)


def views(cache: Tensor, page_size: int, fp4: bool) -> tuple[Tensor, Tensor]:
    """Views of keys uint8 [pages, page_size, 128 or 64] and of their scales uint8 [.., 4]."""
    wide = KEY // 2 if fp4 else KEY
    keys, scales = cache.split((page_size * wide, page_size * 4), 1)
    return keys.unflatten(1, (page_size, wide)), scales.unflatten(1, (page_size, 4))


def draw_pages(draw: Draw, pages: int, page_size: int, fp4: bool, dtype: str) -> Tensor:
    """A cache of random keys. On the meta device too."""
    cache = draw.integers((pages, page_bytes(page_size, fp4)), 0, 256, torch.uint8)
    if not cache.is_meta:
        keys, scales = views(cache, page_size, fp4)
        if fp4:
            scales.copy_(draw.integers(tuple(scales.shape), 122, 128, torch.uint8))
        else:
            keys.copy_(draw.normal(tuple(keys.shape), FP8[dtype]).view(torch.uint8))
            power = draw.integers((pages, page_size, 1), 120, 127, torch.int32)
            scales.copy_(torch.exp2(power.float() - 127).view(torch.uint8))
    return cache


def decode(cache: Tensor, page_size: int, fp4: bool, dtype: str) -> tuple[Tensor, Tensor]:
    """float64 keys [slots, 128], scales multiplied in, and their scales [slots, 1] (FP8) or [slots, 4] (FP4)."""
    keys, scales = (part.flatten(0, 1).contiguous() for part in views(cache, page_size, fp4))
    if fp4:
        return decode_fp4(keys) * decode_e8m0(scales), e8m0_exponents(scales)
    wide = scales.view(torch.float32).double()
    return keys.view(FP8[dtype]).double() * wide, wide


def decode_keys(cache: Tensor, page_size: int, fp4: bool, dtype: str) -> Tensor:
    """float64 [slots, 128]."""
    return decode(cache, page_size, fp4, dtype)[0]


def expect_stored(
    before: tuple[Tensor, Tensor], slots: Tensor, stored: tuple[Expected, Expected]
) -> tuple[Expected, ...]:
    """`decode` of the cache after rows `stored` (keys, scales) went to `slots` (-1: nowhere); `before`: ahead of it."""
    keep = slots >= 0
    at = slots[keep].long()
    expected = []
    for old, new in zip(before, stored, strict=True):
        value, bound = old.clone(), torch.zeros_like(old)
        value[at], bound[at] = new.value[keep], new.bound[keep]
        expected.append(Expected(new.name, value, bound))
    return tuple(expected)
