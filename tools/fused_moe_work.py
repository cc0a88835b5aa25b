"""A fused MoE layer of vLLM and SGLang as work of the cost model: gate and up, then down, with one config."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np

from autotune.config import Config
from autotune.device import Device
from autotune.kernel import Work
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model.call_batch import WIDTH, CallBatch, side_by_side
from autotune.tuning.cost_model.model import Predictions, predict_all


@dataclass(frozen=True)
class Moe:
    """tokens x top_k rows over `experts`, `width` columns out (gate and up), `hidden` in."""

    tokens: int
    experts: int
    width: int
    hidden: int
    top_k: int
    dtype: str

    @property
    def gemms(self) -> tuple[tuple[int, int], tuple[int, int]]:
        """(columns, depth) of gate and up, and of down."""
        return (self.width, self.hidden), (self.hidden, self.width // 2)

    def work(self, config: Config, n: int, k: int) -> Work:
        rows, columns, depth = (config.size(f"BLOCK_{axis}") for axis in "MNK")
        blocks = _blocks(self.tokens, self.top_k, self.experts, rows)
        programs = max(1, round(blocks * math.ceil(n / columns)))
        real_rows = self.tokens * self.top_k / blocks
        used = self.experts * (1 - (1 - min(1.0, self.top_k / self.experts)) ** self.tokens)
        activations = self.tokens * self.top_k * (n + k)
        width = WIDTH[self.dtype]
        return Work(
            programs=programs,
            flops_per_program=2 * rows * columns * k,
            bytes_per_program=width * ((min(rows, real_rows) + columns) * k + rows * columns),
            unique_bytes=width * (used * n * k + activations),
            iterations=math.ceil(k / depth),
            dtype=self.dtype,
        )


@cache
def _blocks(tokens: int, top_k: int, experts: int, rows: int) -> float:
    """Row blocks expected of uniform routing: each expert pads its own rows."""
    if top_k >= experts:
        return float(experts * math.ceil(tokens / rows))
    share = top_k / experts
    at = np.arange(tokens + 1)
    logs = np.array([math.lgamma(tokens + 1) - math.lgamma(i + 1) - math.lgamma(tokens - i + 1) for i in at])
    chance = np.exp(logs + at * math.log(share) + (tokens - at) * math.log1p(-share))
    return float(experts * (chance * np.ceil(at / rows)).sum())


def _works(problem: Moe, configs: Sequence[Config], n: int, k: int) -> list[Work]:
    tiles = [(config["BLOCK_M"], config["BLOCK_N"], config["BLOCK_K"]) for config in configs]
    known = {tile: problem.work(config, n, k) for tile, config in dict(zip(tiles, configs, strict=True)).items()}
    return [known[tile] for tile in tiles]


def gemm_calls(problem: Moe, configs: Sequence[Config]) -> tuple[CallBatch, CallBatch]:
    """Calls of gate and up, and of down, by each config."""
    first, second = (side_by_side(_works(problem, configs, n, k), configs) for n, k in problem.gemms)
    return first, second


def predicted(
    problem: Moe, configs: Sequence[Config], device: Device, repeated: bool = False
) -> tuple[CallBatch, Predictions]:
    """CallBatch of gate and up, and times of both GEMMs together; `repeated` at once, on the same operands."""
    first, second = gemm_calls(problem, configs)
    reuse_bytes = first.unique_bytes + second.unique_bytes if repeated else np.inf
    up, down = (predict_all(calls, device, reuse_bytes=reuse_bytes) for calls in (first, second))
    terms: dict[str, Floats] = {name: up.terms[name] + down.terms[name] for name in up.terms}
    return first, Predictions(up.us + down.us, terms, up.spread, up.source)
