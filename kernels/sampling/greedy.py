"""Greedy sampling: the index of each row's largest logit, the lowest of equals; the first NaN where there is one (K24).

A row of 129,280 logits is cut over programs, so that few rows fill the device; a second launch takes the best part.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from math import inf, nan

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Library, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Rows
from autotune.kernels._rows import row_config, row_reject


@dataclass(frozen=True)
class Problem(Rows):
    vocab: int

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.logits.shape[0], args.logits.shape[1])

    def inputs(self, seed: int, device: str) -> tuple[Tensor]:
        # Few distinct values, so that the largest is there more than once.
        logits = Draw(seed, device).integers((self.rows, self.vocab), -40, 40, torch.float32)
        logits[0, -1] = 40.0  # the last of all wins a row, too
        for row, token, value in (
            (1, 3, nan),
            (1, -1, nan),
            (2, -2, inf),
            (3, slice(None), -inf),
            (4, slice(None), nan),
        ):
            logits[row : row + 1, token] = value
        return (logits,)

    @property
    def flops(self) -> int:
        return self.rows * self.vocab

    @property
    def bytes_moved(self) -> int:
        return 4 * self.rows * self.vocab


@triton.jit
def _first_best(value, index):
    """The largest value and the lowest index that has it; NaN and the first of its indices where there is any."""
    first_nan = tl.min(tl.where(value != value, index, 2147483647), axis=0)
    most = tl.max(value, axis=0)
    first = tl.min(tl.where(value == most, index, 2147483647), axis=0)
    has_nan = first_nan < 2147483647
    return tl.where(has_nan, float("nan"), most), tl.where(has_nan, first_nan, first)


@triton.jit
def _greedy(value_ptr, index_ptr, logits_ptr, vocab, BLOCK: tl.constexpr, PARTS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    part = tl.program_id(1)
    steps = tl.cdiv(tl.cdiv(vocab, BLOCK), PARTS)
    best = tl.full((BLOCK,), float("-inf"), dtype=tl.float32)
    # The first index of each lane: where nothing is above -inf the lowest index wins, which no part without logits has.
    at = part * steps * BLOCK + tl.arange(0, BLOCK)
    for step in range(part * steps, part * steps + steps):
        col = step * BLOCK + tl.arange(0, BLOCK)
        logit = tl.load(logits_ptr + row * vocab + col, mask=col < vocab, other=float("-inf"))
        # Larger, or the lane's first NaN: earlier indices win ties.
        better = ~(logit <= best) & (best == best)
        best, at = tl.where(better, logit, best), tl.where(better, col, at)
    most, index = _first_best(best, at)
    tl.store(value_ptr + row * PARTS + part, most)
    tl.store(index_ptr + row * PARTS + part, index)


@triton.jit
def _best_part(out_ptr, value_ptr, index_ptr, PARTS: tl.constexpr):
    row = tl.program_id(0).to(tl.int64)
    part = tl.arange(0, PARTS)
    value = tl.load(value_ptr + row * PARTS + part)
    index = tl.load(index_ptr + row * PARTS + part)
    tl.store(out_ptr + row, _first_best(value, index)[1])


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    ranks = torch.where(args.logits.isnan(), inf, args.logits.clamp(max=torch.finfo(torch.float32).max))
    most = ranks.amax(1, keepdim=True)
    firsts = [(row == top).nonzero()[0, 0] for row, top in zip(ranks, most, strict=True)]
    value = torch.stack(firsts).double() if firsts else most[:, 0].double()
    return (Expected("tokens", value, torch.zeros_like(value)),)


def _torch(problem: Problem, args: Arguments) -> Callable[[], Tensor]:
    return lambda: torch.argmax(args.logits, 1)


def _default(problem: Problem, device: Device) -> Config:
    parts = 1
    while parts < 64 and problem.rows * parts * 2 <= 2 * device.compute_units and problem.vocab >= 4096 * parts:
        parts *= 2
    return row_config({"BLOCK": 1024, "PARTS": parts, "num_warps": 4}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    block, parts = config.size("BLOCK"), config.size("PARTS")
    if parts > triton.cdiv(problem.vocab, block):
        return f"PARTS={parts} leaves parts of {problem.vocab} logits empty"
    return row_reject(1, block, config, device, 32)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    parts = config.size("PARTS")
    return Work(
        programs=problem.rows * parts,
        flops_per_program=problem.vocab / parts,
        bytes_per_program=4 * problem.vocab / parts,
        unique_bytes=problem.bytes_moved,
        iterations=triton.cdiv(problem.vocab, parts * config.size("BLOCK")),
        launches=2,
    )


@tunable(
    Problem,
    jit=_greedy,
    reference=_reference,
    default=_default,
    reject=_reject,
    work=_work,
    library=Library("torch.argmax", _torch),
)
def greedy(logits: Tensor, *, config: Config, device: Device) -> Tensor:
    """logits fp32 [rows, vocab] -> int32 [rows], an index of the vocabulary for any bits of the logits.

    NaN is larger than everything, as torch.argmax has it; a row of -inf gives 0; no rows are no launch. Raises
    UsageError for other dtypes, shapes or strides.
    """
    require("greedy", logits=(logits, torch.float32, (None, None)))
    (rows, vocab), parts = logits.shape, config.size("PARTS")
    value = torch.empty((rows, parts), dtype=torch.float32, device=logits.device)
    index = torch.empty((rows, parts), dtype=torch.int32, device=logits.device)
    out = torch.empty((rows,), dtype=torch.int32, device=logits.device)
    launch(_greedy, (rows, parts))(value, index, logits, vocab, **options(config))
    launch(_best_part, (rows,))(out, value, index, PARTS=parts, num_warps=1)
    return out
