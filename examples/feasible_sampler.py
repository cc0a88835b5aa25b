"""FeasibleSampler in a plain Optuna study: the launch of a kernel that this project does not know.

python examples/feasible_sampler.py

The objective is a stand-in for a measurement: it computes a time, so that the example runs anywhere.
"""

import itertools
import math

import optuna

from autotune.tuning.search.sampler import FeasibleSampler

SPACE = {"BLOCK_M": [16, 32, 64, 128, 256], "BLOCK_N": [32, 64, 128, 256], "num_warps": [1, 2, 4, 8]}


def feasible() -> list[dict[str, int]]:
    """All configs whose tile fits in 64 KiB of shared memory, and that give each thread something to do."""
    configs = (dict(zip(SPACE, values, strict=True)) for values in itertools.product(*SPACE.values()))
    return [c for c in configs if 32 * c["num_warps"] <= c["BLOCK_M"] * c["BLOCK_N"] // 8 <= 4096]


def objective(trial: optuna.Trial) -> float:
    """Return microseconds of one config."""
    config = {name: trial.suggest_categorical(name, values) for name, values in SPACE.items()}
    tile, warps = math.log2(config["BLOCK_M"] * config["BLOCK_N"]), math.log2(config["num_warps"])
    return 20 + (tile - 13) ** 2 + (warps - tile / 6.5) ** 2


def main() -> None:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    configs = feasible()
    study = optuna.create_study(sampler=FeasibleSampler(configs, seed=0))
    study.optimize(objective, n_trials=20)
    print(
        f"{len(study.trials)} of {len(configs)} configs tried; best {study.best_value:.2f} us with {study.best_params}"
    )


if __name__ == "__main__":
    main()
