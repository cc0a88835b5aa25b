"""Programs resident on one compute unit: exact for what the hardware's rules say of a binary's resources."""

from __future__ import annotations

from autotune.device import Device

# threads, blocks and barrier slots a block by compute capability: cuda_occupancy.h of CUDA 13.5.
_NVIDIA = {
    "sm_80": (2048, 32, 2),
    "sm_89": (1536, 24, 1),
    "sm_90": (2048, 32, 2),
    "sm_100": (2048, 32, 2),
    "sm_103": (2048, 32, 1),
    "sm_120": (1536, 24, 1),
}
# VGPRs a SIMD lane, allocation granule, waves a SIMD, LDS granule: LLVM AMDGPUBaseInfo.cpp.
_AMD = {
    "gfx90a": (512, 8, 8, 512),
    "gfx942": (512, 8, 8, 512),
    "gfx950": (512, 8, 8, 1280),
    "gfx1201": (1536, 24, 16, 512),
    "gfx1250": (1024, 16, 16, 2048),
}


def programs_per_unit(device: Device, registers: int, shared_bytes: int, num_warps: int, tmem_columns: int = 0) -> int:
    """0 where not even one fits. Registers are a thread's; shared_bytes without the driver's own KB."""
    if device.is_amd:
        return _amd(device, registers, shared_bytes, num_warps)
    return _nvidia(device, registers, shared_bytes, num_warps, tmem_columns)


def most_warps(device: Device) -> int:
    """Warps that one unit can hold: what occupancy is a fraction of."""
    if device.is_amd:
        return 4 * _AMD[device.arch][2]
    return _NVIDIA[device.arch][0] // 32


def _nvidia(device: Device, registers: int, shared_bytes: int, num_warps: int, tmem_columns: int) -> int:
    threads, blocks, _ = _NVIDIA[device.arch]
    if num_warps > 32 or shared_bytes > device.shared_bytes_per_block:
        return 0
    by_warp = _round_up(registers * 32, 256)
    if by_warp * _round_up(num_warps, 4) > 65536:
        return 0
    limits = [blocks, threads // 32 // num_warps]
    if by_warp:
        limits.append(4 * (16384 // by_warp) // num_warps)  # registers are owned by four sub-partitions
    limits.append(device.shared_bytes_per_unit // _round_up(shared_bytes + 1024, 128))
    if tmem_columns:
        limits.append(512 // tmem_columns)
    return min(limits)


def _amd(device: Device, registers: int, shared_bytes: int, num_warps: int) -> int:
    total, granule, most, lds_granule = _AMD[device.arch]
    if shared_bytes > device.shared_bytes_per_block:
        return 0
    waves = min(most, max(1, total // _round_up(max(registers, 1), granule))) * 4
    limits = [waves // num_warps, 16 if num_warps > 1 else 99]
    if shared_bytes:
        limits.append(device.shared_bytes_per_unit // _round_up(shared_bytes, lds_granule))
    return min(limits)


def _round_up(value: int, granule: int) -> int:
    return -(-value // granule) * granule
