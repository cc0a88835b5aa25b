"""Rules that kernels over rows share: a program owns ROWS rows, or ROWS rows of BLOCK columns of them."""

from __future__ import annotations

import triton

from autotune.config import Config, Problem, Scalar
from autotune.device import Device
from autotune.kernel import Work


def row_config(shared: dict[str, Scalar], device: Device) -> Config:
    """`shared` with the options of a kernel that has no matrix work."""
    shared = {"num_stages": 1, **shared}
    return Config(shared, waves_per_eu=0) if device.is_amd else Config(shared, num_ctas=1, maxnreg=0)


def row_reject(rows: int, cols: int, config: Config, device: Device, most: int = 128) -> str | None:
    """Why a tile of rows x cols does not suit the config's threads; `most` fp32 values fit a thread."""
    threads = config.size("num_warps") * device.warp_size
    if rows * cols > most * threads:
        return f"{rows * cols // threads} fp32 values a thread do not fit in registers"
    if rows * cols < threads:
        return f"{threads} threads for {rows * cols} values leave threads idle"
    return None


def block_reject(cols: int, config: Config, device: Device, most: int = 128) -> str | None:
    """Reason why tiles of ROWS x BLOCK in rows of `cols` do not suit the config, or None; `most` as in `row_reject`."""
    block = config.size("BLOCK")
    if block >= 2 * cols:
        return f"BLOCK={block} is at least twice the row of {cols}: half the lanes would idle"
    return row_reject(config.size("ROWS"), block, config, device, most)


def row_work(
    problem: Problem, rows: int, config: Config, *, flops: float, row_bytes: float, program_bytes: int = 0
) -> Work:
    """Work of programs that own ROWS of `rows`: `flops` and `row_bytes` a row, `program_bytes` whatever ROWS is."""
    own = config.size("ROWS")
    return Work(
        programs=triton.cdiv(rows, own),
        flops_per_program=own * flops,
        bytes_per_program=own * row_bytes + program_bytes,
        unique_bytes=problem.bytes_moved,
    )


def block_work(problem: Problem, rows: int, cols: int, config: Config, *, flops: float, element_bytes: float) -> Work:
    """Work of programs that own tiles of ROWS x BLOCK: `flops` and `element_bytes` an element."""
    own, block = config.size("ROWS"), config.size("BLOCK")
    return Work(
        programs=triton.cdiv(rows, own) * triton.cdiv(cols, block),
        flops_per_program=flops * own * block,
        bytes_per_program=element_bytes * (own * block),
        unique_bytes=problem.bytes_moved,
    )


def fp8_reject(dtype: str, device: Device) -> str | None:
    """Why a problem in the FP8 format `dtype` cannot run on `device`."""
    if (dtype == "e4m3fnuz") != (device.fp8 == "e4m3fnuz"):
        return f"{device.name} computes in {device.fp8}, the problem is {dtype}"
    return None
