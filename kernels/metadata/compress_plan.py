"""The windows that close while a batch of chunks is prefilled, one row each, in a table of fixed size (K23).

Row i belongs to the request in whose share of the running total of closed windows i falls: every program finds its own
by one scan over the requests, and nothing is counted in an order that could change.
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
from autotune.errors import UsageError
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Sizes, at_most
from autotune.kernels._rows import row_config, row_reject

MOST_REQUESTS = 4096


@dataclass(frozen=True)
class Problem(Sizes):
    requests: int
    ratio: int
    capacity: int

    VARYING: ClassVar[tuple[str, ...]] = ("requests", "capacity")

    def __post_init__(self) -> None:
        super().__post_init__()
        at_most(self, requests=MOST_REQUESTS)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.starts.shape[0], args.ratio, args.capacity)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int, ...]:
        draw = Draw(seed, device)
        starts = draw.integers((self.requests,), 0, 5 * self.ratio, torch.int32)
        # Some chunks close nothing; all together close at most what there is room for.
        most = max(1, self.capacity * self.ratio // self.requests - self.ratio)
        return starts, draw.integers((self.requests,), 1, most + 1, torch.int32), self.ratio, self.capacity

    @property
    def flops(self) -> int:
        return 4 * self.capacity * self.requests

    @property
    def bytes_moved(self) -> int:
        return 8 * self.requests + 12 * self.capacity


@triton.jit
def _compress_plan(
    plan_ptr, starts_ptr, lengths_ptr, requests, ratio, capacity, BLOCK: tl.constexpr, REQUESTS: tl.constexpr
):
    entry = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    request = tl.arange(0, REQUESTS)
    is_request = request < requests
    start = tl.load(starts_ptr + request, mask=is_request, other=0)
    length = tl.load(lengths_ptr + request, mask=is_request, other=0)
    closed = (start + length) // ratio - start // ratio
    through = tl.cumsum(closed, axis=0)
    rows = tl.cumsum(length, axis=0) - length
    # The request of an entry: as many as have all their windows before it.
    owner = tl.sum((is_request[None, :] & (through[None, :] <= entry[:, None])).to(tl.int32), axis=1)
    is_owner = request[None, :] == owner[:, None]
    begin = tl.sum(tl.where(is_owner, start[None, :], 0), axis=1)
    window = begin // ratio + entry - tl.sum(tl.where(is_owner, (through - closed)[None, :], 0), axis=1)
    row = tl.sum(tl.where(is_owner, rows[None, :], 0), axis=1) + window * ratio - begin
    used = owner < requests
    inside = entry < capacity
    tl.store(plan_ptr + entry * 3, tl.where(used, owner, -1), mask=inside)
    tl.store(plan_ptr + entry * 3 + 1, tl.where(used, window, -1), mask=inside)
    tl.store(plan_ptr + entry * 3 + 2, tl.where(used, row, -1), mask=inside)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    rows: list[list[int]] = []
    offset = 0
    for request, (start, length) in enumerate(zip(args.starts.tolist(), args.lengths.tolist(), strict=True)):
        closing = (position for position in range(start, start + length) if (position + 1) % args.ratio == 0)
        rows += [[request, position // args.ratio, offset + position + 1 - args.ratio - start] for position in closing]
        offset += length
    rows = (rows + [[-1, -1, -1]] * args.capacity)[: args.capacity]
    plan = torch.tensor(rows, dtype=torch.float64, device=args.starts.device)
    return (Expected("plan", plan, torch.zeros_like(plan)),)


def _default(problem: Problem, device: Device) -> Config:
    requests = triton.next_power_of_2(max(1, problem.requests))
    return row_config({"BLOCK": max(1, min(64, 4096 // requests)), "num_warps": 4 if requests >= 64 else 1}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    requests = triton.next_power_of_2(max(1, problem.requests))
    threads = config.size("num_warps") * device.warp_size
    if config.size("BLOCK") * requests < threads <= 64:
        return None  # a warp is the least there is
    return row_reject(config.size("BLOCK"), requests, config, device, 64)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    block = config.size("BLOCK")
    return Work(
        programs=triton.cdiv(problem.capacity, block),
        flops_per_program=4 * block * problem.requests,
        bytes_per_program=8 * problem.requests + 12 * block,
        unique_bytes=problem.bytes_moved,
    )


@tunable(Problem, jit=_compress_plan, reference=_reference, default=_default, reject=_reject, work=_work)
def compress_plan(
    starts: Tensor, lengths: Tensor, ratio: int, capacity: int, *, config: Config, device: Device
) -> Tensor:
    """starts, lengths int32 [requests] -> int32 [capacity, 3]: request, window, row of the chunks' first token of it.

    A window that began before its chunk has a negative row, or one of the chunk before; unused rows are -1. Without
    requests all rows are -1; no rows are no launch. Raises UsageError for other dtypes, shapes or strides, and for more
    than 4096 requests.
    """
    require("compress_plan", starts=(starts, torch.int32, (None,)))
    requests = starts.shape[0]
    require("compress_plan", starts=(starts, torch.int32, (requests,)), lengths=(lengths, torch.int32, (requests,)))
    if requests > MOST_REQUESTS:
        raise UsageError(f"compress_plan: starts must have at most {MOST_REQUESTS} requests, got {requests}")
    plan = torch.empty((capacity, 3), dtype=torch.int32, device=starts.device)
    grid = (triton.cdiv(capacity, config.size("BLOCK")),)
    launch(_compress_plan, grid)(
        plan,
        starts,
        lengths,
        requests,
        ratio,
        capacity,
        REQUESTS=triton.next_power_of_2(max(1, requests)),
        **options(config),
    )
    return plan
