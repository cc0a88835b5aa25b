"""How many bits an FP8 product keeps below its largest term, and how many terms one instruction aligns.

A sum of 16 * 16 = 2^8 and one term 2^e shows the small term or not. Sums in fp32 keep e >= 8 - 23; matrix units that
align terms to the largest and cut them off keep fewer (Hopper's wgmma is reported to keep 13 fraction bits). Where 2^8
and -2^8 come first and the small term is lost, it lies in the instruction that aligned all three.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import triton
import triton.language as tl

_LARGE = 8
_SMALLEST = _LARGE - 23
_DEPTH = 128
"""Elements of K in one tile: four instructions of 32 on NVIDIA."""
_COLUMNS = 128

Terms = dict[int, tuple[float, float]]
"""Both factors of a product by its place along K; the first factors are the same in all columns."""
_FIRST: Terms = {0: (16.0, 16.0)}


@triton.jit  # type: ignore[untyped-decorator]
def _product(a, b, out, ROWS: tl.constexpr, COLUMNS: tl.constexpr, DEPTH: tl.constexpr):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202
    rows, columns, depth = tl.arange(0, ROWS), tl.arange(0, COLUMNS), tl.arange(0, DEPTH)
    left = tl.load(a + rows[:, None] * DEPTH + depth[None, :])
    right = tl.load(b + columns[None, :] * DEPTH + depth[:, None])
    tl.store(out + rows[:, None] * COLUMNS + columns[None, :], tl.dot(left, right, out_dtype=tl.float32))


def bits_kept(rows: int, dtype: torch.dtype, where: str) -> int:
    """Fraction bits kept below the largest exponent, of a tile of `rows` on the device `where`; 23 where nothing within
    fp32 is lost. On Hopper tiles of 64 rows and 4 warps are wgmma's, of 16 rows mma.sync's."""
    exponents = range(_LARGE - 1, _SMALLEST - 1, -1)
    # FP8 holds no power of two below 2^-9: small terms have another first factor.
    columns = [_FIRST | ({1: (1.0, 2.0**e)} if e >= 0 else {2: (2.0**-8, 2.0 ** (e + 8))}) for e in exponents]
    sums = _sums(columns, rows, dtype, where)
    return max((_LARGE - e for e, total in zip(exponents, sums, strict=True) if total > 2.0**_LARGE), default=0)


def terms_aligned(rows: int, dtype: torch.dtype, where: str) -> int:
    """Terms that one instruction aligns with one another; 0 where nothing is lost."""
    places = range(2, _DEPTH)
    columns = [_FIRST | {1: (16.0, -16.0), place: (2.0**-6, 2.0**-6)} for place in places]
    sums = _sums(columns, rows, dtype, where)
    return max((place + 1 for place, total in zip(places, sums, strict=True) if total == 0), default=0)


def _sums(columns: Sequence[Terms], rows: int, dtype: torch.dtype, where: str) -> list[float]:
    """Return the sum of each column's terms as a tile computes it; all its rows are the same."""
    a, b = torch.zeros(rows, _DEPTH), torch.zeros(_COLUMNS, _DEPTH)
    for column, terms in enumerate(columns):
        for place, (left, right) in terms.items():
            a[:, place], b[column, place] = left, right
    out = torch.empty(rows, _COLUMNS, device=where)
    operands = (matrix.to(dtype).to(where) for matrix in (a, b))
    launch: Any = _product[(1,)]
    launch(*operands, out, ROWS=rows, COLUMNS=_COLUMNS, DEPTH=_DEPTH, num_warps=4)
    sums: list[float] = out[0, : len(columns)].tolist()
    return sums
