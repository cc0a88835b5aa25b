"""How a split of K is walked, for the formulas of kernels that have `SPLIT_K`."""

from __future__ import annotations

import triton

from autotune.config import Config


def steps_of_split(k: int, config: Config) -> int:
    """Steps of BLOCK_K that one of SPLIT_K programs takes: whole ones, as the device code walks them."""
    steps: int = triton.cdiv(triton.cdiv(k, config.size("BLOCK_K")), config.size("SPLIT_K"))
    return steps
