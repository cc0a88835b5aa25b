"""Host parts of all attention kernels: their problem, index lists of keys, and the reference."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor

from autotune.inputs import Draw
from autotune.kernel import Expected
from autotune.kernels._problem import Sizes
from autotune.kernels.attention._softmax import WIDTH

_CHUNK = 2**27
"""Elements of the keys that a reference takes at a time, some tokens' of them: 1 GB in float64."""
PATTERNS = ("full", "short", "holes", "none", "clustered")
"""Index lists: all keys there; tails of -1; -1 anywhere; every second list empty; runs of RUN neighbours."""
RUN = 64


@dataclass(frozen=True)
class Attention(Sizes):
    """Queries of `tokens` and `heads` over `keys`."""

    tokens: int
    heads: int
    keys: int

    VARYING: ClassVar[tuple[str, ...]] = ("tokens", "keys")


def draw_indices(draw: Draw, shape: tuple[int, int], slots: int, pattern: str, requests: int = 1) -> Tensor:
    """int32 [tokens, keys], patterned, of the `slots` that each of `requests` has, one's behind another's; distinct for
    a token where there are enough. `clustered`: runs of RUN neighbours, as pages of a request lie."""
    indices = _scattered(draw, shape, slots)
    if indices.is_meta:
        return indices
    indices = _patterned(draw, indices, slots, pattern)
    first = torch.arange(shape[0], device=indices.device)[:, None] % requests * slots
    return torch.where(indices < 0, indices, indices + first).int()


def _scattered(draw: Draw, shape: tuple[int, int], slots: int) -> Tensor:
    """One slot of each of as many neighbourhoods as there are keys, these in an order of their own."""
    width = slots // shape[1]
    if width < 2:
        return draw.integers(shape, 0, slots, torch.int32)
    within = draw.integers(shape, 0, width, torch.int32)
    if within.is_meta:
        return within
    order = draw.uniform((shape[1],), 0, 1).argsort(stable=True)
    return order * width + within


def _patterned(draw: Draw, indices: Tensor, slots: int, pattern: str) -> Tensor:
    shape = tokens, keys = indices.shape
    if pattern == "full":
        return indices
    if pattern == "clustered":
        place = torch.arange(keys, device=indices.device)
        return (indices[:, place // RUN * RUN] + place % RUN) % slots
    if pattern == "short":
        length = draw.integers((tokens, 1), 0, keys + 1, torch.int32)
        return torch.where(torch.arange(keys, device=indices.device) < length, indices, -1)
    if pattern == "holes":
        return torch.where(draw.integers(shape, 0, 3, torch.int32) == 0, -1, indices)
    return torch.where(torch.arange(tokens, device=indices.device)[:, None] % 2 == 0, -1, indices)


def expect_attention(q: Tensor, keys: Tensor, seen: Tensor, scale: float, sink: Tensor | None) -> tuple[Expected, ...]:
    """q float64 [T, H, D], keys [T, K, D] (values are their first 512 columns), seen bool [T, K], sink [H] or None."""
    chunk = max(1, _CHUNK // (keys.shape[1] * keys.shape[2]))
    if q.shape[0] <= chunk:
        return (_expect_chunk(q, keys, seen, scale, sink),)
    chunks = zip(q.split(chunk), keys.split(chunk), seen.split(chunk), strict=True)
    parts = [_expect_chunk(*tensors, scale, sink) for tensors in chunks]
    return (Expected("o", torch.cat([part.value for part in parts]), torch.cat([part.bound for part in parts])),)


def _expect_chunk(q: Tensor, keys: Tensor, seen: Tensor, scale: float, sink: Tensor | None) -> Expected:
    scores = torch.einsum("thd,tkd->thk", q, keys) * scale
    there = seen[:, None, :].expand_as(scores)
    logits = torch.where(there, scores, float("-inf"))
    if sink is not None:
        logits = torch.cat((logits, sink.double()[None, :, None].expand(*logits.shape[:2], 1)), 2)
    # Without any key and sink the softmax of nothing is NaN, and the output zeros.
    some = (logits > float("-inf")).any(2, keepdim=True) | logits.isnan().any(2, keepdim=True)
    weights = torch.where(some, torch.softmax(logits, 2), 0.0)[..., : keys.shape[1]]
    # A key that is not in a list is not read: 0 x NaN would be NaN.
    keys = torch.where(seen[:, :, None], keys, 0.0)
    values = keys[..., :WIDTH]
    value = torch.einsum("thk,tkd->thd", weights, values)
    # D exact products in fp32, then a scaled argument of exp2: what each score may be off by, at worst.
    magnitude = torch.einsum("thd,tkd->thk", q.abs(), keys.abs()) * scale
    off = torch.where(there, (q.shape[2] + 4) * 2.0**-24 * magnitude, 0.0).amax(2, keepdim=True) + 2.0**-20
    # Numerator and denominator both move by it; p is rounded to bf16 in the numerator; sums of K in fp32; bf16 out.
    spread = torch.einsum("thk,tkd->thd", weights, values.abs())
    relative = torch.expm1(2 * off) + 2.0**-8 + 2 * keys.shape[1] * 2.0**-24
    return Expected("o", value, spread * relative + 2.0**-8 * value.abs())
