"""What the pooling kernels share: the state between steps, the softmax of a channel over tokens, how chunks are drawn.

A window of `ratio` tokens pools into one entry. Windows of 4 overlap (coff = 2): a token brings 2 d channels, of which
the first d serve the next window and the last d its own. The state of a request holds, with `ape` added to scores, the
tokens of the open window (rows p % ratio; behind `ratio` where windows overlap), and before them, where windows
overlap, those of the window that closed last. The first window has no predecessor whatever the state holds, and rows of
tokens yet to come are never read: a state needs no clearing between requests.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.draw import Draw
from autotune.errors import UsageError
from autotune.kernel import Expected
from autotune.kernels._launch import require
from autotune.kernels._rows import row_config, row_reject

OVERLAPPING = 4
"""The ratio whose windows overlap."""
FLOOR = -1e30
"""Stands for a score of -inf in comparisons, where inf - inf would be NaN."""


@triton.jit
def absorb(top, total, acc, score, kv):
    """Tokens [ROWS, BLOCK] join the running softmax of each channel; `top` is finite: start from a token."""
    higher = tl.maximum(top, tl.max(score, axis=0))
    keep = tl.exp(top - higher)
    weight = tl.exp(score - higher[None, :])
    return higher, total * keep + tl.sum(weight, axis=0), acc * keep + tl.sum(weight * kv, axis=0)


def coff_of(ratio: int) -> int:
    """Halves of channels that a token brings."""
    return 2 if ratio == OVERLAPPING else 1


def check_window(ratio: int, d: int) -> None:
    """Raises ValueError, for problems."""
    if ratio < 4 or ratio & (ratio - 1) or d < 32 or d & (d - 1):
        raise ValueError(f"ratio must be a power of two from 4, d one from 32; got {ratio}, {d}")


def require_state(kernel: str, x: Tensor, ape: Tensor, kv_state: Tensor, score_state: Tensor) -> tuple[int, int, int]:
    """(ratio, coff, d). Raises UsageError where shapes or dtypes disagree."""
    require(kernel, ape=(ape, torch.float32, (None, None)), kv_state=(kv_state, torch.float32, (None, None, None)))
    ratio, width = ape.shape
    coff = kv_state.shape[1] // ratio
    d = width // max(coff, 1)
    if coff not in (1, 2) or d & (d - 1) or ratio & (ratio - 1):
        raise UsageError(
            f"{kernel}: kv_state must be [states, coff * ratio, coff * d], ape [ratio, coff * d], coff 1 or 2, ratio "
            f"and d powers of two; got {list(kv_state.shape)}, {list(ape.shape)}"
        )
    state = (kv_state.shape[0], coff * ratio, width)
    require(
        kernel,
        x=(x, torch.float32, (None, 2 * width)),
        ape=(ape, torch.float32, (ratio, width)),
        kv_state=(kv_state, torch.float32, state),
        score_state=(score_state, torch.float32, state),
    )
    return ratio, coff, d


def draw_state(draw: Draw, states: int, ratio: int, d: int) -> tuple[Tensor, Tensor]:
    shape = (states, coff_of(ratio) * ratio, coff_of(ratio) * d)
    return draw.normal(shape, torch.float32), draw.normal(shape, torch.float32)


def draw_chunks(draw: Draw, tokens: int, requests: int, most_before: int) -> tuple[Tensor, Tensor, Tensor]:
    """(starts, lengths, offsets) int32 [requests]: `tokens` in ragged parts, some empty, of requests at any position.

    A request has at most `most_before` tokens before the chunk.
    """
    starts = draw.integers((requests,), 0, most_before + 1, torch.int32)
    cuts = draw.integers((requests - 1,), 0, tokens + 1, torch.int32).sort().values
    edge = torch.zeros(1, dtype=torch.int32, device=cuts.device)
    offsets = torch.cat((edge, cuts))
    return starts, torch.cat((cuts, edge + tokens)) - offsets, offsets


def row_of(position: int, start: int, ratio: int) -> int:
    """The state row that holds the token at `position` when `start` tokens have been seen."""
    is_open = position // ratio == start // ratio
    return position % ratio + (ratio if is_open and ratio == OVERLAPPING else 0)


def expect_pooled(kv: Tensor, score: Tensor) -> Expected:
    """float64 softmax of scores over tokens, applied to kv: [..., tokens, d] -> [..., d]."""
    weight = torch.softmax(score, -2)
    tokens = score.shape[-2]
    # An exponent errs by one rounding of the score and, because the running maximum only grows, by three of twice the
    # largest score (differences, base change); exp by 2^-22, at most once a token; sums by one rounding a token.
    largest = torch.where(score.isinf(), 0.0, score.abs()).amax(-2)
    relative = (7 * largest + 5 * tokens + 8) * 2.0**-24
    # Numerator and denominator err alike.
    return Expected("pooled", (weight * kv).sum(-2), 2 * relative * (weight * kv.abs()).sum(-2))


def pool_config(ratio: int, d: int, device: Device) -> Config:
    """Windows of 4 are one tile; long ones are cut into narrow strips of channels, so that few windows fill a GPU."""
    if ratio <= 16:
        block = min(d, 256)
        return row_config({"ROWS": ratio, "BLOCK": block, "num_warps": max(1, block // 128)}, device)
    return row_config({"ROWS": 32, "BLOCK": min(d, 64), "num_warps": 4}, device)


def pool_reject(ratio: int, width: int, config: Config, device: Device) -> str | None:
    """Why tiles of ROWS tokens and BLOCK channels do not suit windows of `ratio` and `width` channels."""
    rows, block = config.size("ROWS"), config.size("BLOCK")
    if rows > ratio:
        return f"ROWS={rows} is more than the {ratio} tokens of a window"
    if block > width:
        return f"BLOCK={block} is more than the {width} channels"
    return row_reject(rows, block, config, device, 32)
