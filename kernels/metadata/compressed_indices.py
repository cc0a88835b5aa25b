"""The key list of compressed entries that a token may see, all of them, through the page table: HCA's list (K23).

A token at position p sees entries 0 to floor((p + 1) / ratio) - 1: those of windows that are closed, its own included.
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
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Sizes
from autotune.kernels._rows import block_work, row_config, row_reject


@dataclass(frozen=True)
class Problem(Sizes):
    """`width` entries at most a token; `pages` a request."""

    tokens: int
    width: int
    ratio: int
    page_size: int
    pages: int

    VARYING: ClassVar[tuple[str, ...]] = ("tokens", "width", "pages")

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.pages * self.page_size < self.width:
            raise ValueError(f"{self.pages} pages of {self.page_size} do not hold {self.width} entries")

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.positions.shape[0], args.width, args.ratio, args.page_size, args.page_table.shape[1])

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int, ...]:
        draw = Draw(seed, device)
        positions = draw.integers((self.tokens,), 0, self.ratio * (self.width + 1) - 1, torch.int32)
        # Before, at and after the first window's end; the last token sees all entries.
        edges = [self.ratio - 1, max(0, self.ratio - 2), self.ratio, self.ratio * self.width - 1][: self.tokens]
        positions[: len(edges)] = torch.tensor(edges, dtype=torch.int32, device=device)
        return (
            positions,
            draw.integers((self.tokens,), 0, 3, torch.int32),
            draw.integers((3, self.pages), 0, 1 << 20, torch.int32),
            self.ratio,
            self.page_size,
            self.width,
        )

    @property
    def flops(self) -> int:
        return 4 * self.tokens * self.width

    @property
    def bytes_moved(self) -> int:
        return 4 * self.tokens * (self.width + self.width // self.page_size + 2)


@triton.jit(do_not_specialize=["tokens"])
def _compressed_indices(
    out_ptr, positions_ptr, requests_ptr, page_table_ptr, tokens, width, pages,
    RATIO: tl.constexpr, PAGE_SIZE: tl.constexpr, ROWS: tl.constexpr, BLOCK: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    entry = (tl.program_id(1) * BLOCK + tl.arange(0, BLOCK))[None, :]
    in_rows = row < tokens
    position = tl.load(positions_ptr + row, mask=in_rows, other=0)
    request = tl.load(requests_ptr + row, mask=in_rows, other=0).to(tl.int64)
    seen = in_rows[:, None] & (entry < width) & (entry < ((position + 1) // RATIO)[:, None])
    page = tl.load(page_table_ptr + request[:, None] * pages + entry // PAGE_SIZE, mask=seen, other=0)
    slot = tl.where(seen, page * PAGE_SIZE + entry % PAGE_SIZE, -1)
    tl.store(out_ptr + row[:, None] * width + entry, slot, mask=in_rows[:, None] & (entry < width))


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    value = torch.full((problem.tokens, args.width), -1.0, dtype=torch.float64, device=args.positions.device)
    for token, (position, request) in enumerate(zip(args.positions.tolist(), args.requests.tolist(), strict=True)):
        for entry in range(min(args.width, (position + 1) // args.ratio)):
            value[token, entry] = (
                int(args.page_table[request, entry // args.page_size]) * args.page_size + entry % args.page_size
            )
    return (Expected("slots", value, torch.zeros_like(value)),)


def _default(problem: Problem, device: Device) -> Config:
    block = min(triton.next_power_of_2(problem.width), 512)
    return row_config({"ROWS": 1, "BLOCK": max(64, block), "num_warps": 1}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    if config.size("BLOCK") >= 2 * max(64, problem.width):
        return f"BLOCK={config['BLOCK']} is at least twice the list of {problem.width}"
    return row_reject(config.size("ROWS"), config.size("BLOCK"), config, device, 64)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    element_bytes = 4 * (1 + 1 / problem.page_size)
    return block_work(problem, problem.tokens, problem.width, config, flops=4, element_bytes=element_bytes)


@tunable(Problem, jit=_compressed_indices, reference=_reference, default=_default, reject=_reject, work=_work)
def compressed_indices(
    positions: Tensor,
    requests: Tensor,
    page_table: Tensor,
    ratio: int,
    page_size: int,
    width: int,
    *,
    config: Config,
    device: Device,
) -> Tensor:
    """positions, requests int32 [tokens], page_table int32 [requests, pages] -> slots int32 [tokens, width].

    No tokens are no launch. Raises UsageError for other dtypes, shapes or strides.
    """
    name = "compressed_indices"
    require(name, positions=(positions, torch.int32, (None,)))
    tokens = positions.shape[0]
    require(
        name,
        positions=(positions, torch.int32, (tokens,)),
        requests=(requests, torch.int32, (tokens,)),
        page_table=(page_table, torch.int32, (None, None)),
    )
    out = torch.empty((tokens, width), dtype=torch.int32, device=positions.device)
    grid = (triton.cdiv(tokens, config.size("ROWS")), triton.cdiv(width, config.size("BLOCK")))
    launch(_compressed_indices, grid)(
        out, positions, requests, page_table, tokens, width, page_table.shape[1],
        RATIO=ratio, PAGE_SIZE=page_size, **options(config),
    )  # fmt: skip
    return out
