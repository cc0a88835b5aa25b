"""One run of one optimiser over one recorded space: ours, Optuna's own samplers, Kernel Tuner's strategies."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
import random
import tempfile
import time
import warnings
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import optuna

from autotune.tuning import search
from autotune.tuning.search.sampler import FeasibleSampler
from benchmarks.search.replay_spaces import Space

OURS, DRAWN, SIBLINGS = "ours", "ours:drawn", "ours+siblings"
KERNEL_TUNER = ("dual_annealing", "adaptive_tabu_greywolf", "hybrid_vndx", "genetic_algorithm", "pso", "random_sample")
OPTIMISERS = (OURS, DRAWN, "optuna:tpe", "optuna:gp", *(f"kernel_tuner:{name}" for name in KERNEL_TUNER), SIBLINGS)

Tried = tuple[tuple[Any, ...], ...]
"""Values of the space's parameters, in the order tried."""

Elsewhere = list[list[tuple[dict[str, Any], float]]]
"""For each other device what configs took there; for `ours+siblings`."""


def release(optimiser: str) -> str:
    """Identifier of an optimiser's code: runs of other code are not comparable."""
    if optimiser in (OURS, DRAWN, SIBLINGS):
        files = sorted(Path(str(search.__file__)).parent.glob("*.py"))
        return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()[:12]
    return version(optimiser.partition(":")[0].replace("_", "-"))


def run(
    space: Space, optimiser: str, seed: int, evaluations: int, elsewhere: Elsewhere
) -> tuple[Tried, tuple[float, ...]]:
    """Configs in the order tried, and CPU seconds of each suggestion: none where the optimiser owns its loop."""
    owner, _, name = optimiser.partition(":")
    if owner == "kernel_tuner":
        return _kernel_tuner(space, name, seed, evaluations), ()
    if owner == "optuna":
        return _optuna(space, _peer(name, seed), evaluations)
    configs = [space.config(values) for values in space.times]
    sampler = FeasibleSampler(configs, seed=seed)
    if elsewhere:
        sampler.transfer_from(elsewhere)
    study = optuna.create_study(sampler=sampler)
    if optimiser == DRAWN:
        study.enqueue_trial(random.Random(seed).choice(configs))
    return _ours(space, study, evaluations)


def _ours(space: Space, study: optuna.Study, evaluations: int) -> tuple[Tried, tuple[float, ...]]:
    tried: list[tuple[Any, ...]] = []
    seconds = []
    for _ in range(min(evaluations, len(space.times))):
        begin = time.process_time()
        trial = study.ask()
        values = tuple(trial.suggest_categorical(name, of_name) for name, of_name in space.lists.items())
        seconds.append(time.process_time() - begin)
        study.tell(trial, space.times[values])
        tried.append(values)
    return tuple(tried), tuple(seconds)


def large_space(candidates: int) -> Space:
    """A made-up one of ten parameters, to time suggestions on: nobody measured it."""
    lists = {f"SIZE_{i}": (1, 2, 4, 8) for i in range(8)} | {"FLAG_0": (0, 1), "FLAG_1": (0, 1)}
    every = list(itertools.product(*lists.values()))
    times = {
        values: math.exp(sum(abs(math.log2(v) - i % 3) for i, v in enumerate(values[:8])) / 4 + values[9])
        for values in random.Random(0).sample(every, candidates)
    }
    return Space("made up", "none", tuple(lists), times)


def _peer(name: str, seed: int) -> optuna.samplers.BaseSampler:
    if name == "gp":
        return optuna.samplers.GPSampler(seed=seed)
    return optuna.samplers.TPESampler(seed=seed, multivariate=True)


def _optuna(space: Space, sampler: optuna.samplers.BaseSampler, evaluations: int) -> tuple[Tried, tuple[float, ...]]:
    """Searches positions in the lists of values; a config outside the space, or tried before, costs no evaluation and
    is told the worst time, or its own."""
    study = optuna.create_study(sampler=sampler)
    worst = max(value for value in space.times.values() if value < math.inf)
    tried: dict[tuple[Any, ...], float] = {}
    seconds = []
    for _ in range(20 * evaluations):
        begin = time.process_time()
        trial = study.ask()
        values = tuple(_position(trial, name, of_name) for name, of_name in space.lists.items())
        seconds.append(time.process_time() - begin)
        value = space.times.get(values, math.inf)
        if values in space.times:
            tried[values] = value
        study.tell(trial, value if value < math.inf else worst)
        if len(tried) >= min(evaluations, len(space.times)):
            break
    return tuple(tried), tuple(seconds)


def _position(trial: optuna.Trial, name: str, values: list[Any]) -> Any:  # noqa: ANN401
    if isinstance(values[0], str):
        return trial.suggest_categorical(name, values)
    return values[trial.suggest_int(name, 0, len(values) - 1)]


def _kernel_tuner(space: Space, strategy: str, seed: int, evaluations: int) -> Tried:
    import kernel_tuner
    from constraint import FunctionConstraint

    random.seed(seed)
    np.random.seed(seed)
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        results, _ = kernel_tuner.tune_kernel(
            space.kernel,
            "",
            [1],
            [],
            space.lists,
            restrictions=[FunctionConstraint(lambda *values: values in space.times)],
            cache=str(_cachefile(space, Path(folder))),
            simulation_mode=True,
            strategy=strategy,
            strategy_options={"max_fevals": evaluations},
            lang="CUDA",
            quiet=True,
            verbose=False,
        )
    return tuple(dict.fromkeys(tuple(result[name] for name in space.names) for result in results))


def _cachefile(space: Space, folder: Path) -> Path:
    extra = dict.fromkeys(("compile_time", "verification_time", "benchmark_time", "strategy_time", "framework_time"), 0)
    rows = {
        ",".join(map(str, values)): {
            **space.config(values),
            "time": value if value < math.inf else "RuntimeFailedConfig",
            "times": [value if value < math.inf else 0.0],
            **extra,
            "timestamp": "2026-01-01 00:00:00+00:00",
        }
        for values, value in space.times.items()
    }
    head = {"device_name": "replay", "kernel_name": space.kernel, "problem_size": [1]}
    parameters = {"tune_params_keys": list(space.names), "tune_params": space.lists, "objective": "time"}
    path = folder / "cache.json"
    path.write_text(json.dumps({"schema_version": "1.0.0", **head, **parameters, "cache": rows}))
    return path
