"""The indexer's key cache: pages of uint8, first the keys of the page, 128 B (FP8) or 64 B (FP4) each, then 4 B of
scales for each: one fp32 (FP8) or four e8m0 (FP4). A slot is page * page_size + row.
"""

from __future__ import annotations

import torch
from torch import Tensor

from autotune.draw import FP8, Draw
from autotune.kernels._quant import decode_e8m0, decode_fp4

WIDTH = 128


def page_bytes(page_size: int, fp4: bool) -> int:
    return page_size * ((WIDTH // 2 if fp4 else WIDTH) + 4)


def views(cache: Tensor, page_size: int, fp4: bool) -> tuple[Tensor, Tensor]:
    """Views of keys uint8 [pages, page_size, 128 or 64] and of their scales uint8 [.., 4]."""
    wide = WIDTH // 2 if fp4 else WIDTH
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


def decode_scales(cache: Tensor, page_size: int, fp4: bool) -> Tensor:
    """float64 [slots, 1] (FP8) or [slots, 4] (FP4)."""
    scales = views(cache, page_size, fp4)[1].flatten(0, 1).contiguous()
    return torch.exp2(scales.double() - 127) if fp4 else scales.view(torch.float32).double()


def decode_keys(cache: Tensor, page_size: int, fp4: bool, dtype: str) -> Tensor:
    """float64 [slots, 128]."""
    keys, scales = (part.flatten(0, 1).contiguous() for part in views(cache, page_size, fp4))
    if fp4:
        return decode_fp4(keys) * decode_e8m0(scales)
    return keys.view(FP8[dtype]).double() * scales.view(torch.float32).double()
