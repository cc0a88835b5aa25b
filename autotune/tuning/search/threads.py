"""Threads per block, by the names that tuners give them: what is known of configs of which no model speaks.

As a feature of which the surrogate learns the worth it lifts searches of the replay spaces from a random first config
from .868 to .888 of the optimum after 25 trials and from .941 to .951 after 50 (100 seeds, +-.005; `ours:drawn` of
`benchmarks/search_replay.py`); and from the middle of the usual configs, which is where searches begin, to .925 and
.977: two thirds of that is where it lies.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np

from autotune.config import Scalar
from autotune.tuning.search.encoding import Floats

_NAMES = ("block_size_x", "block_size_y", "block_size_z", "MDIMC", "NDIMC")
"""Kernel Tuner's default names and those of CLBlast's GEMM. Triton's num_warps is none of them: with it, twelve
modelled spaces of our kernels stood at .971 of the optimum after 25 trials (.979 without)."""
_USUAL = (128, 256)
"""The range to begin experiments with (CUDA C++ Best Practices Guide, "Thread and Block Heuristics")."""


def octaves_from_usual(configs: Sequence[Mapping[str, Scalar]]) -> Floats:
    """How far each config's threads per block lie outside of the usual range, in octaves; 0 where no name tells."""
    threads = np.array([_threads(config) for config in configs], float)
    octaves: Floats = np.log2(np.maximum(np.maximum(_USUAL[0] / threads, threads / _USUAL[1]), 1))
    return octaves


def _threads(config: Mapping[str, Scalar]) -> int:
    sizes = [config[name] for name in _NAMES if name in config]
    positive = [size for size in sizes if isinstance(size, int) and size > 0]
    return math.prod(positive) if sizes and len(positive) == len(sizes) else _USUAL[0]
