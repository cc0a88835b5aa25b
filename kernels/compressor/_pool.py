"""What the compressor's kernels share: windows, their state, and the channel-wise softmax over a window's tokens.

A window is `ratio` tokens. At ratio 4 windows overlap: every token makes 2 d channels, the first d for the next window
and the second d for its own, and an entry pools 4 + 4 tokens. At ratio 128 they do not. The state of a request holds
the open window's tokens (its last `ratio` rows) and, with overlap, the closed window before it (the first 4): keys, and
scores with the positional term already added. Before the first token keys are 0 and scores -inf.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Expected
from autotune.kernels._rows import row_config

OVERLAP_RATIO = 4


@triton.jit
def softmax_pool(kv, score):
    """Sum over rows of kv [N, D] weighted by the softmax of score [N, D] along them; rows of -inf count for nothing."""
    peak = tl.max(score, axis=0)
    p = tl.exp(score - tl.where(peak == float("-inf"), 0.0, peak)[None, :])
    below = tl.sum(p, axis=0)
    return tl.sum(p * kv, axis=0) / tl.where(below > 0, below, 1.0)


def channels(ratio: int, d: int) -> int:
    """Channels of a token's keys, and of its scores."""
    return 2 * d if ratio == OVERLAP_RATIO else d


def state_rows_of(ratio: int) -> int:
    """Rows of a request's state."""
    return 2 * ratio if ratio == OVERLAP_RATIO else ratio


def check_sizes(sizes: tuple[int, ...], ratio: int, d: int) -> None:
    """Raises ValueError."""
    if min(sizes) < 1 or d < 16 or ratio < 2 or ratio & (ratio - 1):
        raise ValueError(f"sizes must be positive, d at least 16, ratio a power of two; got {sizes}, {ratio}, {d}")


def draw_state(draw: Draw, positions: Tensor, ratio: int, d: int) -> tuple[Tensor, Tensor]:
    """(kv_state, score_state) fp32 [n, rows, channels] of requests that are at `positions`."""
    shape = (positions.shape[0], state_rows_of(ratio), channels(ratio, d))
    kv, score = draw.normal(shape, torch.float32), draw.normal(shape, torch.float32)
    if ratio == OVERLAP_RATIO and not kv.is_meta:
        first = positions.long() < ratio  # no window was closed yet
        kv[first, :ratio], score[first, :ratio] = 0.0, float("-inf")
    return kv, score


def expect_pooled(kv: Tensor, score: Tensor) -> tuple[Tensor, Tensor]:
    """Value and bound, float64 [d], of pooling rows kv, score [n, d]."""
    weights = torch.softmax(score, 0).nan_to_num(0.0)
    # exp of differences of scores that were rounded once, n terms added in fp32 above and below.
    finite = torch.where(score == float("-inf"), 0.0, score).abs().amax(0)
    relative = finite * 2.0**-21 + (2 * kv.shape[0] + 8) * 2.0**-24
    return (weights * kv).sum(0), (weights * kv.abs()).sum(0) * relative


def unchanged(name: str, state: Tensor) -> Expected:
    """`state` as it was: to be changed where a kernel writes. -inf is not a distance, so it stands for -1e30."""
    value = readable(state)
    return Expected(name, value, torch.zeros_like(value))


def readable(state: Tensor) -> Tensor:
    return state.double().clamp_min(-1e30)


def pool_config(d: int, device: Device, rows: int) -> Config:
    block = min(triton.next_power_of_2(d), 128 if rows <= 8 else 32)
    return row_config({"BLOCK_D": block, "num_warps": 1 if rows <= 8 else 4}, device)


def pool_reject(rows: int, d: int, config: Config, device: Device) -> str | None:
    """`rows` of a tile are live at once, keys and scores."""
    block, threads = config.size("BLOCK_D"), config.size("num_warps") * device.warp_size
    if block >= 2 * d:
        return f"BLOCK_D={block} is at least twice the {d} channels"
    if rows * block > 64 * threads:
        return f"{rows * block // threads} keys and as many scores a thread do not fit in registers"
    if rows * block < threads:
        return f"{threads} threads for {rows * block} values leave threads idle"
    return None
