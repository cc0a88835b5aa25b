"""Loops of matrix instructions that read no memory: how fast the matrix units of a GPU are."""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit(do_not_specialize=["loops"])
def multiply(out_ptr, a_ptr, b_ptr, loops, BLOCK: tl.constexpr):
    """Add the product of the same two tiles `loops` times: no memory is read between matrix instructions."""
    row, col = tl.arange(0, BLOCK), tl.arange(0, BLOCK)
    at = row[:, None] * BLOCK + col[None, :]
    a, b = tl.load(a_ptr + at), tl.trans(tl.load(b_ptr + at))
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for _ in range(loops):
        total = tl.dot(a, b, total)
    tl.store(out_ptr + tl.program_id(0).to(tl.int64) * BLOCK * BLOCK + at, total)


@triton.jit(do_not_specialize=["loops"])
def multiply_fp4(out_ptr, a_ptr, b_ptr, loops, BLOCK: tl.constexpr):
    """Add the product of the same two tiles of packed e2m1 `loops` times; their e8m0 scales are one."""
    row, col = tl.arange(0, BLOCK), tl.arange(0, BLOCK)
    packed = row[:, None] * (BLOCK // 2) + tl.arange(0, BLOCK // 2)[None, :]
    a, b = tl.load(a_ptr + packed), tl.trans(tl.load(b_ptr + packed))
    scale = tl.full((BLOCK, BLOCK // 32), 127, tl.uint8)
    total = tl.zeros((BLOCK, BLOCK), tl.float32)
    for _ in range(loops):
        total = tl.dot_scaled(a, scale, "e2m1", b, scale, "e2m1", total)
    tl.store(out_ptr + tl.program_id(0).to(tl.int64) * BLOCK * BLOCK + row[:, None] * BLOCK + col[None, :], total)
