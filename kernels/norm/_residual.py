"""The residual add in front of a norm: device code, and the sum that a reference norms."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor


@triton.jit
def load_sum(x_ptr, residual_ptr, offs, mask, HAS_RESIDUAL: tl.constexpr):
    """fp32 of bf16 x, or of x + residual rounded to bf16."""
    h = tl.load(x_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    if HAS_RESIDUAL:
        # The sum is stored in bf16 and normed as stored, so that the next layer sees what this one normed.
        # DeepSeek-V3.2-Exp norms the fp32 sum and rounds only what it stores: up to 5.3e-3 apart.
        h += tl.load(residual_ptr + offs, mask=mask, other=0.0).to(tl.float32)
        h = h.to(tl.bfloat16).to(tl.float32)
    return h


def add_residual(x: Tensor, residual: Tensor | None) -> Tensor:
    """float64 of what `load_sum` loads, to the last bit.

    Two bf16 numbers add exactly in fp32 unless the smaller is below 2^-16 of the larger, which it then leaves as it is.
    """
    wide = x.double()
    return wide if residual is None else (wide + residual.double()).to(torch.bfloat16).double()
