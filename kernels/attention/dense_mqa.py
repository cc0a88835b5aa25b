"""Full causal attention of the same form: all heads over one K = V of 512 columns, with a sink (K13's dense form).

Heads share their keys, so that (token, head) pairs in a row make the query rows of a tile: the tile stays full for
any number of heads, and its causal edge is a few keys wide.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.errors import UsageError
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, matrix_config, options, require
from autotune.kernels._problem import at_least
from autotune.kernels.attention._problem import Attention, expect_attention
from autotune.kernels.attention._rules import attention_reject
from autotune.kernels.attention._softmax import LOG2E, WIDTH, finish, softmax_update

SCALE = WIDTH**-0.5


@dataclass(frozen=True)
class Problem(Attention):
    """The last `tokens` of `keys` positions are queries."""

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, keys=self.tokens)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.q.shape[0], args.q.shape[1], args.kv.shape[0])

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        return (
            draw.normal((self.tokens, self.heads, WIDTH), torch.bfloat16),
            draw.normal((self.keys, WIDTH), torch.bfloat16),
            draw.normal((self.heads,), torch.float32),
        )

    @property
    def seen(self) -> float:
        """Keys that a query sees, on average."""
        return self.keys - (self.tokens - 1) / 2

    @property
    def flops(self) -> int:
        return int(4 * self.tokens * self.heads * self.seen * WIDTH)

    @property
    def bytes_moved(self) -> int:
        return 2 * WIDTH * (2 * self.tokens * self.heads + self.keys)


@triton.jit
def _attend(q, kv_ptr, sees, most, scale, BLOCK_H: tl.constexpr, BLOCK_N: tl.constexpr):
    """Online softmax of rows that see the first `sees` [BLOCK_H] keys, at most `most`."""
    col = tl.arange(0, 512)
    acc = tl.zeros((BLOCK_H, 512), dtype=tl.float32)
    peak = tl.full((BLOCK_H,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_H,), dtype=tl.float32)
    for start in range(0, most, BLOCK_N):
        key = start + tl.arange(0, BLOCK_N)
        kv_ptrs = kv_ptr + key.to(tl.int64)[:, None] * 512 + col[None, :]
        kv = tl.load(kv_ptrs, mask=(key < most)[:, None], other=0.0)
        scores = tl.where(key[None, :] < sees[:, None], tl.dot(q, tl.trans(kv)) * scale, float("-inf"))
        acc, peak, total = softmax_update(acc, peak, total, scores, kv)
    return acc, peak, total


@triton.jit(do_not_specialize=["tokens", "keys"])
def _dense_mqa(
    q_ptr, kv_ptr, sink_ptr, out_ptr, tokens, heads, keys, scale,
    BLOCK_H: tl.constexpr, BLOCK_N: tl.constexpr, SPANS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * BLOCK_H + tl.arange(0, BLOCK_H)
    col = tl.arange(0, 512)
    rows = tokens.to(tl.int64) * heads
    inside = row < rows
    q = tl.load(q_ptr + row[:, None] * 512 + col[None, :], mask=inside[:, None], other=0.0)
    # Keys that each row sees; the tile walks as many as its last row does.
    before = keys - tokens + 1
    token = row // heads
    first_token = tl.program_id(0).to(tl.int64) * BLOCK_H // heads
    last_token = (min(tl.program_id(0).to(tl.int64) * BLOCK_H + BLOCK_H, rows) - 1) // heads
    acc, peak, total = _attend(q, kv_ptr, before + token, before + last_token, scale, BLOCK_H, BLOCK_N)
    sink = tl.load(sink_ptr + row % heads, mask=inside, other=0.0) * 1.4426950408889634
    out_ptrs = out_ptr + row[:, None] * 512 + col[None, :]
    out = finish(acc, peak, total, sink)
    tl.store(out_ptrs, out.to(tl.bfloat16), mask=inside[:, None])
    # A key weighs 0 in rows that do not see it, but 0 x NaN is NaN: where there is any, token by token once more.
    if SPANS:
        if tl.max(tl.max((out != out).to(tl.int32), axis=1), axis=0) > 0:
            for only in range(first_token, last_token + 1):
                sees = before + only + 0 * token
                acc, peak, total = _attend(q, kv_ptr, sees, before + only, scale, BLOCK_H, BLOCK_N)
                out = finish(acc, peak, total, sink)
                tl.store(out_ptrs, out.to(tl.bfloat16), mask=(inside & (token == only))[:, None])


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    last = torch.arange(problem.tokens, device=args.q.device)[:, None] + problem.keys - problem.tokens
    seen = torch.arange(problem.keys, device=args.q.device)[None, :] <= last
    keys = args.kv.double()[None].expand(problem.tokens, -1, -1)
    return expect_attention(args.q.double(), keys, seen, SCALE, args.sink)


def _default(problem: Problem, device: Device) -> Config:
    wide = problem.tokens * problem.heads > 4096
    shared = {"BLOCK_H": 32 if wide else 16, "BLOCK_N": 16 if wide else 32, "num_warps": 8 if wide else 4}
    return matrix_config(shared | {"num_stages": 1 if device.is_amd or wide else 2}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return attention_reject(problem.tokens * problem.heads, config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    block_h, block_n = config.size("BLOCK_H"), config.size("BLOCK_N")
    return Work(
        programs=triton.cdiv(problem.tokens * problem.heads, block_h),
        flops_per_program=4 * block_h * (problem.seen + block_n / 2) * WIDTH,
        bytes_per_program=1024 * problem.seen + 4 * block_h * WIDTH,
        unique_bytes=problem.bytes_moved,
        iterations=max(1, int(problem.seen / block_n)),
        dtype="bf16",
    )


@tunable(Problem, jit=_dense_mqa, reference=_reference, default=_default, reject=_reject, work=_work)
def dense_mqa(q: Tensor, kv: Tensor, sink: Tensor, *, config: Config, device: Device) -> Tensor:
    """q bf16 [tokens, heads, 512], kv bf16 [keys, 512], sink fp32 [heads] -> bf16 of q's shape; scale 512^-0.5.

    Query t sees keys 0 to keys - tokens + t; any bits in keys that it does not see leave it as it is, to the bit. No
    tokens are no launch. Raises UsageError for other dtypes, shapes or strides.
    """
    require("dense_mqa", q=(q, torch.bfloat16, (None, None, WIDTH)))
    tokens, heads, _ = q.shape
    require("dense_mqa", home=q, kv=(kv, torch.bfloat16, (None, WIDTH)), sink=(sink, torch.float32, (heads,)))
    if kv.shape[0] < tokens:
        raise UsageError(f"dense_mqa: kv must have a row for each of the {tokens} query tokens, got {kv.shape[0]}")
    out = torch.empty_like(q)
    grid = (triton.cdiv(tokens * heads, config.size("BLOCK_H")),)
    # Tiles that hold heads of several tokens, whose rows see different keys.
    spans = heads % config.size("BLOCK_H") != 0
    launch(_dense_mqa, grid)(
        q, kv, sink, out, tokens, heads, kv.shape[0], SCALE * LOG2E, SPANS=spans, **options(config)
    )
    return out
