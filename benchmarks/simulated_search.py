"""How soon the search finds 99 % of a space's best where the truth is not the model's: six kernels, a simulated GPU.

    python benchmarks/simulated_search.py [--device mi300x] [--repeats 10] [--bend 0.15]

The truth is the static model times a seeded log-normal factor a config; the search has the model's and the
community's opinions. Nothing is compiled: `autotune tune --bench simulated:...` does the same through a session.
"""

from __future__ import annotations

import argparse
import math

import optuna

from autotune import device as devices
from autotune import registry
from autotune.config import Config, key
from autotune.tuning import space
from autotune.tuning.measurement.simulated import Modeled
from autotune.tuning.prediction.opinions import opinions
from autotune.tuning.search.study import Search
from autotune.tuning.workers.worker import Job

KERNELS = (
    *("gemm/fp8_block_scaled", "gemm/bf16_linear", "moe/fp8_grouped_gemm"),
    *("norm/rms_norm_quant", "attention/sparse_decode", "quant/fp8_group_quant"),
)


def share_needed(kernel_name: str, device_name: str, seed: int, bend: float) -> tuple[int, float]:
    """Configs of the space, and the share of them tried when the best was within 1 % of the optimum."""
    kernel, device = registry.load(kernel_name), devices.named(device_name)
    loaded = space.load(kernel, device)
    problem = loaded.check[-1]
    configs = space.feasible(loaded, kernel, problem, device)
    surface = Modeled(seed, bend)
    truth = {c: surface.us(Job(kernel_name, key(problem), c, device_name)) for c in configs}
    goal = min(truth.values()) / 0.99
    search = Search(optuna.storages.InMemoryStorage(), "simulated", loaded.lists, seed)
    search.allow(configs, opinions(kernel, problem, configs, device))
    search.enqueue([kernel.default(problem, device)])
    best = math.inf
    most = max(1, math.ceil(0.2 * len(configs)))
    while best > goal and len(search.outcomes) < most:
        for config in search.ask(1):
            best = min(best, _tried(search, config, truth))
    return len(configs), len(search.outcomes) / len(configs) if best <= goal else math.inf


def _tried(search: Search, config: Config, truth: dict[Config, float]) -> float:
    search.tell(config, {"us": truth[config]})
    return truth[config]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="mi300x")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--bend", type=float, default=0.15)
    parser.add_argument("--kernels", default=",".join(KERNELS))
    arguments = parser.parse_args()
    for name in arguments.kernels.split(","):
        runs = [share_needed(name, arguments.device, seed, arguments.bend) for seed in range(arguments.repeats)]
        shares = sorted(share for _, share in runs)
        within = sum(share <= 0.05 for share in shares)
        print(
            f"{name:28} {runs[0][0]:6d} configs: 99 % of the best within 5 % of the space in {within} of {len(runs)} "
            f"runs; median share {shares[len(shares) // 2]:.3f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
