"""Measured times of others' tiled kernels beside the model's: what calibrations are made of and judged by."""

from __future__ import annotations

import csv
import lzma
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autotune import device as devices
from autotune.device import Device
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model.call_batch import CallBatch
from autotune.tuning.cost_model.constants import Calibration
from autotune.tuning.cost_model.model import calibrations, predict_all
from tools import fused_moe_times, inductor_data
from tools.data import required

GEMM_FILE = "triton_fp8_block_gemm_l40s.csv.xz"
_EAGER_US = 20.0
"""Quantising the activations, launched with the GEMM; its times are of 600 us and more."""


@dataclass(frozen=True)
class Times:
    """Times of one family, GPU and dtype of operands, one entry a call."""

    family: str
    """`mm`, `mixed_mm`, `moe` or `fp8_gemm`."""
    device: Device
    dtype: str
    """Dtype of the operands, as in `Work`."""
    us: Floats
    modeled_us: Floats
    engine: NDArray[np.str_]
    """`vllm`, `sglang` or `inductor`."""
    routing: NDArray[np.str_]
    """Routing of fused MoE; empty for others."""
    rows: Floats
    """Rows or tokens of the call."""
    half: NDArray[np.intp]
    calibration: Calibration
    """The calibration of `modeled_us`."""

    @property
    def ratio_logs(self) -> Floats:
        """Logarithms of measured over modeled."""
        logs: Floats = np.log(self.us / self.modeled_us)
        return logs


def load(data: Path) -> Iterator[Times]:
    """Yield all times of tiles on matrix units. Flex attention is left out, as its masks are not recorded, and so are
    products without tensor cores."""
    for family in ("mm", "mixed_mm"):
        for spaces in inductor_data.load(data, family):
            if spaces.operands != "fp32":
                yield _of_spaces(spaces)
    for times in fused_moe_times.load(data):
        yield Times(
            "moe",
            times.device,
            str(times.up.dtype[0]),
            times.us,
            times.modeled(),
            times.engine,
            times.routing,
            times.tokens,
            times.half,
            applied(times.up, times.device),
        )
    yield _gemm(data)


def applied(calls: CallBatch, device: Device) -> Calibration:
    """Return the calibration that `predict_all` applies to these calls, which are of one dtype and kind."""
    return calibrations(calls, device)[0]


def _of_spaces(spaces: inductor_data.Spaces) -> Times:
    ran = spaces.chosen(np.isfinite(spaces.us))
    return Times(
        spaces.family,
        spaces.device,
        spaces.operands,
        ran.us,
        predict_all(ran.calls, ran.device).us + inductor_data.EVENTS_US,
        np.full(len(ran.us), "inductor"),
        np.full(len(ran.us), ""),
        ran.rows,
        ran.half,
        applied(ran.calls, ran.device),
    )


def _gemm(data: Path) -> Times:
    """Block-scaled FP8 GEMM of vLLM on an L40S, eager, with the quantisation of A."""
    with lzma.open(required(data, GEMM_FILE), "rt", newline="") as file:
        rows = list(csv.DictReader(file))

    def column(name: str) -> Floats:
        return np.array([float(row[name]) for row in rows])

    device = devices.named("l40s")
    m, n, k = column("m"), column("n"), column("k")
    block_m, block_n, block_k = column("block_m"), column("block_n"), column("block_k")
    steps, ones = np.ceil(k / block_k), np.ones(len(rows))
    calls = CallBatch(
        dtype=np.full(len(rows), "fp8"),
        programs=np.ceil(m / block_m) * np.ceil(n / block_n),
        flops_per_program=2 * block_m * block_n * steps * block_k,
        bytes_per_program=(np.minimum(block_m, m) + block_n) * k + 2 * block_m * block_n,
        unique_bytes=(m + n) * k + 2 * m * n,
        iterations=steps,
        launches=ones,
        reduction_bytes=0 * ones,
        lane_operations=0 * ones,
        a_width=ones,
        b_width=ones,
        rows=block_m,
        columns=block_n,
        depth=block_k,
        warps=column("num_warps"),
        stages=column("num_stages"),
    )
    quantised = _EAGER_US + 3 * m * k / (device.dram_tb_s * 1e6)
    return Times(
        "fp8_gemm",
        device,
        "fp8",
        column("us"),
        predict_all(calls, device).us + quantised,
        np.full(len(rows), "vllm"),
        np.full(len(rows), ""),
        m,
        np.array([zlib.crc32(f"{row['n']},{row['k']}".encode()) % 2 for row in rows]),
        applied(calls, device),
    )
