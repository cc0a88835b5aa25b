"""Parts of all GEMMs: their problems, the sums of split-K, and the rules of tiles."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Protocol

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.kernel import Work
from autotune.kernels._launch import launch
from autotune.kernels._problem import Sizes, at_least, multiple_of
from autotune.kernels._split import leaves_empty, split_work
from autotune.kernels._tickets import arrives_last, joins_in_launch, tickets

SCALED_ROWS = 128
"""Rows of tcgen05's instructions that scale by blocks, FP8 by FP4 and FP8 by FP8."""


@dataclass(frozen=True)
class Product(Sizes):
    """m tokens by weights [n, k]."""

    m: int
    n: int
    k: int

    VARYING: ClassVar[tuple[str, ...]] = ("m",)

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * self.k


@dataclass(frozen=True)
class Fp8Product(Product):
    """FP8 tokens, scaled by GROUP columns; `dtype` is e4m3fn, or e4m3fnuz on CDNA3."""

    dtype: str = "e4m3fn"

    GROUP: ClassVar[int]

    def __post_init__(self) -> None:
        super().__post_init__()
        multiple_of(self, k=self.GROUP)


@dataclass(frozen=True)
class GroupedProduct(Sizes):
    """m tokens [m, groups, k] by weights [groups, n, k]."""

    m: int
    groups: int
    n: int
    k: int

    VARYING: ClassVar[tuple[str, ...]] = ("m",)

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, k=16)

    @property
    def flops(self) -> int:
        return 2 * self.groups * self.m * self.n * self.k


@triton.jit
def store_tile(acc, out_ptr, partial_ptr, ticket_ptr, offs, inside, elements, split, SPLIT_K: tl.constexpr):
    """Store a tile of sums at `offs`; of SPLIT_K programs that share it, the last to arrive adds all parts.

    `partial_ptr` fp32 [SPLIT_K, elements], with `elements` those of out, int64; `ticket_ptr` the tile's own of
    `tickets`, None where `add_parts` adds them. Parts are added in their order, whoever comes last: results repeat bit
    for bit.
    """
    if SPLIT_K == 1:
        tl.store(out_ptr + offs, acc.to(out_ptr.dtype.element_ty), mask=inside)
    else:
        tl.store(partial_ptr + split * elements + offs, acc, mask=inside)
        if ticket_ptr is not None:
            if arrives_last(ticket_ptr, SPLIT_K):
                total = tl.zeros(acc.shape, dtype=tl.float32)
                # Two parts are under way at a time: more would need registers that the loop over k has not.
                for part in tl.range(SPLIT_K, loop_unroll_factor=2):
                    total += tl.load(partial_ptr + part * elements + offs, mask=inside, other=0.0)
                tl.store(out_ptr + offs, total.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit(do_not_specialize=["elements"])
def _add_parts(partial_ptr, out_ptr, elements, SPLIT_K: tl.constexpr, BLOCK: tl.constexpr):
    """Add SPLIT_K fp32 parts [SPLIT_K, elements] in their order."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offs < elements
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for part in tl.static_range(SPLIT_K):
        total += tl.load(partial_ptr + part * elements.to(tl.int64) + offs, mask=inside, other=0.0)
    tl.store(out_ptr + offs, total.to(out_ptr.dtype.element_ty), mask=inside)


@triton.jit
def load_rows(ptr, row, inside, col, k):
    """[ROWS, COLS] of rows of k columns: the form of NPUs, whose DMA moves a masked rectangle at once.

    Clamped rows, and weights read as columns, go there row by row or element by element.
    """
    mask = inside[:, None] & (col < k)[None, :]
    return tl.load(ptr + row.to(tl.int64)[:, None] * k + col[None, :], mask=mask, other=0.0)


def split_buffers(out: Tensor, split: int, tiles: int, device: Device) -> tuple[Tensor | None, Tensor | None]:
    """fp32 partials [split, *out.shape] and a ticket for each of `tiles`; none where k is not split, no tickets where
    `add_parts` is a launch of its own."""
    if split == 1:
        return None, None
    partial = torch.empty((split, *out.shape), dtype=torch.float32, device=out.device)
    return partial, tickets(tiles, out.device) if joins_in_launch(device) else None


def add_parts(out: Tensor, partial: Tensor | None, arrivals: Tensor | None) -> None:
    """Launch the sum of the parts of `split_buffers` where the programs themselves had no tickets to do it."""
    if partial is not None and arrivals is None:
        elements = out.numel()
        grid = (triton.cdiv(elements, 1024),)
        launch(_add_parts, grid)(partial, out, elements, SPLIT_K=partial.shape[0], BLOCK=1024, num_warps=4)


def fewest_fp8_rows(device: Device) -> int:
    """Rows of the smallest tile whose FP8 products are FP8 instructions; smaller ones become fp16 on sm_90 and later.

    wgmma and tcgen05 have 64 rows; mma.sync has FP8 with 16 where there is neither.
    """
    return 64 if device.architecture.group_mma else 16


def split_for(tiles: int, steps: int, device: Device, choices: tuple[int, ...]) -> int:
    """Largest split that gives every part 4 steps and keeps the grid within one wave of the device."""
    fitting = [
        s for s in choices if tiles * s <= device.compute_units and steps >= 4 * s and not leaves_empty(steps, s)
    ]
    return max(fitting, default=1)


def grouped_work(
    problem: GroupedProduct, config: Config, device: Device, width: int, dtype: str, unique_bytes: int
) -> Work:
    """Work of `problem` with operands of `width` bytes an element."""
    m, block_m, block_n = problem.m, config.size("BLOCK_M"), config.size("BLOCK_N")
    return split_work(
        m,
        problem.n,
        problem.k,
        config,
        device,
        groups=problem.groups,
        depth_bytes=width * (min(block_m, m) + block_n),
        tile_bytes=4 * block_m * block_n,
        unique_bytes=unique_bytes,
        dtype=dtype,
    )


class _Sum(Protocol):
    """A problem whose products are summed over `k` columns."""

    @property
    def k(self) -> int: ...


def bf16_reject(problem: _Sum, config: Config, device: Device) -> str | None:
    """`tile_reject` of products of two bf16 operands."""
    stage_bytes = 2 * (config.size("BLOCK_M") + config.size("BLOCK_N")) * config.size("BLOCK_K")
    return tile_reject(config, device, problem.k, stage_bytes)


def has_native_mxfp4(config: Config, device: Device) -> bool:
    """True if `tl.dot_scaled` of FP8 by FP4 becomes one matrix instruction with this tile.

    The one of tcgen05 has 128 rows: Triton 3.9 widens smaller tiles to bf16 there.
    """
    return device.has_native_fp4 and (device.architecture.group_mma is None or config.size("BLOCK_M") >= SCALED_ROWS)


def with_widening(work: Work, config: Config, device: Device, columns: float) -> Work:
    """`work` of FP8 by FP4, `columns` of k a program, whose operands become bf16 where no instruction takes them."""
    if has_native_mxfp4(config, device):
        return work
    elements = (config.size("BLOCK_M") + config.size("BLOCK_N")) * columns
    return replace(work, widened_to="bf16", lane_operations_per_program=elements)


def tile_reject(config: Config, device: Device, k: int, stage_bytes: float) -> str | None:
    """Why BLOCK_M x BLOCK_N tiles with `stage_bytes` of operands a stage cannot run, or would certainly be slow."""
    block_m, block_n, block_k = (config.size(name) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K"))
    threads = config.size("num_warps") * device.warp_size
    if block_m * block_n > 256 * threads:
        return f"{block_m * block_n // threads} fp32 accumulators a thread do not fit beside their operands"
    if block_m * block_n < 2 * threads:
        return f"{threads} threads for {block_m * block_n} outputs leave threads idle"
    if stage_bytes * max(1, config.size("num_stages") - 1) > device.shared_bytes_per_block:
        return (
            f"{config['num_stages']} stages of {stage_bytes:.0f} B exceed "
            f"{device.shared_bytes_per_block} B of shared memory"
        )
    if block_k >= 2 * max(k, 32):
        return f"BLOCK_K={block_k} is at least twice k={k}"
    split = config.get("SPLIT_K", 1)
    steps = triton.cdiv(k, block_k)
    if leaves_empty(steps, int(split)):
        return f"SPLIT_K={split} leaves a split of {steps} steps empty"
    return None
