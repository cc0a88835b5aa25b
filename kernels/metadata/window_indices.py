"""The sliding window as a key list: ring slots of a token's last positions, oldest first, -1 for none (K23)."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Sizes
from autotune.kernels._rows import row_config, row_reject, row_work

EDGE = 3
"""Positions are drawn below EDGE windows, so that some lists are short."""


@dataclass(frozen=True)
class Problem(Sizes):
    tokens: int
    window: int = 128

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.positions.shape[0], args.window)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int, ...]:
        draw = Draw(seed, device)
        positions = draw.integers((self.tokens,), 0, EDGE * self.window, torch.int32)
        edges = [0, self.window - 1, self.window, max(0, self.window - 2), self.window + 1][: self.tokens]
        positions[: len(edges)] = torch.tensor(edges, dtype=torch.int32, device=device)
        return positions, draw.integers((self.tokens,), 0, 1000, torch.int32), self.window

    @property
    def flops(self) -> int:
        return 4 * self.tokens * self.window

    @property
    def bytes_moved(self) -> int:
        return 4 * self.tokens * (self.window + 2)


@triton.jit(do_not_specialize=["tokens"])
def _window_indices(out_ptr, positions_ptr, requests_ptr, tokens, window, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    in_rows = row < tokens
    col = tl.arange(0, BLOCK)
    position = tl.load(positions_ptr + row, mask=in_rows, other=0)
    request = tl.load(requests_ptr + row, mask=in_rows, other=0)
    key = tl.maximum(position - window + 1, 0)[:, None] + col[None, :]
    slot = tl.where(key <= position[:, None], request[:, None] * window + key % window, -1)
    tl.store(out_ptr + row[:, None] * window + col[None, :], slot, mask=in_rows[:, None] & (col < window)[None, :])


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    rows = []
    for position, request in zip(args.positions.tolist(), args.requests.tolist(), strict=True):
        seen = [
            request * args.window + p % args.window for p in range(max(0, position + 1 - args.window), position + 1)
        ]
        rows.append(seen + [-1] * (args.window - len(seen)))
    value = torch.tensor(rows, dtype=torch.float64, device=args.positions.device)
    return (Expected("slots", value, torch.zeros_like(value)),)


def _default(problem: Problem, device: Device) -> Config:
    return row_config({"ROWS": 4 if problem.tokens > 64 else 1, "num_warps": 1}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return row_reject(config.size("ROWS"), triton.next_power_of_2(problem.window), config, device, 64)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return row_work(problem, problem.tokens, config, flops=4 * problem.window, row_bytes=4 * (problem.window + 2))


@tunable(Problem, jit=_window_indices, reference=_reference, default=_default, reject=_reject, work=_work)
def window_indices(positions: Tensor, requests: Tensor, window: int = 128, *, config: Config, device: Device) -> Tensor:
    """positions and requests int32 [tokens] -> int32 [tokens, window] slots request * window + position % window.

    No tokens are no launch. Raises UsageError for other dtypes, shapes or strides.
    """
    require("window_indices", positions=(positions, torch.int32, (None,)))
    tokens = positions.shape[0]
    require(
        "window_indices", positions=(positions, torch.int32, (tokens,)), requests=(requests, torch.int32, (tokens,))
    )
    out = torch.empty((tokens, window), dtype=torch.int32, device=positions.device)
    grid = (triton.cdiv(tokens, config.size("ROWS")),)
    launch(_window_indices, grid)(
        out, positions, requests, tokens, window, BLOCK=triton.next_power_of_2(window), **options(config)
    )
    return out
