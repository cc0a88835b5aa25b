"""Steps of indexer queries and keys: rows of 128 are rotated to their position, spread by Hadamard, then quantised.

The transform is orthogonal, so that q . k is what it was; an outlier of one channel is spread over all before FP8 or
FP4 has to hold it.
"""

from __future__ import annotations

import triton
import triton.language as tl
from torch import Tensor

from autotune.kernels._quant import hadamard_matrix
from autotune.kernels._rope import load_rotation, reference_rope, rotate, rotate_halves
from autotune.kernels.indexer._index_cache import KEY


@triton.jit
def rotate_rows(x, table_ptr, position, ROWS: tl.constexpr, FIRST: tl.constexpr):
    """fp32 [ROWS, 128] rotated to its position: V4's last 64 columns, or V3.2's FIRST 64, whose pairs are halves."""
    cos, sin = load_rotation(table_ptr, position, ROWS, 128, FIRST)
    if FIRST:
        return rotate_halves(x, cos, sin, ROWS, 128)
    else:
        return rotate(x, cos, sin, ROWS, 128)


def expect_spread(x: Tensor, error: Tensor, rotation: Tensor, rope_first: bool) -> tuple[Tensor, Tensor]:
    """Rotation and transform of float64 x [..., 128] known within `error`: the value, and a kernel's error bound."""
    y = reference_rope(x, rotation, first=rope_first) @ hadamard_matrix(KEY, x.device) * KEY**-0.5
    # A rotation errs by three roundings of both of its pair; no element grows beyond both: twice the row's sum.
    # Then seven levels of sums and a product, each at most a rounding of the rotated row's sum; then bf16.
    total = x.abs().sum(-1, keepdim=True)
    off = 2 * error.sum(-1, keepdim=True) + (2 * 3 + 2 * 8) * 2.0**-24 * total
    return y, off * KEY**-0.5 + 2.0**-8 * y.abs()
