"""Shipped winners of block-scaled FP8 GEMM and of fused MoE, each with the space its tuner searched; copies dropped.

Fused MoE is of bf16, of block-scaled FP8, or of FP8 scaled after the sum, by token and column. GPUs that differ little,
or in what no record says, count as one.
"""

from __future__ import annotations

import csv
import hashlib
import itertools
import lzma
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune import registry
from autotune.config import Config
from autotune.device import Device
from autotune.tuning.cost_model.call_batch import WIDTH, CallBatch, calls_of
from autotune.tuning.cost_model.model import Predictions, predict_all
from tools import fused_moe_shapes as moe_layers
from tools import fused_moe_work as moe

KERNEL = "gemm/fp8_block_scaled"
_CLOSE = {
    "NVIDIA A100 80GB PCIe": "a100",
    "NVIDIA A800-SXM4-80GB": "a100",
    "NVIDIA H100": "h100",
    "NVIDIA H800": "h100",
    "NVIDIA H200 NVL": "h200",
    "NVIDIA H20-3e": "h20",
    "NVIDIA RTX PRO 6000 Blackwell Max-Q Workstation Edition": "rtx_pro_6000",
}
DEVICES = {
    name.replace("_", " "): gpu.name
    for gpu in map(devices.named, devices.names())
    for _, given in gpu.aliases
    for name in given
} | _CLOSE
_NAMES = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "num_warps", "num_stages")


@dataclass(frozen=True)
class Winner:
    """The config that one tuning run found best; GROUP_M is merged, being a tie but for a few percent."""

    family: str
    """`gemm` or `moe`."""
    device: str
    dtype: str
    m: int
    shape: tuple[int, int]
    """(N, K) of a GEMM; (experts, columns of gate and up) of fused MoE."""
    config: Config
    file: str
    fewest_rows: int
    """The smallest BLOCK_M that its tuner tries."""

    @property
    def half(self) -> int:
        """Which side of the split by shape: 0 trains, 1 tests."""
        return hashlib.md5(",".join(map(str, self.shape)).encode()).digest()[0] % 2

    @property
    def problem(self) -> tuple[str, str, str, int, tuple[int, int]]:
        return self.family, self.device, self.dtype, self.m, self.shape

    @property
    def searched(self) -> tuple[Any, int]:
        """The problem, and what tells the spaces that tuners searched it in apart."""
        return self.problem, self.fewest_rows

    @property
    def space(self) -> tuple[Config, ...]:
        return space(self.family, self.device, self.dtype, self.fewest_rows)

    def calls(self) -> tuple[CallBatch, ...]:
        """Calls of the whole space, in its order: of one GEMM, or of both of fused MoE."""
        device = devices.named(self.device)
        if self.family == "moe":
            return moe.gemm_calls(self._layer, self.space)
        kernel = registry.load(KERNEL)
        return (calls_of(kernel, kernel.problem(self.m, *self.shape, device.fp8), self.space, device),)

    @property
    def _layer(self) -> moe.Moe:
        experts, width = self.shape
        hidden, top_k = moe_layers.hidden_and_top_k(self.dtype, experts, width // 2)
        return moe.Moe(self.m, experts, width, hidden, top_k, self.dtype)

    def predicted(self) -> tuple[CallBatch, Predictions]:
        """Predictions for the whole space, in its order, as tuners measure that repeat a call and flush no cache."""
        device = devices.named(self.device)
        if self.family == "moe":
            return moe.predicted(self._layer, self.space, device, repeated=True)
        (calls,) = self.calls()
        return calls, predict_all(calls, device, reuse_bytes=calls.unique_bytes)


def load(data: Path) -> tuple[list[Winner], dict[str, int]]:
    """Winners, and how many tables and rows were left out for which reason."""
    with lzma.open(data / "vllm_sglang_best.csv.xz", "rt", newline="") as file:
        rows = [row for row in csv.DictReader(file) if _family(row)]
    by_file: dict[str, list[dict[str, str]]] = defaultdict(list)
    for row in rows:
        by_file[row["file"]].append(row)
    contents: set[tuple[tuple[str, ...], ...]] = set()
    left_out: dict[str, int] = defaultdict(int)
    winners: list[Winner] = []
    for name, table in sorted(by_file.items()):
        content = tuple(sorted((r["M"], *(r[n] for n in _NAMES), r["GROUP_SIZE_M"]) for r in table))
        if content in contents:
            left_out["copies of another table"] += 1
            continue
        contents.add(content)
        if table[0]["device"] not in DEVICES:
            left_out[f"tables of {table[0]['device']}, which no record describes"] += 1
            continue
        fewest_rows = _fewest_rows(table)
        for row in table:
            winner = _winner(row, name, fewest_rows)
            if winner.config in winner.space:
                winners.append(winner)
            else:
                left_out["winners outside the tuner's space"] += 1
    return winners, dict(left_out)


def _family(row: dict[str, str]) -> str:
    """Kernels that the model speaks of: `gemm` (block-scaled FP8 alone) or `moe`; "" for others."""
    if (row["family"], row["dtype"]) == ("scaled_mm_blockwise", "fp8_w8a8"):
        return "gemm"
    return "moe" if row["family"] == "fused_moe" and _dtype(row) and row["down"] != "True" else ""


def _dtype(row: dict[str, str]) -> str:
    """Dtype of the operands, as in `Work`; "" for those that the model does not know."""
    block = row["block_shape"].replace(" ", "")
    return {("", ""): "bf16", ("fp8_w8a8", ""): "fp8_tensor", ("fp8_w8a8", "[128,128]"): "fp8"}.get(
        (row["dtype"], block), ""
    )


def _fewest_rows(table: list[dict[str, str]]) -> int:
    """SGLang's tuner of fused MoE tries no BLOCK_M of 16 on ROCm; its tables that have one are from vLLM's tuner."""
    first, least = table[0], min(int(row["BLOCK_SIZE_M"]) for row in table)
    moe_on_rocm = _family(first) == "moe" and devices.named(DEVICES[first["device"]]).is_amd
    return 32 if moe_on_rocm and first["source"] == "sglang" and least >= 32 else 16


def _winner(row: dict[str, str], file: str, fewest_rows: int) -> Winner:
    device, family = devices.named(DEVICES[row["device"]]), _family(row)
    config = _config(device, *(int(row[name] or 0) for name in _NAMES))
    # The file names of fused MoE give the columns of gate or up alone.
    shape = (int(row["N"]), int(row["K"])) if family == "gemm" else (int(row["E"]), 2 * int(row["N"]))
    dtype = "fp8" if family == "gemm" else _dtype(row)
    return Winner(family, device.name, dtype, int(row["M"]), shape, config, file, fewest_rows)


def _config(device: Device, block_m: int, block_n: int, block_k: int, warps: int, stages: int) -> Config:
    shared = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k, "GROUP_M": 8, "SPLIT_K": 1}
    return Config(shared, PERSISTENT=False, num_warps=warps, num_stages=stages if not device.is_amd else 2)


@cache
def space(family: str, device_name: str, dtype: str, fewest_rows: int) -> tuple[Config, ...]:
    """Configs that vLLM's and SGLang's tuners searched, GROUP_M merged, less those that shared memory cannot hold.

    Tuners of GEMM drop a BLOCK_K that does not divide the scale group of 128, tuners of fused MoE what is no multiple.
    """
    device = devices.named(device_name)
    tried = (c for c in _whole(family, device) if c.size("BLOCK_M") >= fewest_rows)
    found = (c for c in tried if _ring_bytes(c, device, dtype) <= device.shared_bytes_per_block)
    if (family, dtype) == ("moe", "fp8"):
        return tuple(c for c in found if c.size("BLOCK_N") % 128 == c.size("BLOCK_K") % 128 == 0)
    return tuple(found)


def _whole(family: str, device: Device) -> Iterator[Config]:
    rows: tuple[int, ...] = (16, 32, 64, 128, 256)
    lists: tuple[tuple[int, ...], ...]
    if family == "moe" and device.is_amd:
        lists = (rows, rows, (32, 64, 128, 256), (1, 2, 4, 8), (2,))
    elif family == "moe":
        lists = (rows, (32, 64, 128, 256), (64, 128, 256), (4, 8), (2, 3, 4, 5))
    elif device.is_amd:
        lists = ((32, 64, 128, 256), (16, 32, 64, 128, 256), (32, 64, 128), (4, 8), (2,))
    else:
        lists = (rows, (32, 64, 128, 256), (64, 128), (4, 8), (2, 3, 4, 5))
    for values in itertools.product(*lists):
        yield _config(device, *values)


def _ring_bytes(config: Config, device: Device, dtype: str) -> float:
    stages = config.size("num_stages")
    buffers = stages if device.architecture.group_mma else max(1, stages - 1)
    return (config.size("BLOCK_M") + config.size("BLOCK_N")) * config.size("BLOCK_K") * buffers * WIDTH[dtype]
