"""Shipped winners of block-scaled FP8 GEMM, each with the whole space that its tuner searched; copies dropped."""

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

from autotune import device as devices
from autotune import registry
from autotune.config import Config, Problem
from autotune.device import Device

KERNEL = "gemm/fp8_block_scaled"
DEVICES = {
    "NVIDIA H100 80GB HBM3": "h100",
    "NVIDIA H200": "h200",
    "NVIDIA H20": "h20",
    "NVIDIA B200": "b200",
    "NVIDIA L40S": "l40s",
    "AMD Instinct MI300X": "mi300x",
    "AMD Instinct MI325 OAM": "mi325x",
    "AMD Instinct MI325X": "mi325x",
}
_NAMES = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "num_warps", "num_stages")


@dataclass(frozen=True)
class Winner:
    """The config that one tuning run found best; GROUP_M is merged, being a tie but for a few percent."""

    device: str
    m: int
    n: int
    k: int
    config: Config
    file: str

    @property
    def half(self) -> int:
        """Which side of the split by shape: 0 trains, 1 tests."""
        return hashlib.md5(f"{self.n},{self.k}".encode()).digest()[0] % 2


def load(data: Path) -> tuple[list[Winner], dict[str, int]]:
    """Winners, and how many tables and rows were left out for which reason."""
    with lzma.open(data / "vllm_sglang_best.csv.xz", "rt", newline="") as file:
        rows = [r for r in csv.DictReader(file) if (r["family"], r["dtype"]) == ("scaled_mm_blockwise", "fp8_w8a8")]
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
        for row in table:
            winner = _winner(row, name)
            if winner.config in space(winner.device):
                winners.append(winner)
            else:
                left_out["winners outside the tuner's space"] += 1
    return winners, dict(left_out)


def _winner(row: dict[str, str], file: str) -> Winner:
    device = devices.named(DEVICES[row["device"]])
    config = _config(device, *(int(row[name] or 0) for name in _NAMES))
    return Winner(device.name, int(row["M"]), int(row["N"]), int(row["K"]), config, file)


def _config(device: Device, block_m: int, block_n: int, block_k: int, warps: int, stages: int) -> Config:
    shared = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k, "GROUP_M": 8, "SPLIT_K": 1}
    return Config(shared, PERSISTENT=False, num_warps=warps, num_stages=stages if not device.is_amd else 2)


@cache
def space(device_name: str) -> tuple[Config, ...]:
    """What vLLM's and SGLang's tuners searched, GROUP_M merged, less what shared memory cannot hold.

    Their tuners drop a BLOCK_K that does not divide the scale group of 128.
    """
    device = devices.named(device_name)
    return tuple(c for c in _whole(device) if _ring_bytes(c, device) <= device.shared_bytes_per_block)


def _whole(device: Device) -> Iterator[Config]:
    if device.is_amd:
        lists = ((32, 64, 128, 256), (16, 32, 64, 128, 256), (32, 64, 128), (4, 8), (2,))
    else:
        lists = ((16, 32, 64, 128, 256), (32, 64, 128, 256), (64, 128), (4, 8), (2, 3, 4, 5))
    for values in itertools.product(*lists):
        yield _config(device, *values)


def _ring_bytes(config: Config, device: Device) -> int:
    stages = config.size("num_stages")
    buffers = stages if device.arch in ("sm_90", "sm_100", "sm_103") else max(1, stages - 1)
    return (config.size("BLOCK_M") + config.size("BLOCK_N")) * config.size("BLOCK_K") * buffers


def problem(winner: Winner) -> Problem:
    """The same GEMM as a problem of our kernel."""
    kernel = registry.load(KERNEL)
    return kernel.problem(winner.m, winner.n, winner.k, devices.named(winner.device).fp8)
