"""Regret of the cost model on a fused MoE kernel whose whole space was measured on an H100.

    python -m benchmarks.cost_model.exhaustive_moe --data FOLDER

Regret is the best time among the first 1, 8 or 16 configs predicted, over the best of all; beside it random picks
(mean of 1,000 draws) and the default that vLLM takes without a table. `model` fits
no constant to the file, though six of its terms were settled with these times in view; `and its
neighbours` corrects it by what the two token counts beside the one judged were measured to take.

Then the ceiling of ranking winners: if each tuning reads these times with so much noise, how often two of them agree,
and at which rank of the true order, GROUP_M merged, their winners lie. `shipped_winners.py` tells how often public
tunings agree: no ranker of their winners does better than the line of that agreement.
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

from autotune import device as devices
from autotune.config import Config
from benchmarks.cost_model.shipped_winners import figures
from tools.data import required
from tools.fused_moe_work import Moe, predicted

FILE = "triton_fused_moe_h100.csv.xz"
PICKS = (1, 8, 16)
_NAMES = ("BLOCK_SIZE_M", "BLOCK_SIZE_N", "BLOCK_SIZE_K", "GROUP_SIZE_M", "num_warps", "num_stages")
NOISE = (0.0025, 0.005, 0.01, 0.02, 0.05)
TUNINGS = 2000
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
            tokens, experts, width, hidden, top_k = (int(row[name]) for name in fields)
            problem = Moe(tokens, experts, width, hidden, top_k, DTYPE)
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


def regrets(times: np.ndarray, order: np.ndarray) -> list[float]:
    return [float(times[order[:count]].min() / times.min()) for count in PICKS]


def spread(modeled: np.ndarray) -> np.ndarray:
    """Best first, one of each tie before a second of any, in the file's order: GROUP_M does not enter the model."""
    turn = np.zeros(len(modeled), int)
    met: dict[float, int] = defaultdict(int)
    for index, us in enumerate(modeled):
        turn[index] = met[float(us)]
        met[float(us)] += 1
    return np.lexsort((modeled, turn))


def taught(modeled: dict[int, np.ndarray], times: dict[int, np.ndarray], tokens: int) -> np.ndarray:
    """The model corrected, config by config, by how far it lay off at the two token counts next to `tokens`.

    No time of `tokens` itself is used.
    """
    others = sorted((count for count in times if count != tokens), key=lambda count: abs(math.log(count / tokens)))
    off = [np.log(times[count] / modeled[count]) for count in others[:2]]
    corrected: np.ndarray = modeled[tokens] * np.exp(np.mean([logs - np.median(logs) for logs in off], 0))
    return corrected


def merged(by_config: dict[Config, float]) -> np.ndarray:
    """The best time over GROUP_M of each config that is equal in all else."""
    best: dict[tuple[object, ...], float] = {}
    for config, us in by_config.items():
        rest = tuple(value for name, value in config.items() if name != "GROUP_M")
        best[rest] = min(us, best.get(rest, us))
    return np.array(list(best.values()))


def ceiling(times: Sequence[np.ndarray], noise: float, rng: np.random.Generator) -> list[float]:
    """Ceiling for winners of tunings with `noise`, a log-normal factor on every time: how often two agree, and the
    figures of their ranks in the true order, as `shipped_winners.py` shows them."""
    agree, ranks = [], []
    for us in times:
        won = (np.log(us) + noise * rng.standard_normal((TUNINGS, len(us)))).argmin(1)
        agree.append(float(np.mean(won[::2] == won[1::2])))
        ranks += [(rank, len(us)) for rank in np.argsort(np.argsort(us))[won]]
    return [float(np.mean(agree)), *figures(ranks)]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    arguments = parser.parse_args()
    path = required(arguments.data, FILE)
    device, rng = devices.named("h100"), np.random.default_rng(0)
    measured = load(path)
    modeled, times = {}, {}
    for problem, by_config in measured.items():
        modeled[problem.tokens] = predicted(problem, list(by_config), device)[1].us
        times[problem.tokens] = np.array(list(by_config.values()))
    print(
        f"{'regret after the first 1 / 8 / 16':33} {'model':22} {'and its neighbours':22} {'random':22} default  ranks"
    )
    found = []
    for problem, by_config in sorted(measured.items(), key=lambda item: item[0].tokens):
        ours, us = modeled[problem.tokens], times[problem.tokens]
        both = taught(modeled, times, problem.tokens)
        drawn = [regrets(us, rng.choice(len(us), max(PICKS), replace=False)) for _ in range(1000)]
        plain = by_config.get(default(problem), math.nan) / us.min()
        row = [*regrets(us, spread(ours)), *regrets(us, spread(both)), *np.mean(drawn, 0), plain]
        spearman = float(np.atleast_2d(np.corrcoef(np.argsort(np.argsort(ours)), np.argsort(np.argsort(us))))[0, 1])
        print(f"{f'{problem.tokens} tokens, {len(us)} configs':33} {_row(row)}   {spearman:.2f}")
        found.append(row)
    print(f"{'geometric mean':33} {_row(np.exp(np.nanmean(np.log(found), 0)))}")
    print(f"{'worst':33} {_row(np.nanmax(found, 0))}")
    print("default: configs that the file lacks are left out of its mean")
    columns = " ".join(f"{name:>7}" for name in ("agree", "median%", "mean%", "p90%", "top16", "top32"))
    print(f"\n{'winners of noisy tunings':33} {columns}")
    for bucket, few, many in (("decode, tokens<=64", 1, 64), ("prefill, tokens>=512", 512, 10**9)):
        here = [merged(by) for problem, by in measured.items() if few <= problem.tokens <= many]
        for noise in NOISE:
            print(f"{f'{bucket}: noise {noise:.2%}':33} {_row(ceiling(here, noise, rng))}")


def _row(values: Sequence[float]) -> str:
    return " ".join(f"{value:7.3f}" for value in values)


if __name__ == "__main__":
    main()
