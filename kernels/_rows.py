"""Rules that kernels over rows share: a program owns ROWS rows, or ROWS rows of BLOCK columns of them."""

from __future__ import annotations

from autotune.config import Config, Scalar
from autotune.device import Device


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


def fp8_reject(dtype: str, device: Device) -> str | None:
    """Why a problem in the FP8 format `dtype` cannot run on `device`."""
    if (dtype == "e4m3fnuz") != (device.fp8 == "e4m3fnuz"):
        return f"{device.name} computes in {device.fp8}, the problem is {dtype}"
    return None
