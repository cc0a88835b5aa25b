"""In which order a config adds up one output's terms: what must not change with the batch, nor with its size.

Floating-point sums depend on their order, so a row has the same bits in every batch only where every config that may
serve it adds in one order. A search space names the parameters that the order follows from (`reduction`): how K is
cut (BLOCK_K, SPLIT_K), the matrix instruction (matrix_instr_nonkdim on AMD), and for sums over a tile (`tl.sum`)
whatever shapes the layout of its threads, num_warps included. Parameters that move whole sums around (GROUP_M,
PERSISTENT, num_stages) are not among them.
"""

from __future__ import annotations

from collections.abc import Iterable

from autotune.config import Config, Scalar
from autotune.device import Device
from autotune.table import ANY_ORDER

Order = tuple[tuple[str, Scalar], ...]
"""Values of what decides; equal orders add alike."""

_WARPGROUP_ROWS = 64


def order(config: Config, reduction: Iterable[str], device: Device) -> Order:
    """The order of `config`, where `reduction` names the parameters that decide.

    On NVIDIA tiles of 64 rows by whole warpgroups are multiplied by wgmma or tcgen05, smaller ones by mma.sync
    (supportMMA in Triton 3.9's Analysis/Utility.cpp), whose internal sums differ: which of them is part of the order.
    """
    named = tuple((name, config[name]) for name in reduction if name in config)
    if device.is_amd or "BLOCK_M" not in config or "BLOCK_K" not in config:
        return named
    grouped = config.size("BLOCK_M") % _WARPGROUP_ROWS == 0 and config.size("num_warps") % 4 == 0
    return (*named, ("warpgroup", grouped))


def describe_order(one: Order) -> str:
    """`BLOCK_K=128,SPLIT_K=4`, or `any` where nothing is added up."""
    return ",".join(f"{name}={value}" for name, value in one) or ANY_ORDER
