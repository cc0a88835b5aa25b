"""Device parts of indexer logits, whether keys lie in one tensor or in pages: sum over heads of relu(q_h . k) w_h.

Keys are the rows of the products and all heads of a few tokens their columns: whole matrix instructions of 128 rows
even for one token, and sums over heads that stay within a row.
"""

from __future__ import annotations

import triton
import triton.language as tl

from autotune.kernels._quant import e8m0_broadcast, fp4_decode


@triton.jit
def load_queries(q_ptr, q_scale_ptr, row, inside, N: tl.constexpr, FP4: tl.constexpr, NATIVE: tl.constexpr):
    """Rows [N] as columns: FP8 [128, N]; FP4 packed [64, N] with scales [N, 4], or widened to bf16 [128, N]."""
    row = tl.where(inside, row, 0)
    if FP4:
        scale = tl.load(q_scale_ptr + row[:, None] * 4 + tl.arange(0, 4)[None, :])
        half = tl.arange(0, 64)
        if NATIVE:
            return tl.load(q_ptr + row[None, :] * 64 + half[:, None]), scale
        else:
            packed = tl.load(q_ptr + row[:, None] * 64 + half[None, :])
            wide = (fp4_decode(packed, N, 128) * e8m0_broadcast(scale, N, 128)).to(tl.bfloat16)
            return tl.trans(wide), scale
    else:
        return tl.load(q_ptr + row[None, :] * 128 + tl.arange(0, 128)[:, None]), 0


@triton.jit
def tile_logits(
    k, k_scale, q, q_scale, weight,
    BLOCK_N: tl.constexpr, BLOCK_T: tl.constexpr, HEADS: tl.constexpr, FP4: tl.constexpr, NATIVE: tl.constexpr,
):  # fmt: skip
    """fp32 [BLOCK_N, BLOCK_T] of keys [BLOCK_N, 128] and the queries that `load_queries` brought."""
    if FP4:
        if NATIVE:
            dots = tl.dot_scaled(k, k_scale, "e2m1", q, q_scale, "e2m1")
        else:
            wide = (fp4_decode(k, BLOCK_N, 128) * e8m0_broadcast(k_scale, BLOCK_N, 128)).to(tl.bfloat16)
            dots = tl.dot(wide, q)
    else:
        dots = tl.dot(k, q)
    weighted = tl.maximum(dots, 0.0) * weight[None, :]
    logits = tl.sum(tl.reshape(weighted, (BLOCK_N, BLOCK_T, HEADS)), axis=2)
    if not FP4:
        logits *= k_scale[:, None]
    return logits
