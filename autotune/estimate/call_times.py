"""Times of kernel calls by the cost model: the fastest of some configs for each problem, launches apart."""

from __future__ import annotations

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from autotune.config import Config, Problem
from autotune.device import Device
from autotune.tuning.cost_model.call_batch import side_by_side, works
from autotune.tuning.cost_model.model import predict_all
from autotune.tuning.space import Space

if TYPE_CHECKING:
    from autotune.kernel import Kernel, Work

OWN_ALIGNMENT = {"moe/mxfp4_grouped_gemm": 2, "moe/fp8_grouped_gemm": 2, "moe/bf16_grouped_gemm": 2}
"""Launches of a grouped GEMM's own alignment: in a step both GEMMs share that of `moe/align`, a call of its own."""


@dataclass(frozen=True)
class CallTime:
    """Modeled time of one call; the truth is expected within [us / spread, us * spread]."""

    config: Config
    us: float
    """Microseconds, `launches` times `launch_us` among them."""
    launches: int
    launch_us: float
    spread: float
    unique_bytes: float
    """Bytes that cross DRAM once when the caches are ideal."""
    terms: tuple[tuple[str, float], ...]
    """(name, us) of each resource, as if it alone bound the call."""


def fastest(
    kernel: Kernel[Any], candidates: Mapping[Problem, Sequence[Config]], device: Device, warm: bool = False
) -> dict[Problem, CallTime]:
    """Return the shortest modeled time of each problem over its candidates; the first candidate wins ties.

    `warm`: operands are held by the last-level cache, as when a benchmark repeats one layer whose data fit it. In
    service other layers pass between two calls of one layer, so caches are cold.
    """
    calls = [
        (problem, config, work)
        for problem, configs in candidates.items()
        for config, work in zip(configs, works(kernel, problem, configs, device), strict=True)
    ]
    best: dict[Problem, CallTime] = {}
    for (problem, _, _), time in zip(calls, _modeled(kernel.name, calls, device, warm), strict=True):
        if problem not in best or time.us < best[problem].us:
            best[problem] = time
    return best


def _modeled(
    kernel: str, calls: Sequence[tuple[Problem, Config, Work]], device: Device, warm: bool
) -> Iterator[CallTime]:
    batch = side_by_side([work for _, _, work in calls], [config for _, config, _ in calls])
    modeled = predict_all(batch, device, reuse_bytes=0.0 if warm else np.inf)
    shared = OWN_ALIGNMENT.get(kernel, 0)
    for at, (_, config, work) in enumerate(calls):
        launch_us = float(modeled.terms["launch"][at]) / work.launches
        yield CallTime(
            config=config,
            us=float(modeled.us[at]) - shared * launch_us,
            launches=work.launches - shared,
            launch_us=launch_us,
            spread=float(modeled.spread[at]),
            unique_bytes=work.unique_bytes,
            terms=tuple((name, float(us[at])) for name, us in modeled.terms.items()),
        )


def default_and_sample(kernel: Kernel[Any], problem: Problem, device: Device, space: Space, most: int) -> list[Config]:
    """Return the default config, and the allowed ones among up to `most` of the space, drawn by a fixed seed."""
    drawn = space.configs
    if len(drawn) > most:
        drawn = tuple(random.Random(0).sample(drawn, most))
    return [
        kernel.default(problem, device),
        *(config for config in drawn if kernel.reject(problem, config, device) is None),
    ]
