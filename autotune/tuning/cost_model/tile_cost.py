"""Cost of a tile before compiling: bytes loaded and re-read, registers, and how many programs fit on a unit."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from autotune.device import Device
from autotune.tuning.arrays import Floats
from autotune.tuning.compilation.occupancy import programs_per_unit
from autotune.tuning.cost_model.call_batch import CallBatch


@dataclass(frozen=True)
class Tiles:
    """Columns as in `CallBatch`; only `threads` is meaningful for kernels without BLOCK_M x BLOCK_N x BLOCK_K tiles."""

    tiled: NDArray[np.bool_]
    by_group: NDArray[np.bool_]
    """True where four warps together run instructions that read shared memory directly: wgmma, tcgen05."""
    threads: Floats
    bytes: Floats
    """Bytes of both operands in one iteration, out-of-range rows included: kernels re-read a valid row instead."""
    read: Floats
    """Bytes read from shared memory, by every warp or group of four that needs an operand."""
    registers: Floats
    """Registers per thread, before any limit."""
    programs_per_unit: Floats


def tiles(calls: CallBatch, device: Device) -> Tiles:
    """Estimate tiles from the configs, before compiling."""
    tiled = (calls.rows > 0) & (calls.depth > 0)
    grouped = device.architecture.group_mma is not None
    by_group = tiled & (calls.rows >= 64) & grouped
    a, b = calls.rows * calls.depth * calls.a_width, calls.columns * calls.depth * calls.b_width
    of_a, of_b = _readings(calls, device, by_group)
    read = a * of_a + b * of_b
    # fp8 below 64 rows is widened to fp16 in registers.
    held = np.where(by_group, 0.0, read * np.where(calls.is_fp8 & grouped, 2, 1))
    threads = calls.warps * device.warp_size
    registers = _registers(calls, device, threads, a + b, held)
    return Tiles(
        tiled=tiled,
        by_group=by_group,
        threads=threads,
        bytes=a + b,
        read=read,
        registers=registers,
        programs_per_unit=np.where(tiled, _fitting(calls, device, registers, ring_bytes(calls, device)), 2.0),
    )


def ring_bytes(calls: CallBatch, device: Device) -> Floats:
    """Estimate shared memory that a program's pipeline holds: a buffer a stage, one less where loads wait in
    registers."""
    by_group = (calls.rows >= 64) & (device.architecture.group_mma is not None)
    held = np.where(by_group | device.architecture.direct_to_lds, calls.stages, np.maximum(1, calls.stages - 1))
    return calls.depth * (calls.rows * calls.a_width + calls.columns * calls.b_width) * held


def _readings(calls: CallBatch, device: Device, by_group: NDArray[np.bool_]) -> tuple[Floats, Floats]:
    """Return how often A and B are read from shared memory in one iteration, by Triton 3.9's layout of warps.

    Single warps (mma.sync, MFMA) are put down the rows while a warp's part is at least twice as high as wide, else
    across. wgmma reads B for every 64 rows and A for every group of four warps across; tcgen05 B for every 128 rows.
    """
    down, across = np.ones(len(calls.rows)), np.ones(len(calls.rows))
    for _ in range(int(np.log2(calls.warps.max(initial=1)))):
        more = down * across < calls.warps
        high = calls.rows / down >= 2 * calls.columns / across
        down = np.where(more & high, 2 * down, down)
        across = np.where(more & ~high, 2 * across, across)
    wgmma = device.architecture.group_mma == "wgmma"
    at_once = 64 if wgmma else 128
    instructions = np.maximum(1.0, calls.rows / at_once)
    groups = np.maximum(1.0, calls.warps // 4 // instructions) if wgmma else 1.0
    return np.where(by_group, groups, across), np.where(by_group, instructions, down)


def _registers(calls: CallBatch, device: Device, threads: Floats, tile_bytes: Floats, held_bytes: Floats) -> Floats:
    """Estimate registers per thread, fitted to 287 binaries of block-scaled FP8 GEMM (sm_90, gfx942; Triton 3.9).

    Root mean square error where nothing spills: 4 registers for wgmma, 8 for mma.sync, 11 for MFMA; 12 more for other
    kernels.
    """
    held = np.where(calls.is_scaled, 2, 1)
    accumulators = calls.rows * calls.columns / threads
    if device.is_amd:
        return 36 + held * accumulators + 2.3 * tile_bytes / 4 / threads
    operands = np.where(held_bytes > 0, 12 + 0.45 * held_bytes / 4 / threads, 0.0)
    return 36 + held * accumulators + 0.8 * tile_bytes / 4 / threads + operands


def _fitting(calls: CallBatch, device: Device, registers: Floats, shared_bytes: Floats) -> Floats:
    used = np.floor(np.minimum(registers, device.architecture.limits.thread_registers))
    asked = np.stack([used, np.floor(shared_bytes), calls.warps], 1).astype(int)
    distinct, inverse = np.unique(asked, axis=0, return_inverse=True)
    fitting: Floats = np.array([programs_per_unit(device, *map(int, row)) for row in distinct], float)
    return fitting[inverse.reshape(-1)]
