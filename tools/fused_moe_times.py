"""Measured times of fused MoE in vLLM and SGLang: both grouped GEMMs of a layer, and the small kernels around them."""

from __future__ import annotations

import csv
import lzma
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from autotune import device as devices
from autotune.device import Device
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model.call_batch import CallBatch
from autotune.tuning.cost_model.constants import Terms
from autotune.tuning.cost_model.model import predict_all
from tools.data import required

FILE = "triton_moe_times.csv.xz"
_OPERANDS = {"bf16": "bf16", "fp8_block128": "fp8", "fp8_tensor": "fp8_tensor"}
_AROUND_US = {("sglang", "function"): 30.0, ("sglang", "layer"): 11.0, ("vllm", "layer"): 21.0}
"""Router, alignment, quantisation, activation and sum over experts of few tokens, as these engines launch them in a
graph; the launches of both GEMMs are in it. Fitted together with the constants of the model."""
_AROUND_REACH = 0.8
"""Fraction of streaming bandwidth at which those kernels move many tokens."""


@dataclass(frozen=True)
class Times:
    """All times of one GPU and dtype as columns, one entry a call of the layer."""

    device: Device
    dtype: str
    """Name in the source."""
    up: CallBatch
    down: CallBatch
    weight_bytes: Floats
    """Weights of the experts that some token chose, which the next call may find in the cache."""
    around_bytes: Floats
    floor_us: Floats
    us: Floats
    tokens: Floats
    engine: NDArray[np.str_]
    routing: NDArray[np.str_]
    half: NDArray[np.intp]
    """0 fits constants, 1 judges them: a split by shape."""

    def chosen(self, at: NDArray[np.intp]) -> Times:
        """Return the entries at these places."""
        columns: dict[str, Any] = {
            name: getattr(self, name)[at] for name, value in vars(self).items() if isinstance(value, np.ndarray)
        }
        return replace(self, up=self.up.chosen(at), down=self.down.chosen(at), **columns)

    def modeled(self, terms_of_formula: Terms | None = None) -> Floats:
        """Return the modeled time of each call in microseconds; its caches are warm, as it is repeated at once."""
        around = self.floor_us + self.around_bytes / (self.device.dram_tb_s * 1e6 * _AROUND_REACH)
        up, down = (
            predict_all(gemm, self.device, reuse_bytes=self.weight_bytes, terms_of_formula=terms_of_formula)
            for gemm in (self.up, self.down)
        )
        total: Floats = around + up.us - up.terms["launch"] + down.us - down.terms["launch"]
        return total


def load(data: Path) -> list[Times]:
    """Read the file of measured times, grouped by GPU and dtype."""
    groups: dict[tuple[str, str], list[dict[str, str]]] = defaultdict(list)
    with lzma.open(required(data, FILE), "rt", newline="") as file:
        for row in csv.DictReader(file):
            groups[row["gpu"], row["dtype"]].append(row)
    return [_times(devices.named(gpu), dtype, rows) for (gpu, dtype), rows in sorted(groups.items())]


def _times(device: Device, dtype: str, rows: Sequence[dict[str, str]]) -> Times:
    def column(name: str) -> Floats:
        return np.array([float(row[name]) for row in rows])

    tokens, top_k, width, hidden = column("M"), column("topk"), column("N"), column("hidden")
    routed = [
        _routed(int(row["E"]), int(row["topk"]), int(row["M"]), row["routing"], int(row["block_m"])) for row in rows
    ]
    blocks, active = np.array([pair[0] for pair in routed]), np.array([pair[1] for pair in routed])
    element = 2 if dtype == "bf16" else 1
    pairs = tokens * top_k
    engine = np.array([row["engine"] for row in rows])
    # SGLang swaps the operands of short tiles on Hopper, so that weights take the side of 64 rows.
    swapped = (column("block_m") < 64) & (column("block_n") >= 64) & (engine == "sglang")
    swapped &= (device.arch == "sm_90") & (dtype != "bf16")

    def gemm(n: Floats, k: Floats, read_tokens: Floats) -> CallBatch:
        rows_, columns, depth = column("block_m"), column("block_n"), column("block_k")
        steps = np.ceil(k / depth)
        calls = CallBatch(
            dtype=np.full(len(rows), _OPERANDS[dtype]),
            programs=blocks * np.ceil(n / columns),
            flops_per_program=2 * rows_ * columns * steps * depth,
            bytes_per_program=element * (np.minimum(rows_, pairs / blocks) + columns) * k + 2 * rows_ * columns,
            unique_bytes=element * (active * n * k + read_tokens * k) + 2 * pairs * n,
            iterations=steps,
            launches=np.ones(len(rows)),
            reduction_bytes=np.zeros(len(rows)),
            lane_operations=np.zeros(len(rows)),
            a_width=np.full(len(rows), float(element)),
            b_width=np.full(len(rows), float(element)),
            rows=rows_,
            columns=columns,
            depth=depth,
            warps=column("num_warps"),
            stages=column("num_stages"),
        )
        return replace(calls, rows=np.where(swapped, columns, rows_), columns=np.where(swapped, rows_, columns))

    quantised = 3 if element == 1 else 0  # bytes read and written an element
    return Times(
        device,
        dtype,
        up=gemm(2 * width, hidden, tokens),
        down=gemm(hidden, width, pairs),
        weight_bytes=element * active * 3 * width * hidden,
        around_bytes=pairs * width * (6 + quantised) + pairs * hidden * 2 + tokens * hidden * (2 + quantised),
        floor_us=np.array([_AROUND_US[row["engine"], row["path"]] for row in rows]),
        us=column("us"),
        tokens=tokens,
        engine=engine,
        routing=np.array([row["routing"] for row in rows]),
        half=np.array([zlib.crc32(f"{row['E']},{row['N']},{row['hidden']}".encode()) % 2 for row in rows]),
    )


@cache
def _routed(experts: int, top_k: int, tokens: int, routing: str, block_rows: int) -> tuple[float, float]:
    """Return row blocks over all experts, each padded, and experts that some token chose."""
    counts = tokens_by_expert(experts, top_k, tokens, routing)
    return float(np.ceil(counts / block_rows).sum()), float((counts > 0).sum())


def tokens_by_expert(experts: int, top_k: int, tokens: int, routing: str) -> Floats:
    """Return tokens of each expert: `balanced`, or `power_law_A`, whose density falls as x^-A.

    The source draws the law at random and records no counts: its quantiles stand for a draw. They lie between 1 and
    0.8 of the tokens, or between 0.01 and 2 where there are fewer pairs than experts, as the source draws them; then
    they are scaled to the sum that top-k asks.
    """
    pairs = tokens * top_k
    if routing == "balanced":
        each, rest = divmod(pairs, experts)
        return each + (np.arange(experts) < rest).astype(float)
    exponent = 1 - float(routing.rpartition("_")[2])
    low, high = (1.0, max(2.0, 0.8 * tokens)) if pairs > experts else (0.01, 2.0)
    quantile = (np.arange(experts) + 0.5) / experts
    drawn = ((high**exponent - low**exponent) * quantile + low**exponent) ** (1 / exponent)
    share = drawn / drawn.sum() * pairs
    for _ in range(experts):  # what an expert has beyond every token, the others take
        share = np.minimum(share * pairs / share.sum(), tokens)
    counts: Floats = np.floor(share)
    counts[np.argsort(counts - share)[: int(pairs - counts.sum())]] += 1
    return counts
