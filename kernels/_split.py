"""Arithmetic of split-K: the rules and formulas of kernels that have `SPLIT_K`."""

from __future__ import annotations

import triton

from autotune.config import Config
from autotune.device import Device
from autotune.kernel import Work
from autotune.kernels._tickets import joins_in_launch


def steps_of_split(k: int, config: Config) -> int:
    """Steps of BLOCK_K that one of SPLIT_K programs takes: whole ones, as the device code walks them."""
    steps: int = triton.cdiv(triton.cdiv(k, config.size("BLOCK_K")), config.size("SPLIT_K"))
    return steps


def leaves_empty(steps: int, split: int) -> bool:
    """True if the last of `split` equal parts of `steps` would have nothing to do."""
    return split > 1 and (split - 1) * triton.cdiv(steps, split) >= steps


def launches_of_split(split: int, device: Device) -> int:
    """Launches of a product cut into `split` parts: 2 where a launch of its own adds them."""
    return 1 if split == 1 or joins_in_launch(device) else 2


def split_work(
    m: int,
    n: int,
    k: int,
    config: Config,
    device: Device,
    *,
    groups: int = 1,
    depth_bytes: float,
    tile_bytes: float,
    unique_bytes: int,
    dtype: str,
) -> Work:
    """Work of `groups` products [m, k] x [n, k] in tiles of BLOCK_M x BLOCK_N, each cut into SPLIT_K parts.

    `depth_bytes` of operands are loaded a column of k, `tile_bytes` stored; partials are fp32, written and read.
    """
    block_m, block_n, split = config.size("BLOCK_M"), config.size("BLOCK_N"), config.size("SPLIT_K")
    steps = steps_of_split(k, config)
    return Work(
        programs=triton.cdiv(m, block_m) * triton.cdiv(n, block_n) * groups * split,
        flops_per_program=2 * block_m * block_n * steps * config.size("BLOCK_K"),
        bytes_per_program=depth_bytes * (k / split) + tile_bytes,
        unique_bytes=unique_bytes,
        iterations=steps,
        dtype=dtype,
        launches=launches_of_split(split, device),
        reduction_bytes=8 * groups * m * n * split if split > 1 else 0,
    )
