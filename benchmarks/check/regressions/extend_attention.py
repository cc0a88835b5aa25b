"""Prefill over a cached prefix and then over itself, after SGLang's pull request 34741: keys of 576, values of 512."""

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

DIM, ROPE = 512, 64
WIDE = DIM + ROPE


@dataclass(frozen=True)
class Problem:
    """`length` new tokens after `prefix` of a cache of `slots`, with one latent head for all `heads` queries."""

    length: int
    prefix: int
    heads: int
    slots: int

    VARYING: ClassVar[tuple[str, ...]] = ("length",)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.q.shape[0], args.slots.shape[0], args.q.shape[1], args.cache.shape[0])

    @property
    def flops(self) -> int:
        return 2 * self.heads * self.length * (self.prefix + self.length // 2) * (WIDE + DIM)

    @property
    def bytes_moved(self) -> int:
        return 2 * (self.length * self.heads * (WIDE + DIM) + (self.prefix + self.length) * WIDE)

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        q = draw.normal((self.length, self.heads, WIDE), torch.bfloat16)
        new, cache = (draw.normal((rows, WIDE), torch.bfloat16) for rows in (self.length, self.slots))
        return q, new, cache, draw.integers((self.prefix,), 0, self.slots, torch.int64)


@triton.jit
def _extend_attention(
    out_ptr, q_ptr, new_ptr, cache_ptr, slots_ptr, length, prefix, heads, scale,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, DIM: tl.constexpr, ROPE: tl.constexpr,
):  # fmt: skip
    WIDE: tl.constexpr = DIM + ROPE
    row = tl.program_id(1) * BLOCK_M + tl.arange(0, BLOCK_M)
    latent = tl.arange(0, DIM)
    rotary = DIM + tl.arange(0, ROPE)
    real = (row < length)[:, None]
    at = (row * heads + tl.program_id(0))[:, None]
    q = tl.load(q_ptr + at * WIDE + latent[None, :], mask=real, other=0.0)
    q_rotary = tl.load(q_ptr + at * WIDE + rotary[None, :], mask=real, other=0.0)
    largest = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    acc = tl.zeros((BLOCK_M, DIM), dtype=tl.float32)
    for start in range(0, prefix, BLOCK_N):
        token = start + tl.arange(0, BLOCK_N)
        cached = token < prefix
        slot = tl.load(slots_ptr + token, mask=cached, other=0)
        k = tl.load(cache_ptr + slot[None, :] * WIDE + latent[:, None], mask=cached[None, :], other=0.0)
        score = tl.dot(q, k)
        k_rotary = tl.load(cache_ptr + slot[None, :] * WIDE + rotary[:, None], mask=cached[None, :], other=0.0)
        score += tl.dot(q_rotary, k_rotary)
        score = tl.where(real & cached[None, :], score * scale, float("-inf"))
        larger = tl.maximum(largest, tl.maximum(tl.max(score, 1), -1e20))
        shrink = tl.exp(largest - larger)
        weight = tl.exp(score - larger[:, None])
        total = total * shrink + tl.sum(weight, 1)
        v = tl.load(cache_ptr + slot[:, None] * WIDE + latent[None, :], mask=cached[:, None], other=0.0)
        acc = acc * shrink[:, None] + tl.dot(weight.to(v.dtype), v)
        largest = larger
    end = tl.minimum(length, (tl.program_id(1) + 1) * BLOCK_M)
    for start in range(0, end, BLOCK_N):
        token = start + tl.arange(0, BLOCK_N)
        new = token < end
        k = tl.load(new_ptr + token[None, :] * WIDE + latent[:, None], mask=new[None, :], other=0.0)
        score = tl.dot(q, k)
        k_rotary = tl.load(new_ptr + token[None, :] * WIDE + rotary[:, None], mask=new[None, :], other=0.0)
        score += tl.dot(q_rotary, k_rotary)
        visible = (row[:, None] >= token[None, :]) & real & new[None, :]
        score = tl.where(visible, score * scale, float("-inf"))
        larger = tl.maximum(largest, tl.maximum(tl.max(score, 1), -1e20))
        shrink = tl.exp(largest - larger)
        weight = tl.exp(score - larger[:, None])
        total = total * shrink + tl.sum(weight, 1)
        v = tl.load(new_ptr + token[:, None] * WIDE + latent[None, :], mask=new[:, None], other=0.0)
        acc = acc * shrink[:, None] + tl.dot(weight.to(v.dtype), v)
        largest = larger
    tl.store(out_ptr + at * DIM + latent[None, :], (acc / total[:, None]).to(tl.bfloat16), mask=real)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    keys = torch.cat([args.cache[args.slots], args.new]).double()
    scores = args.q.double().transpose(0, 1) @ keys.T * WIDE**-0.5
    place = torch.arange(len(keys)) - problem.prefix
    scores = scores.masked_fill(place[None, :] > torch.arange(problem.length)[:, None], float("-inf"))
    weights = scores.softmax(-1)
    out = (weights @ keys[:, :DIM]).transpose(0, 1)
    # Weights are rounded to bf16 before the second product, and the result after it.
    return (Expected("out", out, (weights @ keys[:, :DIM].abs()).transpose(0, 1) * 2.0**-6 + 1e-4),)


def _default(problem: Problem, device: Device) -> Config:
    extra = {"waves_per_eu": 1, "matrix_instr_nonkdim": 16} if device.is_amd else {}
    return Config({"BLOCK_M": 64, "BLOCK_N": 64, "num_warps": 4, "num_stages": 1, **extra})


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return None


def _work(problem: Problem, config: Config, device: Device) -> Work:
    programs = problem.heads * triton.cdiv(problem.length, config.size("BLOCK_M"))
    read = 2.0 * (problem.prefix + problem.length) * (WIDE + DIM)
    steps = triton.cdiv(problem.prefix + problem.length, config.size("BLOCK_N"))
    return Work(programs, problem.flops / programs, read, problem.bytes_moved, steps, "bf16")


@tunable(Problem, jit=_extend_attention, reference=_reference, default=_default, reject=_reject, work=_work)
def extend_attention(q: Tensor, new: Tensor, cache: Tensor, slots: Tensor, *, config: Config, device: Device) -> Tensor:
    """q [length, heads, 576], new [length, 576] and cache [slots, 576] in bf16, slots int64 [prefix] of the cache ->
    bf16 [length, heads, 512]; causal among the new tokens, values are the first 512 of each key."""
    length, heads, _ = q.shape
    out = torch.empty((length, heads, DIM), dtype=torch.bfloat16, device=q.device)
    grid = (heads, triton.cdiv(length, config.size("BLOCK_M")))
    sizes = length, slots.shape[0], heads
    _extend_attention[grid](out, q, new, cache, slots, *sizes, WIDE**-0.5, DIM=DIM, ROPE=ROPE, **config)
    return out
