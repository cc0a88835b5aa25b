"""What one iteration of one program asks of its unit: from the binary where it is compiled, else from the config."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.config import Config
from autotune.device import Device
from autotune.kernel import Work
from autotune.tuning.compilation.occupancy import programs_per_unit
from autotune.tuning.compilation.resources import Resources

_NARROW = ("f8", "fp8", "e4m3", "mxf4", "f4")
_WARPGROUP_ARCHS = ("sm_90", "sm_100", "sm_103")
_SYNC_RATE = 0.6
"""mma.sync reaches some 60 % of the warp-group instructions' rate on sm_90 (Luo et al. 2024, arXiv 2402.13499)."""
_OTHER_REGISTERS = 48
"""Addresses, scales and indices a thread, as compiled for sm_90 and gfx942 here: 40 to 60."""


@dataclass(frozen=True)
class Footprint:
    """Of one program; counts are for one iteration."""

    programs_per_unit: int
    matrix_clocks: float
    """Of the unit's matrix pipes, at their datasheet rate."""
    vector_operations: float
    """fp32 lanes: scaling and adding of accumulators, widening of operands, spills."""
    shared_bytes_moved: float
    loads_in_flight: int
    """Iterations whose loads are under way."""
    epilogue_clocks: float


def footprint(work: Work, config: Config, device: Device, resources: Resources | None) -> Footprint:
    """Estimates hold for kernels with BLOCK_M x BLOCK_N accumulators; others count their bytes and flops only."""
    rows, columns = _tile(work, config)
    step_bytes = work.bytes_per_program / max(1, work.iterations)
    stages = int(config.get("num_stages", 1))
    resident = resources.programs_per_unit if resources else _estimate(config, device, rows * columns, step_bytes)
    wide, rate = _rate(work, device, rows, resources)
    flops = work.flops_per_program / max(1, work.iterations) * max(1.0, wide / max(rows, 1))
    vector = _vector_operations(work, device, rows, columns, step_bytes)
    spilled = _spilled_bytes(config, device, rows * columns, resources)
    return Footprint(
        programs_per_unit=max(1, resident),
        matrix_clocks=flops / (rate / device.compute_units / (device.clock_ghz * 1e3)) * _idle_pipes(config),
        vector_operations=vector,
        shared_bytes_moved=_shared_bytes(config, device, rows, columns, step_bytes) + 2 * spilled,
        loads_in_flight=max(1, stages - 1),
        epilogue_clocks=rows * columns / 64 + 200,
    )


def _tile(work: Work, config: Config) -> tuple[int, int]:
    if "BLOCK_M" in config and "BLOCK_N" in config and work.dtype != "fp32":
        return config.size("BLOCK_M"), config.size("BLOCK_N")
    return 0, 0


def _registers(config: Config, device: Device, accumulators: int) -> int:
    """Of a thread, before compiling: products and their sum are both held; more than the limit spills."""
    return int(_OTHER_REGISTERS + 2 * accumulators / (config.size("num_warps") * device.warp_size))


def _estimate(config: Config, device: Device, accumulators: int, step_bytes: float) -> int:
    """Programs a unit before compiling: registers, and the ring of stages in shared memory."""
    if not accumulators:
        return 2
    stages = int(config.get("num_stages", 1))
    buffers = stages if device.arch in (*_WARPGROUP_ARCHS, "gfx950") else max(1, stages - 1)
    registers = min(_registers(config, device, accumulators), _most_registers(device))
    return programs_per_unit(device, registers, int(step_bytes * buffers), config.size("num_warps"))


def _most_registers(device: Device) -> int:
    return 512 if device.is_amd else 255


def _spilled_bytes(config: Config, device: Device, accumulators: int, resources: Resources | None) -> float:
    """Stored and read back in one iteration."""
    threads = config.size("num_warps") * device.warp_size
    if resources is not None:
        return 2.0 * resources.stack_bytes * threads
    return 8.0 * max(0, _registers(config, device, accumulators) - _most_registers(device)) * threads


def _rate(work: Work, device: Device, rows: int, resources: Resources | None) -> tuple[int, float]:
    """Rows of the matrix instruction, and its dense flop/us: of the one emitted, not of the operands' dtype."""
    warpgroup = device.arch in _WARPGROUP_ARCHS
    if work.dtype == "fp32":
        return rows, device.rate("fp32")
    if resources is not None and resources.matrix_instructions:
        names = " ".join(name for name, _ in resources.matrix_instructions)
        narrow = any(mark in names for mark in _NARROW)
        dtype = work.dtype if narrow or work.dtype not in ("fp8", "fp4") else "bf16"
        return (64, device.rate(dtype)) if "wgmma" in names or "tcgen05" in names else (16, device.rate(dtype))
    if warpgroup and rows and rows < 64:
        # fp8 below 64 rows becomes fp16 mma.sync; tcgen05 devices have no faster one than Hopper's a clock.
        return 16, min(device.rate("bf16"), 4096 * device.compute_units * device.clock_ghz * 1e3) * _SYNC_RATE
    return (64 if warpgroup else 16), device.rate(work.dtype)


def _idle_pipes(config: Config) -> float:
    """A unit has four matrix pipes, each fed by its own warps."""
    return max(1.0, 4 / config.size("num_warps"))


def _vector_operations(work: Work, device: Device, rows: int, columns: int, step_bytes: float) -> float:
    if not rows:
        return step_bytes / 2
    scaling = 2.0 * rows * columns if work.dtype in ("fp8", "fp4") else 0.0
    widened = step_bytes / 2 if device.arch in _WARPGROUP_ARCHS and rows < 64 and work.dtype == "fp8" else 0.0
    return scaling + widened + step_bytes / 16


def _shared_bytes(config: Config, device: Device, rows: int, columns: int, step_bytes: float) -> float:
    """Written once; read by every warp, or group of four on warp-group instructions, that needs the operand."""
    if not rows:
        return 0.0
    a, b = step_bytes * rows / (rows + columns), step_bytes * columns / (rows + columns)
    warps = config.size("num_warps")
    if device.arch in _WARPGROUP_ARCHS and rows >= 64:
        return step_bytes + a + b * max(1, min(warps // 4, rows // 64))
    down = max(1, min(warps, rows // 16))
    across = max(1, warps // down)
    return step_bytes + a * across + b * down
