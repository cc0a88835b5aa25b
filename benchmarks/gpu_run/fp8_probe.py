"""How many bits an FP8 product keeps below its largest term, and how many terms one instruction aligns.

A row holds 16 * 16 = 2^8 and one term 2^s; the sum shows the small term or not. Sums in fp32 keep s >= 8 - 23; matrix
units that align terms to the largest and cut them off keep fewer (Hopper's wgmma is reported to keep 13 fraction bits).
Where 2^8 and -2^8 come first and the small term is lost, it lies in the instruction that aligned all three.
"""

from __future__ import annotations

from typing import Any

import torch
import triton
import triton.language as tl

_LARGE = 8
_SMALLEST = _LARGE - 23
_LOST = -12
"""Exponent of a term that units with fewer than 20 bits lose beside 2^8."""
_DEPTH = 128
"""Elements of K in one tile: four instructions of 32 on NVIDIA."""
_COLUMNS = 64


@triton.jit  # type: ignore[untyped-decorator]
def _product(a, b, out, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    rows, columns, depth = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, DEPTH)
    left = tl.load(a + rows[:, None] * DEPTH + depth[None, :])
    right = tl.load(b + columns[None, :] * DEPTH + depth[:, None])
    tl.store(out + rows[:, None] * COLUMNS + columns[None, :], tl.dot(left, right, out_dtype=tl.float32))


def bits_kept(rows: int, dtype: torch.dtype) -> int:
    """Fraction bits below the largest exponent; 23 where nothing within fp32 is lost. On Hopper tiles of 64 rows and 4
    warps are wgmma's, of 16 rows mma.sync's."""
    large = 2.0**_LARGE
    exponents = range(_LARGE - 1, _SMALLEST - 1, -1)
    kept = [_LARGE - exponent for exponent in exponents if _sum({0: large, 1: 2.0**exponent}, rows, dtype) > large]
    return max(kept, default=0)


def terms_aligned(rows: int, dtype: torch.dtype) -> int:
    """Terms that one instruction aligns with one another; 0 where it loses none of these."""
    large = 2.0**_LARGE
    lost = [p for p in range(2, _DEPTH) if _sum({0: large, 1: -large, p: 2.0**_LOST}, rows, dtype) == 0]
    return max(lost) + 1 if lost else 0


def _sum(terms: dict[int, float], rows: int, dtype: torch.dtype) -> float:
    """What a row times a column gives whose products are `terms` by place, powers of two, and 0 elsewhere."""
    a, b = torch.zeros(rows, _DEPTH), torch.zeros(_COLUMNS, _DEPTH)
    for place, value in terms.items():
        exponent = int(torch.tensor(abs(value)).log2())
        half = exponent // 2
        a[:, place], b[:, place] = 2.0**half, 2.0 ** (exponent - half) * (1 if value > 0 else -1)
    out = torch.empty(rows, _COLUMNS, device="cuda")
    launch: Any = _product[(1,)]
    operands = (matrix.to(dtype).to("cuda") for matrix in (a, b))
    launch(*operands, out, ROWS=rows, COLUMNS=_COLUMNS, DEPTH=_DEPTH, num_warps=4)
    return float(out.max())
