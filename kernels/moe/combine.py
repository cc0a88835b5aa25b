"""The experts' outputs of a token added up, weighted by the router, with the shared expert's on top (K20)."""

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
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Sizes
from autotune.kernels._rows import block_work, row_config, row_reject


@dataclass(frozen=True)
class Problem(Sizes):
    """`weighted`: by the router here, and not in the activation; `shared`: the shared expert's output is added."""

    tokens: int
    topk: int
    dim: int
    weighted: bool = True
    shared: bool = True

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(
            args.x.shape[0] // args.topk, args.topk, args.x.shape[1], args.weights is not None, args.shared is not None
        )

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int | None, ...]:
        draw = Draw(seed, device)
        x = draw.normal((self.tokens * self.topk, self.dim), torch.bfloat16)
        weights = draw.uniform((self.tokens, self.topk), 0.1, 1.0) if self.weighted else None
        shared = draw.normal((self.tokens, self.dim), torch.bfloat16) if self.shared else None
        return x, self.topk, weights, shared

    @property
    def flops(self) -> int:
        return 2 * self.tokens * self.topk * self.dim

    @property
    def bytes_moved(self) -> int:
        return 2 * self.tokens * self.dim * (self.topk + 1 + self.shared)


@triton.jit(do_not_specialize=["tokens"])
def _combine(
    out_ptr, x_ptr, weights_ptr, shared_ptr, tokens, dim,
    TOPK: tl.constexpr, WEIGHTED: tl.constexpr, SHARED: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    token = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    in_rows = token < tokens
    mask = in_rows[:, None] & (col < dim)[None, :]
    offs = token[:, None] * dim + col[None, :]
    total = tl.zeros((ROWS, BLOCK), dtype=tl.float32)
    if SHARED:
        total += tl.load(shared_ptr + offs, mask=mask, other=0.0).to(tl.float32)
    for choice in tl.static_range(TOPK):
        slot = token * TOPK + choice
        x = tl.load(x_ptr + slot[:, None] * dim + col[None, :], mask=mask, other=0.0).to(tl.float32)
        if WEIGHTED:
            x *= tl.load(weights_ptr + slot, mask=in_rows, other=0.0)[:, None]
        total += x
    tl.store(out_ptr + offs, total.to(tl.bfloat16), mask=mask)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    slots = args.x.double().unflatten(0, (problem.tokens, args.topk))
    if args.weights is not None:
        slots = slots * args.weights.double()[:, :, None]
    if args.shared is not None:
        slots = torch.cat((slots, args.shared.double()[:, None, :]), 1)
    value = slots.sum(1)
    # A product and a sum a choice in fp32, then bf16.
    return (Expected("out", value, (args.topk + 2) * 2.0**-24 * slots.abs().sum(1) + 2.0**-8 * value.abs()),)


def _default(problem: Problem, device: Device) -> Config:
    return row_config({"ROWS": 1, "BLOCK": 1024, "num_warps": 4}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    if config.size("BLOCK") >= 2 * max(problem.dim, 512):
        return f"BLOCK={config['BLOCK']} is at least twice the row of {problem.dim}: half the lanes would idle"
    return row_reject(config.size("ROWS"), config.size("BLOCK"), config, device, 32)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    flops, element_bytes = 2 * problem.topk, 2 * (problem.topk + 1 + problem.shared)
    return block_work(problem, problem.tokens, problem.dim, config, flops=flops, element_bytes=element_bytes)


@tunable(Problem, jit=_combine, reference=_reference, default=_default, reject=_reject, work=_work)
def combine(
    x: Tensor, topk: int, weights: Tensor | None = None, shared: Tensor | None = None, *, config: Config, device: Device
) -> Tensor:
    """x bf16 [tokens * topk, dim] -> bf16 [tokens, dim]; weights fp32 [tokens, topk], shared bf16 [tokens, dim].

    NaN or any bits in a row of x reach its own token only; rows of other ranks' experts must be zeros, as the grouped
    GEMMs leave them. No tokens are no launch. Raises UsageError for other dtypes, shapes or strides.
    """
    require("combine", x=(x, torch.bfloat16, (None, None)))
    if topk < 1 or x.shape[0] % topk:
        raise UsageError(f"combine: x must have topk={topk} rows a token, got {x.shape[0]} rows")
    tokens, dim = x.shape[0] // topk, x.shape[1]
    if weights is not None:
        require("combine", home=x, weights=(weights, torch.float32, (tokens, topk)))
    if shared is not None:
        require("combine", home=x, shared=(shared, torch.bfloat16, (tokens, dim)))
    out = torch.empty((tokens, dim), dtype=torch.bfloat16, device=x.device)
    grid = (triton.cdiv(tokens, config.size("ROWS")), triton.cdiv(dim, config.size("BLOCK")))
    launch(_combine, grid)(
        out, x, weights, shared, tokens, dim,
        TOPK=topk, WEIGHTED=weights is not None, SHARED=shared is not None, **options(config),
    )  # fmt: skip
    return out
