"""Default, the model's best and the library in one race, for every kernel that names a library."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from autotune import registry
from autotune.config import Config
from autotune.tuning import space
from autotune.tuning.cost_model.call_batch import calls_of
from autotune.tuning.cost_model.model import predict_all
from autotune.tuning.cost_model.roofline import roofline_us
from autotune.tuning.jobs import check_job, measure_job
from autotune.tuning.measurement.bench import Check, Measurement, Timing
from autotune.tuning.workers.worker import Job, Workers
from benchmarks.gpu_run.asking import Default, ask, defaults, lane, model_sizes
from benchmarks.gpu_run.context import Context

_SAMPLES = 20


def run(context: Context) -> None:
    with lane(context) as workers:
        for unit, default in context.units(_with_library(context)):
            context.add(unit, **default.told(), **_race(context, workers, default))


def _with_library(context: Context) -> Iterator[tuple[str, Default]]:
    for unit, default in defaults(context, model_sizes(context)):
        if registry.load(default.job.kernel).library is not None:
            yield unit, default


def _race(context: Context, workers: Workers, default: Default) -> dict[str, Any]:
    """Median microseconds of each racer that is right; why the others are not in the race."""
    racers = {"default": default.job, "model's best": _with_config(default, _best(context, default))}
    assert default.kernel.library is not None
    racers[default.kernel.library.name] = Job(*_parts(default), default.job.config, context.device.name, library=True)
    answers = {name: ask(context, workers, check_job, Check(context.bench, 0, job)) for name, job in racers.items()}
    right = {name: job for name, job in racers.items() if "failed" not in answers[name]}
    left_out = {name: answers[name]["reason"] for name in racers if name not in right}
    roofline = roofline_us(default.kernel, default.problem, context.device)
    fields = {"model_config": dict(racers["model's best"].config), "left_out": left_out, "roofline_us": roofline}
    if not right:
        return {**fields, "failed": "none of the racers is right"}
    asked = Measurement(context.bench, 0, tuple(right.values()), _SAMPLES, check=False)
    answer = ask(context, workers, measure_job, asked)
    if "failed" in answer:
        return fields | answer
    timings = [Timing(tuple(times)) for times in answer["times"]]
    return {
        **fields,
        "us": {name: timing.us for name, timing in zip(right, timings, strict=True)},
        "spread": {name: timing.spread for name, timing in zip(right, timings, strict=True)},
    }


def _best(context: Context, default: Default) -> Config:
    """The feasible config with the least modeled time."""
    kernel, problem, device = default.kernel, default.problem, context.device
    configs = space.feasible(space.load(kernel, device), kernel, problem, device)
    times = predict_all(calls_of(kernel, problem, configs, device), device).us
    return configs[int(times.argmin())]


def _with_config(default: Default, config: Config) -> Job:
    return Job(*_parts(default), config, default.device)


def _parts(default: Default) -> tuple[str, Any]:
    return default.job.kernel, default.job.problem
