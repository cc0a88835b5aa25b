"""Causal prefill of grouped queries from a paged cache, after aiter#4137: no split, a block of queries a program."""

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

PAGE = 16


@dataclass(frozen=True)
class Problem:
    """`group` query heads share each of `heads` heads of the cache of `pages` pages."""

    length: int
    heads: int
    group: int
    dim: int
    pages: int

    VARYING: ClassVar[tuple[str, ...]] = ("length",)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        pages, _, heads, dim = args.k.shape
        return cls(args.q.shape[0], heads, args.q.shape[1] // heads, dim, pages)

    @property
    def flops(self) -> int:
        return 2 * self.heads * self.group * self.length**2 * self.dim

    @property
    def bytes_moved(self) -> int:
        return 4 * self.length * self.heads * (self.group + 1) * self.dim

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        q = draw.normal((self.length, self.heads * self.group, self.dim), torch.bfloat16)
        k, v = (draw.normal((self.pages, PAGE, self.heads, self.dim), torch.bfloat16) for _ in range(2))
        return q, k, v, draw.integers((triton.cdiv(self.length, PAGE),), 0, self.pages, torch.int32)


@triton.jit
def _paged_attention(
    out_ptr, q_ptr, k_ptr, v_ptr, table_ptr, length, scale, HEADS: tl.constexpr, GROUP: tl.constexpr,
    DIM: tl.constexpr, PAGE: tl.constexpr, BLOCK_M: tl.constexpr, TILE: tl.constexpr,
):  # fmt: skip
    head = tl.program_id(0)
    first = tl.program_id(1) * (BLOCK_M // GROUP)
    column = tl.arange(0, DIM)
    line = tl.arange(0, BLOCK_M)
    position = first + line // GROUP
    real = (position < length)[:, None]
    at = (position * (HEADS * GROUP) + head * GROUP + line % GROUP).to(tl.int64)[:, None] * DIM + column[None, :]
    q = tl.load(q_ptr + at, mask=real, other=0.0)
    largest = tl.full((BLOCK_M,), float("-inf"), dtype=tl.float32)
    total = tl.zeros((BLOCK_M,), dtype=tl.float32)
    acc = tl.zeros((BLOCK_M, DIM), dtype=tl.float32)
    end = tl.minimum(first + (BLOCK_M - 1) // GROUP + 1, length)
    for tile in range(tl.cdiv(end, TILE)):
        token = tile * TILE + tl.arange(0, TILE)
        cached = token < end
        page = tl.load(table_ptr + token // PAGE, mask=cached, other=0).to(tl.int64)
        slot = (page * PAGE + token % PAGE) * HEADS + head
        k = tl.load(k_ptr + slot[None, :] * DIM + column[:, None], mask=cached[None, :], other=0.0)
        v = tl.load(v_ptr + slot[:, None] * DIM + column[None, :], mask=cached[:, None], other=0.0)
        score = scale * tl.dot(q, k)
        score = tl.where(real & (token[None, :] <= position[:, None]), score, float("-inf"))
        larger = tl.maximum(largest, tl.max(score, 1))
        larger = tl.where(larger > float("-inf"), larger, 0.0)
        weight = tl.exp2(score - larger[:, None])
        shrink = tl.exp2(largest - larger)
        acc = acc * shrink[:, None]
        total = total * shrink + tl.sum(weight, 1)
        largest = larger
        acc += tl.dot(weight.to(v.dtype), v)
    tl.store(out_ptr + at, (acc / total[:, None]).to(tl.bfloat16), mask=real)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    k, v = (cache[args.table.long()].flatten(0, 1)[: problem.length].double() for cache in (args.k, args.v))
    k, v = (x.repeat_interleave(problem.group, 1).transpose(0, 1) for x in (k, v))
    scores = args.q.double().transpose(0, 1) @ k.mT * problem.dim**-0.5
    ahead = torch.ones(problem.length, problem.length, dtype=torch.bool).triu(1)
    weights = scores.masked_fill(ahead, float("-inf")).softmax(-1)
    # Weights are rounded to bf16 before the second product, and the result after it.
    out, bound = (weights @ x for x in (v, v.abs()))
    return (Expected("out", out.transpose(0, 1), bound.transpose(0, 1) * 2.0**-6 + 1e-4),)


def _default(problem: Problem, device: Device) -> Config:
    extra = {"waves_per_eu": 2} if device.is_amd else {}
    return Config({"BLOCK_M": 128, "TILE": 64, "num_warps": 4, "num_stages": 1, **extra})


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return None if config.size("BLOCK_M") % problem.group == 0 else "BLOCK_M holds whole groups of query heads"


def _work(problem: Problem, config: Config, device: Device) -> Work:
    programs = problem.heads * triton.cdiv(problem.length, config.size("BLOCK_M") // problem.group)
    read = 4.0 * problem.length * problem.dim
    steps = triton.cdiv(problem.length, config.size("TILE"))
    return Work(programs, problem.flops / programs, read, problem.bytes_moved, steps, "bf16")


@tunable(Problem, jit=_paged_attention, reference=_reference, default=_default, reject=_reject, work=_work)
def paged_attention(q: Tensor, k: Tensor, v: Tensor, table: Tensor, *, config: Config, device: Device) -> Tensor:
    """q [length, heads * group, dim], k and v [pages, 16, heads, dim] in bf16, table int32 of pages -> bf16 like q."""
    length, (heads, dim) = q.shape[0], k.shape[2:]
    group = q.shape[1] // heads
    out = torch.empty_like(q)
    grid = (heads, triton.cdiv(length, config.size("BLOCK_M") // group))
    scale = dim**-0.5 * 1.4426950408889634  # for exp2
    shape = {"HEADS": heads, "GROUP": group, "DIM": dim, "PAGE": PAGE}
    _paged_attention[grid](out, q, k, v, table, length, scale, **shape, **config)
    return out
