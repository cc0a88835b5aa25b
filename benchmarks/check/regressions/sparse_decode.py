"""Decode of gathered tokens with one latent head of 512, after the description of triton#11373."""

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

DIM = 512


@dataclass(frozen=True)
class Problem:
    batch: int
    heads: int
    tokens: int

    VARYING: ClassVar[tuple[str, ...]] = ("batch",)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        batch, heads, _ = args.q.shape
        return cls(batch, heads, args.slots.shape[1])

    @property
    def flops(self) -> int:
        return 4 * self.batch * self.heads * self.tokens * DIM

    @property
    def bytes_moved(self) -> int:
        return 2 * self.batch * DIM * (self.tokens + 2 * self.heads)

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        q, cache = (draw.normal(s, torch.bfloat16) for s in ((self.batch, self.heads, DIM), (2 * self.tokens, DIM)))
        return q, cache, draw.integers((self.batch, self.tokens), 0, 2 * self.tokens, torch.int32)


@triton.jit
def _sparse_decode(
    out_ptr, q_ptr, cache_ptr, slots_ptr, heads, tokens, scale,
    BLOCK_H: tl.constexpr, BLOCK_N: tl.constexpr, DIM: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0)
    head = tl.program_id(1) * BLOCK_H + tl.arange(0, BLOCK_H)
    column = tl.arange(0, DIM)
    real = (head < heads)[:, None]
    at = (row * heads + head)[:, None] * DIM + column[None, :]
    q = tl.load(q_ptr + at, mask=real, other=0.0)
    largest = tl.full((BLOCK_H,), -1e30, dtype=tl.float32)
    total = tl.zeros((BLOCK_H,), dtype=tl.float32)
    acc = tl.zeros((BLOCK_H, DIM), dtype=tl.float32)
    for start in range(0, tokens, BLOCK_N):
        token = start + tl.arange(0, BLOCK_N)
        slot = tl.load(slots_ptr + row * tokens + token, mask=token < tokens, other=-1)
        valid = slot >= 0
        k = tl.load(cache_ptr + slot.to(tl.int64)[:, None] * DIM + column[None, :], mask=valid[:, None], other=0.0)
        score = tl.dot(q, tl.trans(k)) * scale
        score = tl.where(valid[None, :], score, float("-inf"))
        larger = tl.maximum(largest, tl.max(score, 1))
        shrink = tl.exp2(largest - larger)
        weight = tl.exp2(score - larger[:, None])
        total = total * shrink + tl.sum(weight, 1)
        acc = acc * shrink[:, None] + tl.dot(weight.to(k.dtype), k)
        largest = larger
    tl.store(out_ptr + at, (acc / total[:, None]).to(tl.bfloat16), mask=real)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    keys = args.cache[args.slots.long()].double()
    weights = (args.q.double() @ keys.mT * DIM**-0.5).softmax(-1)
    # Weights are rounded to bf16 before the second product, and the result after it.
    return (Expected("out", weights @ keys, (weights @ keys.abs()) * 2.0**-6 + 1e-4),)


def _default(problem: Problem, device: Device) -> Config:
    return Config({"BLOCK_H": 16, "BLOCK_N": 32, "num_warps": 4, "num_stages": 1})


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return None


def _work(problem: Problem, config: Config, device: Device) -> Work:
    block_h, block_n = config.size("BLOCK_H"), config.size("BLOCK_N")
    programs = problem.batch * triton.cdiv(problem.heads, block_h)
    read = 2.0 * DIM * (problem.tokens + 2 * block_h)
    flops = 4.0 * block_h * problem.tokens * DIM
    return Work(programs, flops, read, problem.bytes_moved, triton.cdiv(problem.tokens, block_n), "bf16")


@tunable(Problem, jit=_sparse_decode, reference=_reference, default=_default, reject=_reject, work=_work)
def sparse_decode(q: Tensor, cache: Tensor, slots: Tensor, *, config: Config, device: Device) -> Tensor:
    """q [batch, heads, 512] and cache [slots, 512] in bf16, slots int32 [batch, tokens] -> bf16 like q."""
    (batch, heads, _), tokens = q.shape, slots.shape[1]
    out = torch.empty_like(q)
    scale = DIM**-0.5 * 1.4426950408889634  # for exp2
    grid = (batch, triton.cdiv(heads, config.size("BLOCK_H")))
    _sparse_decode[grid](out, q, cache, slots, heads, tokens, scale, DIM=DIM, **config)
    return out
