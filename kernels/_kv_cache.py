"""The layouts of a 512-wide K = V cache: device code that stores and loads rows, and their exact decoding.

`bf16`: rows of 512. `fp8`: rows of 512 FP8 and 8 fp32 power-of-two scales, one a group of 64. `fp8_584`: pages of
`page_size` rows of 448 FP8 and 64 bf16 (the rotary part), 576 B each, then 8 B a row of e8m0 scales (7 used); a page is
padded to a multiple of 576 B. A slot is page * page_size + row. `fp8_pools`: rows of 512 B, which are 448 FP8, their 7
e8m0 scales twice each and 50 B of padding, and a second pool with the 64 rotary columns in bf16 (SGLang 0.5.23,
`unified_kv_kernels/layout.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.errors import UsageError
from autotune.inputs import FP8, Draw
from autotune.kernel import Expected
from autotune.kernels._launch import require
from autotune.kernels._problem import Sizes, one_of
from autotune.kernels._quant import decode_e8m0, expect_fp8_within, fp8_groups

WIDTH = 512
PLAIN = 448
"""Columns before the rotary 64."""
LAYOUTS = ("bf16", "fp8", "fp8_584", "fp8_pools")
AUX = {"fp8": (torch.float32, 8), "fp8_pools": (torch.bfloat16, WIDTH - PLAIN)}
"""Layouts with a second tensor, a row a slot -> its dtype and columns: scales, or the rotary part."""


@dataclass(frozen=True)
class Cached(Sizes):
    """A problem whose keys lie in a cache. Subclasses add the fields `layout`, `page_size` and `dtype`."""

    DRAWN: ClassVar[tuple[str, ...]] = ("dtype",)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, layout=LAYOUTS)


@triton.jit
def store_rows(
    y, slot, cache_ptr, aux_ptr,
    PAGE_SIZE: tl.constexpr, ROWS: tl.constexpr, LAYOUT: tl.constexpr, FP8_MAX: tl.constexpr, FNUZ: tl.constexpr,
):  # fmt: skip
    """fp32 y [ROWS, 512] into the slots int64 [ROWS]; a negative slot is skipped."""
    col = tl.arange(0, 512)
    keep = (slot >= 0)[:, None]
    at = tl.where(slot >= 0, slot, 0)
    if LAYOUT == "bf16":
        tl.store(cache_ptr + at[:, None] * 512 + col[None, :], y.to(tl.bfloat16), mask=keep)
    else:
        q, scale = fp8_groups(y, 1e-4, ROWS, 512, 64, FP8_MAX, True)
        fp8 = q.to(tl.float8e4b8 if FNUZ else tl.float8e4nv)
        group = tl.arange(0, 8)
        if LAYOUT == "fp8":
            tl.store(cache_ptr + at[:, None] * 512 + col[None, :], fp8, mask=keep)
            tl.store(aux_ptr + at[:, None] * 8 + group[None, :], scale, mask=keep)
        else:
            row, scales = _byte_offsets(at, PAGE_SIZE, LAYOUT)
            bits = fp8.to(tl.uint8, bitcast=True)
            tl.store(cache_ptr + row[:, None] + col[None, :], bits, mask=keep & (col < 448)[None, :])
            rope = _rope_pointers(at, row, col, cache_ptr, aux_ptr, LAYOUT)
            tl.store(rope, y.to(tl.bfloat16), mask=keep & (col >= 448)[None, :])
            byte = (scale.to(tl.int32, bitcast=True) >> 23).to(tl.uint8)
            if LAYOUT == "fp8_pools":
                twice = tl.arange(0, 16)
                byte = tl.reshape(tl.broadcast_to(byte[:, :, None], (ROWS, 8, 2)), (ROWS, 16))
                tl.store(cache_ptr + scales[:, None] + twice[None, :], byte, mask=keep & (twice < 14)[None, :])
            else:
                tl.store(cache_ptr + scales[:, None] + group[None, :], byte, mask=keep & (group < 7)[None, :])


@triton.jit
def load_rows(
    slot, valid, cache_ptr, aux_ptr, PAGE_SIZE: tl.constexpr, LAYOUT: tl.constexpr, FNUZ: tl.constexpr
):  # fmt: skip
    """bf16 [ROWS, 512] of the slots int64 [ROWS]; zero where not `valid`. Exact, because scales are powers of two."""
    ROWS: tl.constexpr = slot.shape[0]
    keep = valid[:, None]
    at = tl.where(valid, slot, 0)
    col = tl.arange(0, 512)
    group = tl.arange(0, 8)
    if LAYOUT == "bf16":
        return tl.load(cache_ptr + at[:, None] * 512 + col[None, :], mask=keep, other=0.0)
    elif LAYOUT == "fp8":
        q = tl.load(cache_ptr + at[:, None] * 512 + col[None, :], mask=keep, other=0.0)
        scale = tl.load(aux_ptr + at[:, None] * 8 + group[None, :], mask=keep, other=0.0)
        return (q.to(tl.float32) * _broadcast_scale(scale, ROWS)).to(tl.bfloat16)
    else:
        row, scales = _byte_offsets(at, PAGE_SIZE, LAYOUT)
        plain = (col < 448)[None, :]
        bits = tl.load(cache_ptr + row[:, None] + col[None, :], mask=keep & plain, other=0)
        q = bits.to(tl.float8e4b8 if FNUZ else tl.float8e4nv, bitcast=True).to(tl.float32)
        step: tl.constexpr = 2 if LAYOUT == "fp8_pools" else 1
        where = scales[:, None] + step * group[None, :]
        byte = tl.load(cache_ptr + where, mask=keep & (group < 7)[None, :], other=0)
        scale = (byte.to(tl.int32) << 23).to(tl.float32, bitcast=True)  # of 255, a NaN: inf
        rope_pointers = _rope_pointers(at, row, col, cache_ptr, aux_ptr, LAYOUT)
        rope = tl.load(rope_pointers, mask=keep & (col >= 448)[None, :], other=0.0)
        return tl.where(plain, (q * _broadcast_scale(scale, ROWS)).to(tl.bfloat16), rope)


@triton.jit
def _byte_offsets(slot, PAGE_SIZE: tl.constexpr, LAYOUT: tl.constexpr):
    """The offsets of the rows of `slot` and of their scales, in a cache of bytes."""
    # A page size known to the compiler is a shift: 408 instructions a 16 keys on gfx950 in place of 733 with the
    # division of 64-bit slots by an argument.
    if LAYOUT == "fp8_pools":
        row = slot * 512
        return row, row + 448
    else:
        page = (slot // PAGE_SIZE) * _page_bytes(PAGE_SIZE)
        return page + slot % PAGE_SIZE * 576, page + PAGE_SIZE * 576 + slot % PAGE_SIZE * 8


@triton.jit
def _rope_pointers(slot, row, col, cache_ptr, aux_ptr, LAYOUT: tl.constexpr):
    """Pointers [ROWS, 512] to bf16, of which those of columns from 448 on are the rotary part of a row."""
    if LAYOUT == "fp8_pools":
        return aux_ptr + slot[:, None] * 64 + (col[None, :] - 448)
    else:
        # Two bytes each, counted from column 448; page and row are even.
        return cache_ptr.to(tl.pointer_type(tl.bfloat16)) + (row[:, None] // 2 + (col[None, :] - 448 + 224))


@triton.jit
def _broadcast_scale(scale, ROWS: tl.constexpr):
    # A load of one scale a column costs 512 of them and the registers of as many: 8 are spread instead.
    return tl.reshape(tl.broadcast_to(scale[:, :, None], (ROWS, 8, 64)), (ROWS, 512))


@triton.jit
def _page_bytes(PAGE_SIZE: tl.constexpr):
    return tl.cdiv(PAGE_SIZE * 584, 576) * 576


def page_bytes(page_size: int) -> int:
    """Bytes of a `fp8_584` page."""
    return triton.cdiv(page_size * 584, 576) * 576


def row_bytes(layout: str) -> int:
    """Bytes of a row with its scales, as `load_rows` reads them."""
    packed = PLAIN + 7 + 2 * (WIDTH - PLAIN)
    return {"bf16": 2 * WIDTH, "fp8": WIDTH + 4 * 8, "fp8_584": packed, "fp8_pools": packed}[layout]


def stored_bytes(layout: str) -> int:
    """Bytes of a row with its scales, as `store_rows` writes them."""
    return row_bytes(layout) + (7 if layout == "fp8_pools" else 0)


def layout_of(cache: Tensor, aux: Tensor | None) -> str:
    """The layout of a cache, by its dtype and whether it has a second tensor."""
    if cache.dtype == torch.uint8:
        return "fp8_584" if aux is None else "fp8_pools"
    return "bf16" if cache.dtype == torch.bfloat16 else "fp8"


def require_cache(
    kernel: str,
    home: Tensor,
    cache: Tensor,
    aux: Tensor | None,
    page_size: int,
    names: tuple[str, str] = ("cache", "cache_aux"),
) -> None:
    """Raise UsageError for a cache of no known layout, elsewhere than `home`, or without its second tensor."""
    name, aux_name = names
    layout = layout_of(cache, aux)
    if layout == "fp8_584":
        require(kernel, home=home, **{name: (cache, torch.uint8, (None, page_bytes(page_size)))})
    elif layout == "fp8_pools":
        require(kernel, home=home, **{name: (cache, torch.uint8, (None, WIDTH))})
    else:
        require(kernel, home=home, **{name: (cache, (torch.bfloat16, *FP8.values()), (None, WIDTH))})
    if (layout in AUX) != (aux is not None):
        raise UsageError(
            f"{kernel}: {aux_name} must be the scales of an FP8 {name} of rows of {WIDTH}, or the rotary columns of "
            f"one of bytes, and else None; got {name} {cache.dtype}, {aux_name} {'missing' if aux is None else 'given'}"
        )
    if aux is not None:
        dtype, width = AUX[layout]
        require(kernel, home=cache, **{aux_name: (aux, dtype, (cache.shape[0], width))})


def draw_cache(draw: Draw, slots: int, layout: str, page_size: int, dtype: str) -> tuple[Tensor, Tensor | None]:
    """(cache, what it has beside its rows) with room for `slots`, holding random rows. On the meta device too."""
    if layout == "bf16":
        return draw.normal((slots, WIDTH), torch.bfloat16), None
    if layout == "fp8":
        power = draw.integers((slots, 8), 120, 127, torch.int32)
        scale = power if power.is_meta else torch.exp2(power.float() - 127)
        return draw.normal((slots, WIDTH), FP8[dtype]), scale.float()
    if layout == "fp8_pools":
        cache = draw.integers((slots, WIDTH), 0, 256, torch.uint8)
        aux = draw.normal((slots, WIDTH - PLAIN), torch.bfloat16)
    else:
        cache = draw.integers((triton.cdiv(slots, page_size), page_bytes(page_size)), 0, 256, torch.uint8)
        aux = None
    if not cache.is_meta:
        plain, rope, scales = _views(cache, aux, page_size)
        plain.copy_(draw.normal(tuple(plain.shape), FP8[dtype]).view(torch.uint8))
        if aux is None:
            rope.copy_(draw.normal(tuple(rope.shape), torch.bfloat16))
        drawn = draw.integers(tuple(scales[0].shape), 120, 127, torch.uint8)
        for copy in scales:
            copy.copy_(drawn)
    return cache, aux


def _views(cache: Tensor, aux: Tensor | None, page_size: int) -> tuple[Tensor, Tensor, list[Tensor]]:
    """Views of a cache of bytes, [.., 448] FP8 bits and [.., 64] bf16, and of each copy of its e8m0 scales [.., 7]."""
    if aux is not None:
        return cache[:, :PLAIN], aux, [cache[:, PLAIN + copy : PLAIN + 14 : 2] for copy in range(2)]
    rows = cache[:, : page_size * 576].unflatten(1, (page_size, 576))
    scales = cache[:, page_size * 576 : page_size * 584].unflatten(1, (page_size, 8))
    return rows[..., :PLAIN], rows[..., PLAIN:].view(torch.bfloat16), [scales[..., :7]]


def decode_cache(cache: Tensor, aux: Tensor | None, page_size: int, dtype: str) -> Tensor:
    """float64 [slots, 512] of any layout; NaN where two copies of a scale differ."""
    layout = layout_of(cache, aux)
    if layout == "bf16":
        return cache.double()
    if layout == "fp8":
        assert aux is not None
        return cache.double() * aux.double().repeat_interleave(64, 1)
    plain, rope, scales = _views(cache, aux, page_size)
    q = plain.contiguous().view(FP8[dtype]).double()
    scale = scales[0].where(scales[0] == scales[-1], 255)  # 255 is NaN
    wide = torch.cat((q * decode_e8m0(scale, 64), rope.double()), -1)
    return wide if layout == "fp8_pools" else wide.flatten(0, 1)


def decode_written(written: Sequence[Tensor], page_size: int, dtype: str) -> Tensor:
    """float64 [slots, 512] of the cache that a launcher returned, with what it has beside its rows."""
    cache, *aux = written
    return decode_cache(cache, aux[0] if aux else None, page_size, dtype)


def expect_stored(before: Tensor, y: Tensor, error: Tensor, slots: Tensor, layout: str, dtype: str) -> Expected:
    """The decoded cache after float64 rows y [rows, 512], known within `error`, went to `slots` (-1: nowhere).

    `before` is `decode_cache` of the cache beforehand; whatever no slot names must not change at all.
    """
    value, bound = before.clone(), torch.zeros_like(before)
    keep = slots >= 0
    at, row, off = slots[keep].long(), y[keep], error[keep]
    rounded = row.abs() * 2.0**-8 + off
    if layout != "bf16":
        quantised = expect_fp8_within("cache", row, off, 64, dtype, True)[0]
        kept = row.shape[1] if layout == "fp8" else PLAIN
        row = torch.cat((quantised.value[:, :kept], row[:, kept:]), 1)
        rounded = torch.cat((quantised.bound[:, :kept], rounded[:, kept:]), 1)
    value[at], bound[at] = row, rounded
    return Expected("cache", value, bound)
