"""V3.2's sparse attention: keys of 512 latent and 64 rotary columns, whose first 512 are the values; no sink (K13).

The score is the sum of two products, 512 and 64 wide, of queries that come in two tensors, as the absorbed projection
and the rotation leave them; otherwise as `sparse_decode`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, matrix_config, options, require
from autotune.kernels._problem import one_of
from autotune.kernels.attention._problem import PATTERNS, Attention, draw_indices, expect_attention
from autotune.kernels.attention._rules import attention_reject, split_for, split_reject, split_work
from autotune.kernels.attention._softmax import LOG2E, WIDTH, epilogue, partial_buffers, reduce_partials, softmax_update

ROPE = 64
ROW = WIDTH + ROPE
SCALE = 192**-0.5
"""Softmax scale for 128 + 64 columns before absorption; YaRN's mscale multiplies it in the engine."""
_DECODING = 256
"""Most tokens that a rank decodes in one step; more are a chunk of a prefill."""


@dataclass(frozen=True)
class Problem(Attention):
    pattern: str = "full"

    DRAWN: ClassVar[tuple[str, ...]] = ("pattern",)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, pattern=PATTERNS)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.q_latent.shape[0], args.q_latent.shape[1], args.indices.shape[1])

    def inputs(self, seed: int, device: str) -> tuple[Tensor | float, ...]:
        draw = Draw(seed, device)
        slots = 2 * self.keys + 1
        return (
            draw.normal((self.tokens, self.heads, WIDTH), torch.bfloat16),
            draw.normal((self.tokens, self.heads, ROPE), torch.bfloat16),
            draw.normal((self.requests * slots, ROW), torch.bfloat16),
            draw_indices(draw, (self.tokens, self.keys), slots, self.pattern, self.requests),
            SCALE,
        )

    @property
    def requests(self) -> int:
        """Number of requests: one a token in a decode step, a single one in a chunk of a prefill."""
        return self.tokens if self.tokens <= _DECODING else 1

    @property
    def flops(self) -> int:
        return 2 * self.tokens * self.heads * self.keys * (ROW + WIDTH)

    @property
    def bytes_moved(self) -> int:
        seen = self.keys * (self.tokens if self.requests == self.tokens else 2)
        return seen * 2 * ROW + self.tokens * (4 * self.keys + 2 * self.heads * (ROW + WIDTH))


@triton.jit
def _sparse_mla(
    q_latent_ptr, q_rope_ptr, cache_ptr, indices_ptr, out_ptr, partial_ptr, peak_ptr, ticket_ptr, heads, keys, scale,
    BLOCK_H: tl.constexpr, BLOCK_N: tl.constexpr, SPLIT_KV: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64)
    split = tl.program_id(2)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    col = tl.arange(0, 512)
    rope_col = tl.arange(0, 64)
    in_heads = (head < heads)[:, None]
    row = (token * heads + head)[:, None]
    q = tl.load(q_latent_ptr + row * 512 + col[None, :], mask=in_heads, other=0.0)
    q_rope = tl.load(q_rope_ptr + row * 64 + rope_col[None, :], mask=in_heads, other=0.0)
    acc = tl.zeros((BLOCK_H, 512), dtype=tl.float32)
    peak = tl.full((BLOCK_H,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_H,), dtype=tl.float32)
    blocks = tl.cdiv(keys, BLOCK_N)
    share = tl.cdiv(blocks, SPLIT_KV)
    for block in range(split * share, min(split * share + share, blocks)):
        offs = block * BLOCK_N + tl.arange(0, BLOCK_N)
        slot = tl.load(indices_ptr + token * keys + offs, mask=offs < keys, other=-1).to(tl.int64)
        valid = slot >= 0
        rows = cache_ptr + tl.where(valid, slot, 0)[:, None] * 576
        kv = tl.load(rows + col[None, :], mask=valid[:, None], other=0.0)
        k_rope = tl.load(rows + 512 + rope_col[None, :], mask=valid[:, None], other=0.0)
        scores = tl.dot(q_rope, tl.trans(k_rope), tl.dot(q, tl.trans(kv))) * scale
        acc, peak, total = softmax_update(acc, peak, total, tl.where(valid[None, :], scores, float("-inf")), kv)
    epilogue(
        acc, peak, total, None, out_ptr, partial_ptr, peak_ptr, ticket_ptr, token, split, head, heads, SPLIT_KV, False
    )


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    keys = args.cache.double()[args.indices.clamp_min(0).long()]
    return expect_attention(
        torch.cat((args.q_latent, args.q_rope), 2).double(), keys, args.indices >= 0, args.scale, None
    )


def _default(problem: Problem, device: Device) -> Config:
    programs = problem.tokens * triton.cdiv(problem.heads, 16)
    blocks = triton.cdiv(problem.keys, 32)
    split = split_for(programs, blocks, device)
    shared = {"BLOCK_H": 16, "BLOCK_N": 32, "SPLIT_KV": split, "num_warps": 4}
    return matrix_config(shared | {"num_stages": 1 if device.is_amd else 2}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    blocks = triton.cdiv(problem.keys, config.size("BLOCK_N"))
    return split_reject(blocks, config) or attention_reject(problem.heads, config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return split_work(
        problem,
        problem.keys,
        config,
        device,
        rows=config.size("BLOCK_H"),
        flops=2 * (ROW + WIDTH),
        key_bytes=2 * ROW + 4,
        query_bytes=2 * ROW,
        unique_bytes=problem.bytes_moved,
    )


@tunable(Problem, jit=_sparse_mla, reference=_reference, default=_default, reject=_reject, work=_work)
def sparse_mla(
    q_latent: Tensor,
    q_rope: Tensor,
    cache: Tensor,
    indices: Tensor,
    scale: float = SCALE,
    *,
    config: Config,
    device: Device,
) -> Tensor:
    """Attention over the keys that each token's list names, bf16 [tokens, heads, 512].

    q_latent bf16 [tokens, heads, 512], q_rope bf16 [tokens, heads, 64], cache bf16 [slots, 576], indices int32 [tokens,
    keys], -1 for no key; a token without any gets zeros. NaN or any bits in a row of the cache reach only the tokens
    whose lists name it. No tokens are no launch. Raises UsageError for other dtypes, shapes or strides.
    """
    require("sparse_mla", q_latent=(q_latent, torch.bfloat16, (None, None, WIDTH)))
    tokens, heads, _ = q_latent.shape
    require(
        "sparse_mla",
        home=q_latent,
        q_rope=(q_rope, torch.bfloat16, (tokens, heads, ROPE)),
        cache=(cache, torch.bfloat16, (None, ROW)),
        indices=(indices, torch.int32, (tokens, None)),
    )
    out = torch.empty_like(q_latent)
    split = config.size("SPLIT_KV")
    head_tiles = triton.cdiv(heads, config.size("BLOCK_H"))
    parts = partial_buffers(out, split, head_tiles, device)
    grid = (tokens, head_tiles, split)
    launch(_sparse_mla, grid)(
        q_latent, q_rope, cache, indices, out, *parts, heads, indices.shape[1], scale * LOG2E, **options(config)
    )
    reduce_partials(out, *parts, None)
    return out
