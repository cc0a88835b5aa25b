"""How many configs of one problem are the same machine code, and what is saved by compiling each stage's text once.

    python benchmarks/deduplication.py [--device mi300x] [--tiles 2] [--kernels gemm/bf16_linear]

A space is sampled by tiles: random values of what Triton's front end sees, each with all launch options (warps,
stages, waves...), because duplicates lie among those. Every config is compiled cold, in this process, twice: as Triton
does, then with `compilation.stages` reusing the lowering of texts that came before. Duplicates between tiles are not
seen, so the shares are lower bounds. The winner is the fastest by the static model with the binaries' own resources.
"""

from __future__ import annotations

import argparse
import dataclasses
import os
import random
import tempfile
import time
from dataclasses import dataclass
from typing import Any

import simulated_search

from autotune import device as devices
from autotune import registry
from autotune.config import Config, Problem
from autotune.device import Device
from autotune.errors import CompileFailed
from autotune.kernel import Kernel
from autotune.tuning import space
from autotune.tuning.compilation import resources, stages
from autotune.tuning.compilation.launch import compile_launches
from autotune.tuning.prediction.predict import predict

KERNELS = ("gemm/bf16_linear", "gemm/fp8_block_scaled", "gemm/bf16_grouped", "gemm/mxfp8_mxfp4")
"""The four with the most configs, on mi300x and on h100 alike."""
OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "waves_per_eu", "matrix_instr_nonkdim")


@dataclass(frozen=True)
class Pass:
    """All sampled configs compiled once."""

    seconds: float
    codes: dict[Config, str]
    """Hash of the machine code, or why there is none."""
    winner: Config


def sample(configs: list[Config], tiles: int, seed: int) -> list[Config]:
    """All configs of `tiles` random assignments of what is no launch option."""

    def tile(config: Config) -> tuple[Any, ...]:
        return tuple((name, value) for name, value in config.items() if name not in OPTIONS)

    chosen = set(random.Random(seed).sample(sorted({tile(config) for config in configs}), tiles))
    return [config for config in configs if tile(config) in chosen]


def compile_all(kernel: Kernel[Any], problem: Problem, configs: list[Config], device: Device) -> Pass:
    codes: dict[Config, str] = {}
    times: dict[Config, float] = {}
    begin = time.process_time()
    for config in configs:
        try:
            found = resources.read(compile_launches(kernel, problem, config, device), device)
        except CompileFailed as failure:
            codes[config] = f"{config}: {failure}"
            continue
        codes[config] = found.code
        times[config] = predict(kernel.work(problem, config, device), config, device, found).us
    return Pass(_all_seconds() - begin, codes, min(times, key=times.__getitem__))


def _all_seconds() -> float:
    return time.process_time()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="mi300x")
    parser.add_argument("--tiles", type=int, default=2)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kernels", default=",".join(KERNELS))
    arguments = parser.parse_args()
