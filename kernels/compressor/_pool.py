"""Parts of the compressor's kernels: windows, their state, and the channel-wise softmax over a window's tokens.

A window is `ratio` tokens. At ratio 4 windows overlap: every token makes 2 d channels, the first d for the next window
and the second d for its own, and an entry pools 4 + 4 tokens. At ratio 128 they do not. The state of a request holds
the open window's tokens (its last `ratio` rows) and, with overlap, the closed window before it (the first 4): keys, and
scores with the positional term already added. Rows of windows before the first token may hold any bits, and those of
the open window that its tokens have not reached: none is read. NaN in a token makes the entries that pool it NaN.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config, Problem
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Expected, Work
from autotune.kernels._problem import at_least, power_of_two
from autotune.kernels._rows import row_config

OVERLAP_RATIO = 4


@triton.jit
def softmax_pool(kv, score):
    """Sum over rows of kv [N, D] weighted by the softmax of score [N, D] along them; rows of -inf count for nothing."""
    peak = tl.max(score, axis=0)
    p = tl.exp(score - tl.where(peak == float("-inf"), 0.0, peak)[None, :])
    below = tl.sum(p, axis=0)
    return tl.sum(p * kv, axis=0) / tl.where(below > 0, below, 1.0)


def check_window(problem: object) -> None:
    """Raise ValueError unless `ratio` and `d` of a problem make a window."""
    at_least(problem, ratio=2, d=16)
    power_of_two(problem, "ratio")


def window_of(ape: Tensor) -> tuple[int, int]:
    """Return (ratio, d) of the positional terms [ratio, channels]."""
    ratio, wide = ape.shape
    return ratio, wide // 2 if ratio == OVERLAP_RATIO else wide


def channels(ratio: int, d: int) -> int:
    """Channels of a token's keys, and of its scores."""
    return 2 * d if ratio == OVERLAP_RATIO else d


def state_rows_of(ratio: int) -> int:
    """Rows of a request's state."""
    return 2 * ratio if ratio == OVERLAP_RATIO else ratio


def draw_state(draw: Draw, positions: Tensor, ratio: int, d: int) -> tuple[Tensor, Tensor]:
    """(kv_state, score_state) fp32 [n, rows, channels] of requests that are at `positions`."""
    shape = (positions.shape[0], state_rows_of(ratio), channels(ratio, d))
    kv, score = draw.normal(shape, torch.float32), draw.normal(shape, torch.float32)
    if ratio == OVERLAP_RATIO and not kv.is_meta:
        first = positions.long() < ratio  # no window was closed yet: whatever lies there
        kv[first, :ratio], score[first, :ratio] = float("nan"), float("inf")
    return kv, score


def expect_pooled(kv: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """Value and bound, float64 [d], of pooling rows kv, score [n, d]."""
    # Without any row the softmax of nothing is NaN, and the entry zeros.
    some = (score > float("-inf")).any(0) | score.isnan().any(0)
    weights = torch.where(some, torch.softmax(score, 0), 0.0)
    # exp of differences of scores that were rounded once, n terms added in fp32 above and below.
    finite = torch.where(score == float("-inf"), 0.0, score).abs().amax(0)
    relative = finite * 2.0**-21 + (2 * kv.shape[0] + 8) * 2.0**-24
    return (weights * kv).sum(0), (weights * kv.abs()).sum(0) * relative


def unchanged(name: str, state: Tensor) -> Expected:
    """`state` as it was: to be changed where a kernel writes."""
    value = state.double()
    return Expected(name, value, torch.zeros_like(value))


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
