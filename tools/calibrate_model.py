"""How far the cost model's times are off, and the constants of `autotune/tuning/cost_model/constants.toml`.

    python -m tools.calibrate_model --data FOLDER

From the microseconds in AITER's tuned tables (MIT) whose kernel names tell their tile: CK's block-scaled FP8 GEMM on
gfx942 and gfx950, FlyDSL's bf16 GEMM on gfx950. Both constants, a launch and a factor on the rest, are fitted on one
half of the shapes (N, K) and judged on the other; neither changes the order of configs of one problem. These kernels
are not Triton's: they show what the hardware makes of such tiles. The bf16 times are not used: their factor says more
than DRAM's peak, which is what operands left in the last-level cache by the call before allow.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import io
import math
import re
import tarfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autotune import device as devices
from autotune.config import Config
from autotune.kernel import Work
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model.call_batch import WIDTH, side_by_side
from autotune.tuning.cost_model.constants import calibration
from autotune.tuning.cost_model.model import predict_all
from tools.data import required

FILE = "aiter_configs.tar.xz"
_UNCALIBRATED_LAUNCH_US = 4.5
DEVICES = {("gfx942", "304"): "mi300x", ("gfx950", "256"): "mi355x"}
_CK = re.compile(r"a8w8_blockscale_1x128x128_(\d+)x(\d+)x(\d+)x(\d+)_")
_FLYDSL = re.compile(r"flydsl_gemm\d+_abf16.*_t(\d+)x(\d+)x(\d+)_split_k(\d+)_block_m_warp(\d)_block_n_warp(\d)")


@dataclass(frozen=True)
class Row:
    """One GEMM that AITER timed; `config` is the tile in its kernel's name."""

    device: str
    dtype: str
    m: int
    n: int
    k: int
    config: Config
    us: float

    @property
    def half(self) -> int:
        return hashlib.md5(f"{self.n},{self.k}".encode()).digest()[0] % 2

    def work(self) -> Work:
        block_m, block_n, block_k, split = (
            self.config.size(name) for name in ("BLOCK_M", "BLOCK_N", "BLOCK_K", "SPLIT_K")
        )
        width, depth = WIDTH[self.dtype], self.k / split
        return Work(
            programs=math.ceil(self.m / block_m) * math.ceil(self.n / block_n) * split,
            flops_per_program=2 * block_m * block_n * depth,
            bytes_per_program=width * (min(block_m, self.m) + block_n) * depth + 2 * block_m * block_n,
            unique_bytes=width * (self.m + self.n) * self.k + 2 * self.m * self.n,
            iterations=max(1, round(depth / block_k)),
            dtype=self.dtype,
            reduction_bytes=8 * self.m * self.n * split if split > 1 else 0,
        )


def load(data: Path) -> set[Row]:
    rows: set[Row] = set()
    with tarfile.open(data / FILE) as archive:
        for member in archive:
            if member.name.endswith(".csv") and (file := archive.extractfile(member)):
                rows.update(_rows(io.StringIO(file.read().decode())))
    return rows


def _rows(file: io.StringIO) -> Iterator[Row]:
    for row in csv.DictReader(file):
        device = DEVICES.get((row.get("gfx") or "", row.get("cu_num") or ""))
        config = _config(row.get("kernelName") or "", row.get("splitK") or "")
        if device and config and 1 < (us := float(row["us"])) < 1e6:  # some rows are 0 or inf
            dtype = "bf16" if "bf16" in row["kernelName"] else "fp8"
            yield Row(device, dtype, int(row["M"]), int(row["N"]), int(row["K"]), config, us)


def _config(name: str, split_k: str) -> Config | None:
    if (found := _CK.match(name)) and split_k == "0":
        threads, block_m, block_n, block_k = map(int, found.groups())
        return _tile(block_m, block_n, block_k, 1, threads // 64)
    if found := _FLYDSL.match(name):
        block_m, block_n, block_k, split, down, across = map(int, found.groups())
        return _tile(block_m, block_n, block_k, split, down * across)
    return None


def _tile(block_m: int, block_n: int, block_k: int, split: int, warps: int) -> Config:
    sizes = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k, "SPLIT_K": split}
    return Config(sizes, num_warps=warps, num_stages=2)


def fit(modeled_us: Floats, us: Floats) -> tuple[float, float]:
    """(launch, factor) with the least median of |log(launch + factor * modeled / us)|."""
    best = (math.inf, 0.0, 0.0)
    for launch in np.arange(0.0, 20.1, 0.5):
        rest = np.maximum(us - launch, 0.05 * us)
        factor = float(np.exp(np.median(np.log(rest / modeled_us))))
        best = min(best, (float(np.median(np.abs(np.log((launch + factor * modeled_us) / us)))), launch, factor))
    return best[1], best[2]


def _off(predicted_us: Floats, us: Floats) -> tuple[float, float, float]:
    """Median and 90th percentile of the factor between the two, and the median of the ratio."""
    logs = np.log(predicted_us / us)
    found = np.exp([np.median(np.abs(logs)), np.quantile(np.abs(logs), 0.9), np.median(logs)]).tolist()
    return found[0], found[1], found[2]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    required(arguments.data, FILE)
    rows = load(arguments.data)
    for name, dtype in sorted({(row.device, row.dtype) for row in rows}):
        device = devices.named(name)
        here = sorted((r for r in rows if (r.device, r.dtype) == (name, dtype)), key=lambda r: (r.n, r.k, r.m, r.us))
        predictions = predict_all(side_by_side([row.work() for row in here], [row.config for row in here]), device)
        known = calibration(device, dtype)
        modeled = (predictions.us - predictions.terms["launch"]) / known.factor
        us = np.array([row.us for row in here])
        test = np.array([row.half == 1 for row in here])
        launch, factor = fit(modeled[~test], us[~test])
        print(f"{device.arch} {dtype}: {len(here)} times, fitted on {(~test).sum()}, judged on {test.sum()}")
        for title, predicted in (
            ("uncalibrated", _UNCALIBRATED_LAUNCH_US + modeled),
            ("calibrated", launch + factor * modeled),
        ):
            median, tenth, bias = _off(predicted[test], us[test])
            print(f"  {title:13} median off by x{median:.2f}, 9 of 10 within x{tenth:.2f}, bias x{bias:.2f}")
        print(f"  launch_us = {launch:.1f}, factor = {factor:.2f}")


if __name__ == "__main__":
    main()
