"""Arithmetic of split-K: the rules and formulas of kernels that have `SPLIT_K`."""

from __future__ import annotations

import triton

from autotune.config import Config


def steps_of_split(k: int, config: Config) -> int:
    """Steps of BLOCK_K that one of SPLIT_K programs takes: whole ones, as the device code walks them."""
    steps: int = triton.cdiv(triton.cdiv(k, config.size("BLOCK_K")), config.size("SPLIT_K"))
    return steps


def leaves_empty(steps: int, split: int) -> bool:
    """True if the last of `split` equal parts of `steps` would have nothing to do."""
    return split > 1 and (split - 1) * triton.cdiv(steps, split) >= steps
