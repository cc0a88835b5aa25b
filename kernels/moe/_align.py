"""Slots sorted by expert and padded to whole blocks, which every grouped GEMM walks: a counting sort in two launches.

Slots whose expert another rank holds come last, in blocks of expert -1: the GEMMs write zeros there.

The first launch counts each chunk's experts, and fills what stays empty. The second ranks the slots of each chunk and
adds what the chunks before it and the experts below it have: no atomics, so that the order is always the same.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.kernels._launch import is_zero, launch, require


@triton.jit
def _experts_of(ids_ptr, slot, slots, experts):
    # Experts of other ranks (any number outside the range), and slots past the end, sort behind all.
    expert = tl.load(ids_ptr + slot, mask=slot < slots, other=-1)
    return tl.where((expert >= 0) & (expert < experts), expert, experts)


@triton.jit(do_not_specialize=["slots", "capacity", "blocks"])
def _count(
    counts_ptr, sorted_ptr, block_expert_ptr, ids_ptr, slots, experts, capacity, blocks,
    CHUNK: tl.constexpr, BINS: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0)
    offs = tl.arange(0, CHUNK)
    slot = chunk * CHUNK + offs
    expert = _experts_of(ids_ptr, slot, slots, experts)
    tl.store(counts_ptr + chunk * BINS + tl.arange(0, BINS), tl.histogram(expert, BINS, mask=slot < slots))
    for start in range(chunk * CHUNK, capacity, tl.num_programs(0) * CHUNK):
        tl.store(sorted_ptr + start + offs, tl.zeros((CHUNK,), dtype=tl.int32) + slots, mask=start + offs < capacity)
    for start in range(chunk * CHUNK, blocks, tl.num_programs(0) * CHUNK):
        tl.store(block_expert_ptr + start + offs, tl.full((CHUNK,), -1, dtype=tl.int32), mask=start + offs < blocks)


@triton.jit(do_not_specialize=["slots", "chunks"])
def place(
    sorted_ptr, block_expert_ptr, used_ptr, counts_ptr, ids_ptr, slots, experts, chunks, block_m,
    CHUNK: tl.constexpr, BINS: tl.constexpr,
):  # fmt: skip
    chunk = tl.program_id(0)
    bin_ = tl.arange(0, BINS)
    total = tl.zeros((BINS,), dtype=tl.int32)
    before = tl.zeros((BINS,), dtype=tl.int32)
    for start in range(0, chunks, 8):
        other = start + tl.arange(0, 8)
        counts = tl.load(counts_ptr + other[:, None] * BINS + bin_[None, :], mask=(other < chunks)[:, None], other=0)
        total += tl.sum(counts, axis=0)
        before += tl.sum(tl.where((other < chunk)[:, None], counts, 0), axis=0)
    padded = tl.cdiv(total, block_m)
    first_block = tl.cumsum(padded, axis=0) - padded
    if chunk == 0:
        tl.store(used_ptr, tl.sum(tl.where(bin_ < experts, padded, 0), axis=0))
    slot = tl.arange(0, CHUNK)
    expert = _experts_of(ids_ptr, chunk * CHUNK + slot, slots, experts)
    # A slot's place among those of its expert in this chunk.
    if CHUNK <= 128:
        earlier = (expert[None, :] == expert[:, None]) & (slot[None, :] < slot[:, None])
        rank = tl.sum(earlier.to(tl.int32), axis=1)
    else:
        # Fewer steps than comparing all with all. Keys differ, so that any sort is stable.
        order = tl.sort(expert * CHUNK + slot)
        expert = order // CHUNK
        own_counts = tl.load(counts_ptr + chunk * BINS + bin_)
        rank = slot - tl.gather(tl.cumsum(own_counts, axis=0) - own_counts, expert, 0)
        slot = order % CHUNK
    rank += tl.gather(before, expert, 0)
    block = tl.gather(first_block, expert, 0)
    slot += chunk * CHUNK
    tl.store(sorted_ptr + block * block_m + rank, slot, mask=slot < slots)
    tl.store(block_expert_ptr + block + rank // block_m, expert, mask=(expert < experts) & (rank % block_m == 0))


@triton.jit
def store_zeros(out_ptr, sorted_ptr, block, tile, slots, n, BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr):
    """Zeros in a tile of the rows of a block whose expert is -1: other ranks' slots, or none."""
    slot = tl.load(sorted_ptr + block * BLOCK_M + tl.arange(0, BLOCK_M))
    offs_n = tile * BLOCK_N + tl.arange(0, BLOCK_N)
    out_ptrs = out_ptr + slot.to(tl.int64)[:, None] * n + offs_n[None, :]
    zeros = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.bfloat16)
    tl.store(out_ptrs, zeros, mask=(slot < slots)[:, None] & (offs_n < n)[None, :])


def most_blocks(slots: int, experts: int, block_m: int) -> int:
    """The most blocks that any routing needs: a partial one for each expert touched, and the whole ones.

    Experts of other ranks count as one more.
    """
    return min(slots, min(slots, experts + 1) + slots // block_m)


def sort_slots(
    expert_ids: Tensor, experts: int, block_m: int, **config: int | str | bool
) -> tuple[Tensor, Tensor, Tensor]:
    """(slots int32 [blocks * block_m], experts int32 [blocks], blocks used int32 [1]); launches both kernels."""
    slots, chunk = expert_ids.numel(), int(config["CHUNK"])
    blocks, chunks, bins = most_blocks(slots, experts, block_m), triton.cdiv(slots, chunk), bins_of(experts)
    home = expert_ids.device
    counts = torch.empty((chunks, bins), dtype=torch.int32, device=home)
    sorted_slots = torch.empty((blocks * block_m,), dtype=torch.int32, device=home)
    block_expert = torch.empty((blocks,), dtype=torch.int32, device=home)
    used = (torch.zeros if is_zero(slots) else torch.empty)((1,), dtype=torch.int32, device=home)
    launch(_count, (chunks,))(
        counts, sorted_slots, block_expert, expert_ids, slots, experts, blocks * block_m, blocks, BINS=bins, **config
    )
    launch(place, (chunks,))(
        sorted_slots, block_expert, used, counts, expert_ids, slots, experts, chunks, block_m, BINS=bins, **config
    )
    return sorted_slots, block_expert, used


def bins_of(experts: int) -> int:
    """Experts, and one more for slots that none of them serves."""
    return triton.next_power_of_2(experts + 1)


def sort_config(slots: int) -> dict[str, int]:
    """Without tuning; 4 warps spill 8 B a thread on sm_90 with chunks of 1024."""
    chunk = min(1024, max(64, triton.next_power_of_2(slots)))
    return {"CHUNK": chunk, "num_warps": 1 if chunk <= 128 else 4 if chunk <= 512 else 8}


def aligned(
    kernel: str, expert_ids: Tensor, experts: int, block_m: int, alignment: tuple[Tensor, Tensor] | None
) -> tuple[Tensor, Tensor]:
    """`alignment`, which two GEMMs of a layer share, checked; or the sort of a GEMM that comes without one.

    Raises UsageError for an alignment of other sizes, such as one for another BLOCK_M.
    """
    if alignment is None:
        return sort_slots(expert_ids, experts, block_m, **sort_config(expert_ids.numel()))[:2]
    sorted_slots, block_expert = alignment
    blocks = most_blocks(expert_ids.numel(), experts, block_m)
    require(
        kernel,
        expert_ids=(expert_ids, torch.int32, expert_ids.shape),
        sorted_slots=(sorted_slots, torch.int32, (blocks * block_m,)),
        block_expert=(block_expert, torch.int32, (blocks,)),
    )
    return alignment
