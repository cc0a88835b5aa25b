"""What GEMMs share: the second launch of split-K, and the rules of tiles."""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device


@triton.jit(do_not_specialize=["elements"])
def add_partials(partial_ptr, out_ptr, elements, SPLIT_K: tl.constexpr, BLOCK: tl.constexpr):
    """out = the sum of SPLIT_K fp32 partials in their order: results repeat bit for bit."""
    offs = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = offs < elements
    total = tl.zeros((BLOCK,), dtype=tl.float32)
    for split in tl.static_range(SPLIT_K):
        total += tl.load(partial_ptr + split * elements.to(tl.int64) + offs, mask=inside, other=0.0)
    tl.store(out_ptr + offs, total.to(out_ptr.dtype.element_ty), mask=inside)


def room(shape: tuple[int, ...], split: int, out: Tensor) -> Tensor:
    """Where a GEMM writes: `out` itself, or fp32 partials [split, *shape]."""
    return out if split == 1 else torch.empty((split, *shape), dtype=torch.float32, device=out.device)


def add_up(partial: Tensor, out: Tensor) -> None:
    """Launches `add_partials` where there are any."""
    if partial is not out:
        elements = out.numel()
        grid = (triton.cdiv(elements, 1024),)
        add_partials[grid](partial, out, elements, SPLIT_K=partial.shape[0], BLOCK=1024, num_warps=4)


def fewest_fp8_rows(device: Device) -> int:
    """Rows of the smallest tile whose FP8 products are FP8 instructions; smaller ones become fp16 on sm_90 and later.

    wgmma and tcgen05 have 64 rows; mma.sync has FP8 with 16 where there is neither.
    """
    return 64 if device.architecture.group_mma else 16


def split_for(tiles: int, steps: int, device: Device, choices: tuple[int, ...]) -> int:
    """The most splits that keep every split busy with 4 steps and the grid within one wave of the device."""
    fitting = [s for s in choices if tiles * s <= device.compute_units and steps >= 4 * s and not empty(steps, s)]
    return max(fitting, default=1)


def empty(steps: int, split: int) -> bool:
    """Whether the last of `split` equal parts of `steps` would have nothing to do."""
    return split > 1 and (split - 1) * triton.cdiv(steps, split) >= steps


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
    if empty(steps, int(split)):
        return f"SPLIT_K={split} leaves a split of {steps} steps empty"
    return None
