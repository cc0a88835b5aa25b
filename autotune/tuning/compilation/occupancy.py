"""Programs resident on one compute unit: exact for what the hardware's rules say of a binary's resources."""

from __future__ import annotations

from autotune.arch import PLANNED_ONLY, AiCore, ComputeUnit, Multiprocessor
from autotune.device import Device
from autotune.errors import DeviceError


def programs_per_unit(device: Device, registers: int, shared_bytes: int, num_warps: int, tmem_columns: int = 0) -> int:
    """0 where not even one fits. Registers are a thread's; shared_bytes without the driver's own KB.

    Raises DeviceError for an NPU, whose cores run one program at a time.
    """
    limits = device.architecture.limits
    if isinstance(limits, AiCore):
        raise DeviceError(f"{device.name} is an NPU, which has no occupancy; {PLANNED_ONLY}")
    if isinstance(limits, ComputeUnit):
        return _amd(limits, device, registers, shared_bytes, num_warps)
    return _nvidia(limits, device, registers, shared_bytes, num_warps, tmem_columns)


def most_warps(device: Device) -> int:
    """Warps that one unit can hold: what occupancy is a fraction of."""
    return device.architecture.limits.warps


def _nvidia(
    limits: Multiprocessor, device: Device, registers: int, shared_bytes: int, num_warps: int, tmem_columns: int
) -> int:
    if num_warps > 32 or shared_bytes > device.shared_bytes_per_block:
        return 0
    by_warp = _round_up(registers * 32, 256)
    if by_warp * _round_up(num_warps, 4) > 65536:
        return 0
    programs = [limits.blocks, limits.threads // 32 // num_warps]
    if by_warp:
        programs.append(4 * (16384 // by_warp) // num_warps)  # registers are owned by four sub-partitions
    programs.append(device.shared_bytes_per_unit // _round_up(shared_bytes + 1024, 128))
    if tmem_columns:
        programs.append(512 // tmem_columns)
    return min(programs)


def _amd(limits: ComputeUnit, device: Device, registers: int, shared_bytes: int, num_warps: int) -> int:
    if shared_bytes > device.shared_bytes_per_block:
        return 0
    waves = min(limits.waves, max(1, limits.vgprs // _round_up(max(registers, 1), limits.vgpr_granule))) * 4
    programs = [waves // num_warps, 16 if num_warps > 1 else 99]
    if shared_bytes:
        programs.append(device.shared_bytes_per_unit // _round_up(shared_bytes, limits.lds_granule))
    return min(programs)


def _round_up(value: int, granule: int) -> int:
    return -(-value // granule) * granule
