"""Host parts of indexer logits, sum over heads of relu(q_h . k) w_h: queries, their checks, the reference, rules."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import triton
from torch import Tensor

from autotune.arch import Accumulation
from autotune.config import Config, Scalar
from autotune.device import Device
from autotune.errors import UsageError
from autotune.inputs import FP8, Draw
from autotune.kernel import Expected
from autotune.kernels._launch import matrix_config, require
from autotune.kernels._problem import Sizes, at_least, one_of, power_of_two
from autotune.kernels._quant import decode_e8m0, decode_fp4
from autotune.kernels._rows import fp8_reject
from autotune.kernels._truncation import combined, dot_truncation

KEY = 128


@dataclass(frozen=True)
class Queries(Sizes):
    """Queries of `tokens` with `heads`, a power of two from 8: the columns of the products.

    Subclasses add the keys, `fp4`, `dtype`, and `pattern`, one of PATTERNS: which keys are valid.
    """

    tokens: int
    heads: int

    DRAWN: ClassVar[tuple[str, ...]] = ("dtype", "pattern")
    PATTERNS: ClassVar[tuple[str, ...]]

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, pattern=self.PATTERNS)
        at_least(self, heads=8)
        power_of_two(self, "heads")


def draw_rows(draw: Draw, shape: tuple[int, ...], fp4: bool, dtype: str) -> Tensor:
    """Quantised rows [*shape, 128]."""
    if fp4:
        return draw.integers((*shape, KEY // 2), 0, 256, torch.uint8)
    return draw.normal((*shape, KEY), FP8[dtype])


def draw_queries(draw: Draw, shape: tuple[int, int], fp4: bool, dtype: str) -> tuple[Tensor, Tensor | None, Tensor]:
    """(q, q_scale, weights) of [tokens, heads]."""
    scale = draw.integers((*shape, 4), 122, 128, torch.uint8) if fp4 else None
    return draw_rows(draw, shape, fp4, dtype), scale, draw.normal(shape, torch.float32, KEY**-0.5)


def require_queries(kernel: str, q: Tensor, q_scale: Tensor | None, weights: Tensor) -> tuple[int, int]:
    """(tokens, heads). Raises UsageError for queries that are neither FP8 nor FP4 with scales."""
    fp4 = q_scale is not None
    kinds = (torch.uint8,) if fp4 else tuple(FP8.values())
    require(kernel, q=(q, kinds, (None, None, KEY // 2 if fp4 else KEY)))
    tokens, heads, _ = q.shape
    if heads < 8 or heads & (heads - 1):
        raise UsageError(f"{kernel}: q must have a power of two of heads, 8 or more, got {heads}")
    require(kernel, home=q, weights=(weights, torch.float32, (tokens, heads)))
    if q_scale is not None:
        require(kernel, home=q, q_scale=(q_scale, torch.uint8, (tokens, heads, 4)))
    return tokens, heads


def wide_rows(rows: Tensor, scale: Tensor | None) -> Tensor:
    """float64 values of FP8 rows, or of FP4 ones with their e8m0 scales."""
    return rows.double() if scale is None else decode_fp4(rows) * decode_e8m0(scale)


def expect_logits(q: Tensor, q_scale: Tensor | None, weights: Tensor, k: Tensor, valid: Tensor) -> Expected:
    """Expected logits of the queries and float64 k [keys or tokens, keys, 128] scaled, valid bool [tokens, keys]."""
    q = wide_rows(q, q_scale)
    # A product that is NaN counts as 0: maxima of GPUs leave NaN out, here as in DeepGEMM.
    q, k = (torch.where(rows.isnan().any(-1, keepdim=True), 0.0, rows) for rows in (q, k))
    keys = k if k.ndim == 3 else k.expand(q.shape[0], -1, -1)
    w = weights.double()[:, :, None]
    value = (torch.relu(q @ keys.mT) * w).sum(1)
    # Products are exact; sums over 128 columns and over heads, the weight and the scale of the key round in fp32.
    rounded = (KEY + q.shape[1] + 2) * 2.0**-24 * ((q.abs() @ keys.abs().mT) * w.abs()).sum(1)

    def cut(sums: Accumulation, independent: bool) -> Tensor:
        square, worst = dot_truncation(q, keys, sums)
        heads = w * (q @ keys.mT > -worst)  # a product that stays below zero adds nothing, however it errs
        error = combined((square * heads.square()).sum(1), (worst * heads.abs()).sum(1), independent)
        return torch.where(valid, error, 0.0)

    in_fp8 = cut if q_scale is None else None
    return Expected("logits", torch.where(valid, value, float("-inf")), torch.where(valid, rounded, 0.0), in_fp8)


def logits_config(tokens: int, keys: int, heads: int, device: Device, *, block_t: int = 1, **shared: Scalar) -> Config:
    """Default config: tiles of 128 keys by the heads of `block_t` tokens, and the tiles that a program walks (STEPS).

    STEPS is the largest that leaves two programs for every compute unit.
    """
    rows, tiles, enough = triton.cdiv(tokens, block_t), triton.cdiv(keys, 128), 2 * device.compute_units
    walks = (s for s in (1, 2, 4, 8, 16) if s <= tiles and rows * triton.cdiv(tiles, s) >= enough)
    warps = 4 if block_t * heads <= 64 else 8
    return matrix_config({**shared, "BLOCK_N": 128, "STEPS": max(walks, default=1), "num_warps": warps}, device)


def logits_reject(keys: int, columns: int, fp4: bool, dtype: str, config: Config, device: Device) -> str | None:
    """Why tiles of BLOCK_N keys by `columns` queries cannot run, or would certainly be slow."""
    block, threads = config.size("BLOCK_N"), config.size("num_warps") * device.warp_size
    if block * columns > 128 * threads:
        return f"{block * columns // threads} fp32 products a thread do not fit beside their operands"
    if block * columns < 8 * threads:
        return f"{threads} threads for {block * columns} products leave threads idle"
    if block * (config.size("STEPS") - 1) >= max(keys, 1):
        return f"STEPS={config['STEPS']} tiles of {block} are more than {keys} keys"
    # Widened, FP4 is bf16 in shared memory, keys or queries at a time; as it came, in every stage.
    row = KEY // 2 if fp4 else KEY
    wide = 2 * KEY if fp4 and not device.has_native_fp4 else row
    needed = max(columns, block) * wide + block * row * max(0, config.size("num_stages") - 2)
    if needed > device.shared_bytes_per_block:
        return f"{needed} B of queries and keys exceed {device.shared_bytes_per_block} B of shared memory"
    return format_reject(fp4, dtype, device)


def format_reject(fp4: bool, dtype: str, device: Device) -> str | None:
    """Reason why keys in FP8 of `dtype` cannot be read on the device, or None; FP4 is read everywhere."""
    return None if fp4 else fp8_reject(dtype, device)
