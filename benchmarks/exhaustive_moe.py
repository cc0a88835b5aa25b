"""Regret of the static model on a fused MoE kernel whose whole space was measured on an H100.

    python benchmarks/exhaustive_moe.py --data ../shared/data/exhaustive

Regret is the best time among the first 1, 8 or 16 configs predicted, over the best of all; beside it random picks
(mean of 1,000 draws) and the default that vLLM takes without a table. No time of the file is used to predict.
"""

from __future__ import annotations

import argparse
import csv
import lzma
import math
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from moe import Moe, predicted

from autotune import device as devices
from autotune.config import Config

FILE = "triton_fused_moe_h100.csv.xz"
PICKS = (1, 8, 16)
_NAMES = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages")
DTYPE = "tf32"
"""The file names none. All 1,112 configs absent from it need over 227 KB at 4 bytes an element; at 2, 440 fit."""


def load(path: Path) -> dict[Moe, dict[Config, float]]:
    """Times in us by problem and config; what the file lacks is left out."""
    measured: dict[Moe, dict[Config, float]] = defaultdict(dict)
    with lzma.open(path, "rt", newline="") as file:
        for row in csv.DictReader(file):
            if row["status"] != "ok":
                continue
            fields = ("num_tokens", "num_experts", "shard_intermediate_size", "hidden_size", "topk")
            problem = Moe(*(int(row[name]) for name in fields), DTYPE)
            block_m, block_n, block_k, group, warps, stages = (int(row[name]) for name in _NAMES)
            blocks = {"BLOCK_M": block_m, "BLOCK_N": block_n, "BLOCK_K": block_k, "GROUP_M": group}
            measured[problem][Config(blocks, num_warps=warps, num_stages=stages)] = float(row["time_us"])
    return dict(measured)


def default(problem: Moe) -> Config:
    """vLLM's `get_default_config` for unquantised experts (Apache-2.0), with Triton's 4 warps and 3 stages."""
    small = problem.tokens <= problem.experts
    sizes = (16, 32, 64, 1) if small else (64, 64, 32, 8)
    blocks = dict(zip(("BLOCK_M", "BLOCK_N", "BLOCK_K", "GROUP_M"), sizes, strict=True))
    return Config(blocks, num_warps=4, num_stages=3)


def regrets(times: Sequence[float], order: Sequence[int]) -> list[float]:
    best = min(times)
    return [min(times[i] for i in order[:count]) / best for count in PICKS]


def spread(modelled: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Best first, one of each tie before a second of any: GROUP_M does not enter the model. Ties in random order."""
    shuffled = rng.permutation(len(modelled))
    turn = np.zeros(len(modelled), int)
    met: dict[float, int] = defaultdict(int)
    for index in shuffled:
        turn[index] = met[float(modelled[index])]
        met[float(modelled[index])] += 1
    return shuffled[np.lexsort((modelled[shuffled], turn[shuffled]))]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    if not (arguments.data / FILE).exists():
        print(f"skipped: {arguments.data / FILE} is absent; give the folder with --data")
        return
    device, rng = devices.named("h100"), np.random.default_rng(0)
    measured = load(arguments.data / FILE)
    print("regret after the first 1 / 8 / 16            model                random              default  rank corr.")
    ours, randoms, defaults = [], [], []
    for problem, by_config in sorted(measured.items(), key=lambda item: item[0].tokens):
        configs, times = list(by_config), list(by_config.values())
        modelled = predicted(problem, configs, device)[1].us
        order = spread(modelled, rng)
        model = regrets(times, list(order))
        drawn = [regrets(times, list(rng.choice(len(times), max(PICKS), replace=False))) for _ in range(1000)]
        random = np.mean(drawn, 0)
        plain = by_config.get(default(problem), math.nan) / min(times)
        ranks = [np.argsort(np.argsort(values)) for values in (modelled, np.array(times))]
        print(
            f"{problem.tokens:5d} tokens, {len(times)} configs   {_row(model)}   {_row(random)}   {plain:7.3f}"
            f"   {np.corrcoef(ranks[0], ranks[1])[0, 1]:.2f}"
        )
        ours.append(model)
        randoms.append(random)
        defaults.append(plain)
    print(f"{'geometric mean':25}   {_row(_mean(ours))}   {_row(_mean(randoms))}   {float(_mean(defaults)):7.3f}")
    print(f"{'worst':25}   {_row(np.max(ours, 0))}   {_row(np.max(randoms, 0))}   {np.nanmax(defaults):7.3f}")
    print("default: configs that the file lacks are left out of its mean")


def _mean(values: object) -> np.ndarray:
    return np.exp(np.nanmean(np.log(np.array(values)), 0))


def _row(values: Sequence[float]) -> str:
    return " ".join(f"{value:6.3f}" for value in values)


if __name__ == "__main__":
    main()
