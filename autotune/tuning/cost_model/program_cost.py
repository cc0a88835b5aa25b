"""Cost of one iteration of one program on its compute unit: from the binary if it is compiled, else from the config."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from autotune.device import Device
from autotune.tuning.arrays import Floats
from autotune.tuning.compilation.resources import Resources
from autotune.tuning.cost_model.call_batch import SCALED, CallBatch
from autotune.tuning.cost_model.constants import Terms, terms
from autotune.tuning.cost_model.tile_cost import Tiles, tiles

_NARROW = ("f8", "fp8", "e4m3", "mxf4", "f4")
_SYNC_RATE = 0.4
"""Rate of mma.sync relative to warp-group instructions; alone it reaches 0.6 (Luo et al. 2024, arXiv 2402.13499)."""
_LANES = 128
"""fp32 operations per clock and compute unit, NVIDIA and CDNA alike."""
_STAGE_CLOCKS = 100
"""Clocks to issue the loads of one pipeline stage."""


@dataclass(frozen=True)
class ProgramCost:
    """Cost of one program; counts are per iteration, columns as in `CallBatch`."""

    programs_per_unit: Floats
    tile_bytes: Floats
    """Bytes loaded from L2."""
    matrix_clocks: Floats
    """Clocks of the compute unit's matrix pipes, at their datasheet rate."""
    issue_clocks: Floats
    """Clocks of all the unit's schedulers."""
    shared_bytes_moved: Floats
    sync_clocks: Floats
    """Barriers and waits for the matrix unit, which overlap with nothing in the same program."""
    fill_clocks: Floats
    """Until a tile has come, once its first bytes have."""
    loads_in_flight: Floats
    """Iterations whose loads are in flight at once."""
    edge_clocks: Floats
    """Prologue, in which pipeline stages are filled one after another, and epilogue."""


def program_cost(
    calls: CallBatch, device: Device, resources: Sequence[Resources | None] = (), terms_of_formula: Terms | None = None
) -> ProgramCost:
    """Estimate the cost of programs with BLOCK_M x BLOCK_N x BLOCK_K tiles; others count their bytes and flops only.

    `resources` of compiled binaries replace estimates, in the order of the calls.
    """
    given = terms_of_formula or terms(device.vendor)
    tile = tiles(calls, device)
    resident = tile.programs_per_unit
    excess = np.maximum(0, tile.registers - device.architecture.limits.thread_registers)
    spilled = np.where(tile.tiled, 4 * excess * tile.threads, 0.0)
    # tcgen05's sums stay in tensor memory: threads hold them, and spill, after the last iteration only.
    outside = tile.by_group & (device.architecture.group_mma == "tcgen05") & ~calls.is_scaled
    spilled = np.where(outside, 0.0, spilled)
    rows, rate = _instruction(calls, device, tile)
    for at, binary in enumerate(resources):
        if binary is not None:
            resident[at] = binary.programs_per_unit
            spilled[at] = binary.stack_bytes * tile.threads[at] * ~outside[at]
            if calls.dtype[at] != "fp32" and binary.matrix_instructions:
                rows[at], rate[at] = _emitted(str(calls.dtype[at]), device, binary)
    padding = np.where(tile.tiled, np.maximum(1, rows / np.maximum(calls.rows, 1)), 1.0)
    a_clock = rate / device.compute_units / (device.clock_ghz * 1e3)
    tile_bytes = np.where(tile.tiled, tile.bytes, calls.step_bytes)
    loads, port = np.clip(calls.stages - 1, 1.0, calls.iterations), tile_bytes / given.fill_bytes_per_clock
    return ProgramCost(
        programs_per_unit=np.maximum(1.0, resident),
        tile_bytes=tile_bytes,
        # A unit has four matrix pipes, each fed by its own warps.
        matrix_clocks=calls.flops_per_program / calls.iterations * padding / a_clock * np.maximum(1, 4 / calls.warps),
        issue_clocks=(_operations(calls, device, tile, given) + spilled) / _LANES,
        shared_bytes_moved=np.where(tile.tiled, tile.bytes + tile.read + 8 * spilled, 0.0),
        sync_clocks=_sync_clocks(calls, device, tile, given),
        fill_clocks=port,
        loads_in_flight=loads,
        edge_clocks=calls.rows * calls.columns / 8 + 200 + np.where(tile.tiled, loads * (_STAGE_CLOCKS + port), 0.0),
    )


def _instruction(calls: CallBatch, device: Device, tile: Tiles) -> tuple[Floats, Floats]:
    """Return rows and dense flop/us of the matrix instruction that the compiler chooses for such tiles."""
    rate = calls.by_dtype(device.rate)
    if device.architecture.group_mma:
        # fp8 below 64 rows becomes fp16; tcgen05 devices have no faster mma.sync than Hopper's a clock.
        below = min(device.rate("bf16"), 4096 * device.compute_units * device.clock_ghz * 1e3) * _SYNC_RATE
        single = tile.tiled & ~tile.by_group & (calls.dtype != "fp32")
        rate = np.where(single, np.minimum(below, rate), rate)
    return np.where(tile.by_group, 64.0, 16.0), rate


def _emitted(dtype: str, device: Device, resources: Resources) -> tuple[float, float]:
    """Return rows and dense flop/us of the matrix instruction that the binary contains."""
    names = " ".join(name for name, _ in resources.matrix_instructions)
    narrow = any(mark in names for mark in _NARROW)
    by_group = "wgmma" in names or "tcgen05" in names
    rate = device.rate(dtype if narrow or dtype not in SCALED else "bf16")
    slower = device.architecture.group_mma and not by_group
    return (64.0 if by_group else 16.0), rate * (_SYNC_RATE if slower else 1.0)


def _operations(calls: CallBatch, device: Device, tile: Tiles, given: Terms) -> Floats:
    """Return fp32 lane operations; scalar instructions count as a whole warp's."""
    scaling = np.where(calls.is_scaled, calls.rows * (given.scaling * calls.columns + given.row_scaling), 0.0)
    loop = given.loop_instructions * tile.threads
    if device.is_amd:  # through registers: loaded, stored to LDS, read back, 16 bytes a lane
        tiled = scaling + loop + (4 * tile.bytes + 2 * tile.read) / 16
    else:
        widened = calls.is_fp8 & (device.architecture.group_mma is not None)
        products = calls.rows * calls.columns * calls.depth * np.where(widened, 2, calls.width) / 128
        by_warp = products + tile.read / 16 + np.where(widened, tile.read / 2, 0.0)
        tiled = scaling + loop + tile.bytes / 8 + np.where(tile.by_group, 0.0, by_warp)
    counted = given.lane_instructions * calls.lane_operations / calls.iterations
    return np.where(tile.tiled, tiled, calls.step_bytes / 2) + counted


def _sync_clocks(calls: CallBatch, device: Device, tile: Tiles, given: Terms) -> Floats:
    """Return clocks of waits. tcgen05 leaves products in tensor memory, to be read back each time they are scaled."""
    through_memory = tile.by_group & (device.architecture.group_mma == "tcgen05") & calls.is_scaled
    return np.where(through_memory, given.tensor_memory_clocks, given.sync_clocks)
