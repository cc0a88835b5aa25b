"""Times of kernel calls by the cost model: the fastest of some configs for each problem, launches apart."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Mapping, Sequence
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

_ALIGNED = {"moe/mxfp4_grouped_gemm": 2, "moe/fp8_grouped_gemm": 2, "moe/bf16_grouped_gemm": 2}
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
    source: str
    """What the model's constants were fitted on."""
    unique_bytes: float
    """Bytes that cross DRAM once when the caches are ideal."""


def fastest(
    kernel: Kernel[Any], candidates: Mapping[Problem, Sequence[Config]], device: Device, warm: bool = False
) -> dict[Problem, CallTime]:
    """Return the shortest modeled time of each problem over its candidates; the first candidate wins ties.

    `warm`: operands are held by the last-level cache, as when a benchmark repeats one layer whose data fit it. In
    service other layers pass between two calls of one layer, so caches are cold.
    """
    asked = [(problem, config) for problem, configs in candidates.items() for config in configs]
    found = [work for problem, configs in candidates.items() for work in works(kernel, problem, configs, device)]
    alike: dict[tuple[str, bool], list[int]] = defaultdict(list)
    for at, (work, (_, config)) in enumerate(zip(found, asked, strict=True)):
        # The model's constants are those of a dtype where all calls of a batch are tiles, and general ones elsewhere.
        alike[work.dtype, "BLOCK_M" in config].append(at)
    times: dict[int, CallTime] = {}
    for places in alike.values():
        some, configs = [found[at] for at in places], [asked[at][1] for at in places]
        times |= dict(zip(places, _modeled(kernel.name, some, configs, device, warm), strict=True))
    best: dict[Problem, CallTime] = {}
    for at, (problem, _) in enumerate(asked):
        if problem not in best or times[at].us < best[problem].us:
            best[problem] = times[at]
    return best


def _modeled(
    kernel: str, found: Sequence[Work], configs: Sequence[Config], device: Device, warm: bool
) -> list[CallTime]:
    modeled = predict_all(side_by_side(found, configs), device, reuse_bytes=0.0 if warm else np.inf)
    fit, shared = (modeled.spread, modeled.source), _ALIGNED.get(kernel, 0)
    times = []
    for at, (work, config) in enumerate(zip(found, configs, strict=True)):
        launch_us = float(modeled.terms["launch"][at]) / work.launches
        us = float(modeled.us[at]) - shared * launch_us
        times.append(CallTime(config, us, work.launches - shared, launch_us, *fit, work.unique_bytes))
    return times


def default_and_sample(kernel: Kernel[Any], problem: Problem, device: Device, space: Space, most: int) -> list[Config]:
    """Return the default config, and the allowed ones among up to `most` of the space, drawn by a fixed seed."""
    drawn = space.configs
    if len(drawn) > most:
        drawn = tuple(random.Random(0).sample(drawn, most))
    return [
        kernel.default(problem, device),
        *(config for config in drawn if kernel.reject(problem, config, device) is None),
    ]
