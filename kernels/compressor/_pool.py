"""Pooling of a window's tokens, a channel-wise softmax: device code, its reference, and the rules of tiles."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config, Problem
from autotune.device import Device
from autotune.kernel import Work
from autotune.kernels._rows import row_config
from autotune.kernels.compressor._windows import Windows, state_rows_of


@triton.jit
def softmax_pool(kv, score):
    """Sum over rows of kv [N, D] weighted by the softmax of score [N, D] along them; rows of -inf count for nothing."""
    peak = tl.max(score, axis=0)
    p = tl.exp(score - tl.where(peak == float("-inf"), 0.0, peak)[None, :])
    below = tl.sum(p, axis=0)
    return tl.sum(p * kv, axis=0) / tl.where(below > 0, below, 1.0)


def expect_pooled(kv: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """Value and bound, float64 [d], of pooling rows kv, score [n, d]."""
    # Without any row the softmax of nothing is NaN, and the entry zeros.
    some = (score > float("-inf")).any(0) | score.isnan().any(0)
    weights = torch.where(some, torch.softmax(score, 0), 0.0)
    # exp of differences of scores that were rounded once, n terms added in fp32 above and below.
    finite = torch.where(score == float("-inf"), 0.0, score).abs().amax(0)
    relative = finite * 2.0**-21 + (2 * kv.shape[0] + 8) * 2.0**-24
    return (weights * kv).sum(0), (weights * kv.abs()).sum(0) * relative


def entry_default(problem: Windows, device: Device) -> Config:
    """Default config of programs that pool a window over a stretch of the entry's channels."""
    return pool_config(state_rows_of(problem.ratio), problem.d, device)


def entry_reject(problem: Windows, config: Config, device: Device) -> str | None:
    """Reason why the config cannot pool the problem's windows, or None."""
    return pool_reject(state_rows_of(problem.ratio), problem.d, config, device)


def pool_config(rows: int, columns: int, device: Device) -> Config:
    """Default config for tiles of `rows` tokens over `columns` channels."""
    block = min(triton.next_power_of_2(columns), 128 if rows <= 8 else 32)
    return row_config({"BLOCK_D": block, "num_warps": 1 if rows <= 8 else 4}, device)


def pool_reject(rows: int, columns: int, config: Config, device: Device) -> str | None:
    """Reason why a tile of `rows` tokens, keys and scores live at once, does not suit the config, or None."""
    block, threads = config.size("BLOCK_D"), config.size("num_warps") * device.warp_size
    if block >= 2 * columns:
        return f"BLOCK_D={block} is at least twice the {columns} channels"
    if rows * block > 64 * threads:
        return f"{rows * block // threads} keys and as many scores a thread do not fit in registers"
    if rows * block < threads:
        return f"{threads} threads for {rows * block} values leave threads idle"
    return None


def pool_work(problem: Problem, entries: int, columns: int, config: Config, more_bytes: int = 0) -> Work:
    """Work of a program for a stretch of `columns` of one of `entries`; `more_bytes` an entry come from L2."""
    blocks = triton.cdiv(columns, config.size("BLOCK_D"))
    return Work(
        programs=entries * blocks,
        flops_per_program=problem.flops / entries / blocks,
        bytes_per_program=(problem.bytes_moved / entries + more_bytes) / blocks,
        unique_bytes=problem.bytes_moved,
        iterations=2,
    )
