"""Memory of one GPU that a step needs: the weights that its calls read, and the caches of its requests."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from autotune.device import Device
from autotune.workload.model import Model
from autotune.workload.rank import Call
from autotune.workload.scenario import Parallelism

_WEIGHT_BYTES = {
    "gemm/fp8_block_scaled": 1.0,
    "gemm/fp8_grouped": 1.0,
    "gemm/bf16_linear": 2.0,
    "gemm/bf16_grouped": 2.0,
    "moe/fp8_grouped_gemm": 1.0,
    "moe/mxfp4_grouped_gemm": 0.5 + 1 / 32,
}
"""Bytes of an element of n x k weights, with MXFP4's scales; those of 128 x 128 blocks are nothing."""
_V4_ROW, _V3_ROW = 584, 2 * 576
"""Bytes of a cached row: FlashMLA's layout of V4, and V3.2's latent and RoPE parts in bf16."""
_INDEX_ROW = {True: 68, False: 132}
"""Bytes of an indexer key with its scales: FP4 or FP8."""


@dataclass(frozen=True)
class Memory:
    """Gigabytes (1e9 bytes) of one GPU; activations, graphs and the engine's own needs come on top."""

    weights_gb: float
    caches_gb: float
    device_gb: float

    @property
    def fits(self) -> bool:
        return self.weights_gb + self.caches_gb <= self.device_gb


def memory(
    model: Model, parallelism: Parallelism, device: Device, calls: Iterable[Call], requests: int, positions: int
) -> Memory:
    """Return what the weights of `calls`, one step's, and `requests` of `positions` cached tokens take."""
    embedding = 2 * model.vocab_size * model.hidden_size / parallelism.attention
    weights = embedding + sum(call.per_step * _weights(call) for call in calls)
    caches = requests * _cached_bytes(model, device, positions)
    return Memory(weights / 1e9, caches / 1e9, device.dram_gb)


def _weights(call: Call) -> float:
    if call.kernel not in _WEIGHT_BYTES:
        return 0.0
    matrices = int(call.problem.get("experts", call.problem.get("groups", 1)))
    return matrices * int(call.problem["n"]) * int(call.problem["k"]) * _WEIGHT_BYTES[call.kernel]


def _cached_bytes(model: Model, device: Device, positions: int) -> float:
    index = _INDEX_ROW[device.has_native_fp4 and bool(model.compress_ratios)]
    if not model.compress_ratios:
        return model.num_hidden_layers * positions * (_V3_ROW + index)
    windows = model.num_hidden_layers * model.sliding_window * _V4_ROW
    selected = model.csa_layers * positions / 4 * (_V4_ROW + index)
    return windows + selected + model.hca_layers * positions / 128 * _V4_ROW
