"""How soon the search finds 99 % of a space's best where the truth is not the model's: nine kernels, a simulated GPU.

    python -m benchmarks.search.simulated [--device mi300x] [--repeats 10] [--kernels gemm/bf16_linear]

The truth is the cost model of a device whose every rate is off by a seeded factor (log-normal, 0.4), times a smooth
seeded factor over the configs (0.15), times a rough one (0.003, under what a bench resolves). The smooth factor of two
configs that differ in one value correlates at 0.54 to 0.73; log times of recorded spaces do at 0.59 to 0.79. The
search has the opinions of the model for the device as recorded and of the shipped prior. Random search is given as
its exact chance; in spaces of up to 1,000 configs also the ceiling: expected improvement by one who knows the other
device and how the smooth factor varies, all but its draw. Nothing is compiled: `autotune tune --bench simulated:SEED`
goes through a session.
"""

from __future__ import annotations

import argparse
import dataclasses
import math
import statistics
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna

from autotune import device as devices
from autotune import registry
from autotune.config import Config
from autotune.device import Device
from autotune.tuning import space
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model.model import predict
from autotune.tuning.cost_model.prior import predicted_times
from autotune.tuning.search.acquisition import log_expected_improvement
from autotune.tuning.search.encoding import encode
from autotune.tuning.search.study import Search

PROBLEMS: dict[str, dict[str, Any]] = {
    "gemm/fp8_block_scaled": {"m": 64, "n": 2048, "k": 7168},
    "gemm/bf16_linear": {"m": 64, "n": 256, "k": 7168},
    "moe/fp8_grouped_gemm": {"tokens": 64, "topk": 8, "experts": 32, "n": 4096, "k": 7168},
    "norm/rms_norm_quant": {"rows": 256, "cols": 7168},
    "attention/sparse_decode": {"tokens": 64, "heads": 128, "keys": 2048},
    "moe/mxfp4_grouped_gemm": {"tokens": 64, "topk": 8, "experts": 32, "n": 4096, "k": 7168},
    "quant/fp8_group_quant": {"rows": 256, "cols": 7168},
    "attention/sparse_mla": {"tokens": 64, "heads": 16, "keys": 2048},
    "gemm/mxfp8_mxfp4": {"m": 64, "n": 4096, "k": 7168},
}
OFF, SMOOTH, ROUGH = 0.4, 0.15, 0.003
WAVES = 0.6
SMALL = 1000
RATES = ("clock_ghz", "dram_tb_s", "l2_tb_s", "last_level_tb_s", "launch_us")
GOAL, SHARE, AT_MOST = 0.99, 0.05, 0.2


@dataclass(frozen=True)
class Found:
    configs: int
    good: int
    """Configs within 1 % of the best."""
    share: float
    """Fraction of the space that was tried when the first good config was; infinite where a fifth was not enough."""
    by_model: float
    """optimum / time of the model's own first choice."""
    knowing: float | None
    """The share that one needs who knows all but the smooth factor's draw; None in large spaces."""


def bent(device: Device, rng: np.random.Generator) -> Device:
    """A device of which the model knows nothing but the shape."""

    def off() -> float:
        return float(np.exp(OFF * rng.standard_normal()))

    rates = {name: getattr(device, name) * off() for name in RATES}
    return dataclasses.replace(device, **rates, tflops=tuple((dtype, rate * off()) for dtype, rate in device.tflops))


def smooth(configs: list[Config], rng: np.random.Generator) -> Floats:
    """A draw of a Gaussian process over the encoded configs, by 300 random cosines (Rahimi and Recht 2007)."""
    values = encode(configs).values
    waves = rng.standard_normal((values.shape[1], 300)) * WAVES
    drawn: Floats = np.cos(values @ waves + rng.uniform(0, 2 * np.pi, 300)) @ rng.standard_normal(300) / np.sqrt(150)
    return drawn


def trials_knowing(modeled: Floats, times: Floats, configs: list[Config], first: int, most: int) -> float:
    """Trials to the goal by expected improvement under the surface's own distribution, `first` tried first."""
    values = encode(configs).values.astype(float)
    apart = ((values[:, None] - values) ** 2).sum(-1)
    covariance = SMOOTH**2 * np.exp(-0.5 * WAVES**2 * apart) + ROUGH**2 * np.eye(len(configs))
    tried = [first]
    while times[tried].min() > times.min() / GOAL:
        if len(tried) == most:
            return math.inf
        known = covariance[tried]
        weights = np.linalg.solve(known[:, tried] + 1e-9 * np.eye(len(tried)), known)
        mean = np.log(modeled) + np.log(times[tried] / modeled[tried]) @ weights
        deviation = np.sqrt(np.maximum(covariance.diagonal() - (known * weights).sum(0), 1e-12))
        gain = log_expected_improvement(mean, deviation, np.log(times[tried]).min())
        gain[tried] = -np.inf
        tried.append(int(np.argmax(gain)))
    return len(tried)


def search_once(kernel_name: str, device_name: str, seed: int) -> Found:
    kernel, device = registry.load(kernel_name), devices.named(device_name)
    loaded = space.load(kernel, device)
    problem = dataclasses.replace(loaded.check[0], **PROBLEMS[kernel_name])
    configs = space.feasible(loaded, kernel, problem, device)
    rng = np.random.default_rng(seed)
    other = bent(device, rng)
    modeled = np.array([predict(kernel.work(problem, c, other), c, other).us for c in configs])
    times = modeled * np.exp(SMOOTH * smooth(configs, rng) + ROUGH * rng.standard_normal(len(configs)))
    truth = dict(zip(configs, times.tolist(), strict=True))
    views = predicted_times(kernel, problem, configs, device)
    goal = times.min() / GOAL
    search = Search(optuna.storages.InMemoryStorage(), "simulated", loaded.lists, seed)
    search.set_feasible(configs, views)
    default = kernel.default(problem, device)
    search.enqueue([default])
    reached, most = False, math.ceil(AT_MOST * len(configs))
    while not reached and len(search.outcomes) < most:
        config = search.ask(1)[0]
        search.tell(config, {"us": truth[config]})
        reached = truth[config] <= goal
    share = len(search.outcomes) / len(configs) if reached else math.inf
    knowing = None
    if len(configs) <= SMALL:
        knowing = trials_knowing(modeled, times, configs, configs.index(default), most) / len(configs)
    by_model = times.min() / times[int(np.argmin(views[0]))]
    return Found(len(configs), int((times <= goal).sum()), share, by_model, knowing)


def ceiling(found: list[Found]) -> str:
    shares = [run.knowing for run in found if run.knowing is not None]
    return f"; knowing the surface: {sum(share <= SHARE for share in shares)}" if shares else ""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="mi300x")
    parser.add_argument("--repeats", type=int, default=10)
    parser.add_argument("--kernels", default=",".join(PROBLEMS))
    arguments = parser.parse_args()
    for name in arguments.kernels.split(","):
        found = [search_once(name, arguments.device, seed) for seed in range(arguments.repeats)]
        within = sum(run.share <= SHARE for run in found)
        trials = sorted(run.share * run.configs for run in found)
        chance = statistics.mean(1 - (1 - SHARE) ** run.good for run in found)
        print(
            f"{name:24} {found[0].configs:6d} configs: 99 % of the best within 5 % of the space in {within} of "
            f"{len(found)} runs (random: {chance:.0%}{ceiling(found)}); "
            f"trials: median {statistics.median(trials):.0f}, most {trials[-1]:.0f}; "
            f"the model's first choice reaches {statistics.mean(run.by_model for run in found):.2f}",
            flush=True,
        )


if __name__ == "__main__":
    main()
