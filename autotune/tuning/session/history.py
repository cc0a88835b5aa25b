"""Measurements of this machine: finished trials and measured rows, for the prior and the model's calibration.

Modeled, simulated and imported figures teach nothing: the prior would learn what it believes already, or what nobody
here saw.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from optuna.storages import BaseStorage

from autotune import device as devices
from autotune import registry, runtime
from autotune.config import Config, Problem, build
from autotune.device import Device
from autotune.errors import UsageError
from autotune.kernel import Kernel
from autotune.tuning import space
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model import calibration, prior
from autotune.tuning.cost_model.agreement import Timed
from autotune.tuning.cost_model.calibration import Calibration
from autotune.tuning.cost_model.call_batch import calls_of
from autotune.tuning.cost_model.model import Predictions, predict_all
from autotune.tuning.cost_model.prior_training import MeasuredProblem
from autotune.tuning.measurement.bench import Bench
from autotune.tuning.search.study import Outcomes
from autotune.tuning.search.trials import Trials, read_database, read_journal

ConfigTimes = Mapping[Config, float]

_FEWEST = 8
"""Trials below which their best is no winner."""
_TIED, _SLOWER = 1.02, 1.05
"""ConfigTimes over the best's up to which a config won too, and from which it lost."""
_BENCH = "gpu"
"""The bench whose times are of hardware."""


@dataclass(frozen=True)
class Measured:
    kernel: Kernel[Any]
    device: Device
    problem: Problem
    times: ConfigTimes


def measured(state: Path, names: Sequence[str] = (), database: BaseStorage | None = None) -> list[Measured]:
    """Return measurements of every kernel on the devices called `names` (default: all), in the order of names.

    They are of the journals under `state`, of the runtime's tables, and of `database`.
    """
    return [
        Measured(kernel, device, problem, times)
        for kernel in registry.load_all(registry.names())[0]
        for device in map(devices.named, names or devices.names())
        for problem, times in _measured(state, kernel, device, database).items()
    ]


def rehearsed(state: Path, bench: Bench, names: Sequence[str], database: BaseStorage | None = None) -> list[Measured]:
    """The trials of a simulated bench, whose times are of no device: for looking at, never for lessons."""
    return [
        Measured(kernel, device, problem, times)
        for kernel in registry.load_all(registry.names())[0]
        for device in map(devices.named, names)
        for problem, times in _of_trials(state, kernel, bench.table_device(device.name), bench.name, database)
        if times
    ]


def by_family(found: Sequence[Measured]) -> dict[str, list[Timed]]:
    """Modeled beside measured times by `calibration.family`. The model knows no binaries, as where a search asks it."""
    families: dict[str, list[Timed]] = defaultdict(list)
    for study in found:
        for family, modeled, us in _families(study):
            bounds = tuple(modeled[at].bound for at in range(len(us)))
            families[family].append(Timed(modeled.us, us, bounds))
    return dict(families)


def _families(study: Measured) -> Iterator[tuple[str, Predictions, Floats]]:
    """Yield each `calibration.family` of a study's configs, with their modeled and measured times."""
    calls = calls_of(study.kernel, study.problem, list(study.times), study.device)
    us = np.array(list(study.times.values()))
    for dtype in np.unique(calls.dtype):
        at = np.flatnonzero(calls.dtype == dtype)
        family = calibration.family(study.kernel, study.device, str(dtype))
        yield family, predict_all(calls.chosen(at), study.device), us[at]


def lessons(found: Sequence[Measured]) -> dict[str, list[MeasuredProblem]]:
    """By `KERNEL DEVICE`, for kernels of which the prior speaks."""
    by_name: dict[str, list[MeasuredProblem]] = defaultdict(list)
    for study in found:
        lesson = _lesson(study.kernel, study.problem, study.device, study.times)
        if lesson is not None:
            by_name[f"{study.kernel.name} {study.device.name}"].append(lesson)
    return dict(by_name)


def calibrations(found: Sequence[Measured]) -> dict[str, Calibration]:
    """By family, where enough was measured of one."""
    modeled: dict[str, list[float]] = defaultdict(list)
    us: dict[str, list[float]] = defaultdict(list)
    for study in found:
        for name, predictions, measured_us in _families(study):
            modeled[name] += predictions.us.tolist()
            us[name] += measured_us.tolist()
    enough = (name for name in us if len(us[name]) >= calibration.FEWEST_TIMES)
    return {name: calibration.fitted(np.array(modeled[name]), np.array(us[name])) for name in enough}


def _measured(
    state: Path, kernel: Kernel[Any], device: Device, database: BaseStorage | None
) -> dict[Problem, ConfigTimes]:
    """ConfigTimes by config of each problem; of a table's row alone, only its own."""
    found: dict[Problem, ConfigTimes] = {}
    for row in runtime.rows(kernel, device):
        if row.tier == "measured":
            problem = build(kernel.problem, dict(row.problem), kernel.name)
            found[problem] = {row.config: float(row.evidence["us"])}
    tried = _of_trials(state, kernel, device.name, _BENCH, database)
    return found | {problem: times for problem, times in tried if len(times) >= _FEWEST}


def _of_trials(
    state: Path, kernel: Kernel[Any], filed: str, bench: str, database: BaseStorage | None
) -> Iterator[tuple[Problem, ConfigTimes]]:
    """ConfigTimes of each study of `bench` among the trials filed under the device name `filed`."""
    for study in _read(state, filed, kernel, database):
        if study.study.bench == bench:
            yield study.problem, {config: outcome["us"] for config, outcome in study.outcomes if "us" in outcome}


def _lesson(kernel: Kernel[Any], problem: Problem, device: Device, times: ConfigTimes) -> MeasuredProblem | None:
    configs = space.feasible(space.load(kernel, device), kernel, problem, device)
    at = {config: index for index, config in enumerate(configs)}
    known = {at[config]: us for config, us in times.items() if config in at}
    if not known:
        return None
    calls = calls_of(kernel, problem, configs, device)
    if not prior.applies_to(calls):
        return None
    best = min(known.values())
    won = tuple(index for index, us in known.items() if us <= _TIED * best)
    lost = tuple(index for index, us in known.items() if us > _SLOWER * best)
    unclear = tuple(set(known) - {*won, *lost})
    return MeasuredProblem(prior.features(calls, device, predict_all(calls, device)), won, lost, unclear)


def measured_by_siblings(
    state: Path, kernel: Kernel[Any], device: Device, bench: Bench | None, database: BaseStorage | None = None
) -> dict[Problem, list[Outcomes]]:
    """Trials of the same kernel measured on other devices of the vendor, one entry per device: for `Search.transfer`.

    Without a bench there are none: modeled times of another device say less than the model of this one.
    """
    if bench is None:
        return {}
    by_problem: dict[Problem, list[Outcomes]] = defaultdict(list)
    others = [devices.named(name) for name in devices.names() if name != device.name]
    for filed in (bench.table_device(other.name) for other in others if other.vendor == device.vendor):
        for past in _read(state, filed, kernel, database):
            if past.study.bench == bench.name:
                by_problem[past.problem].append(dict(past.outcomes))
    return by_problem


def _read(state: Path, filed: str, kernel: Kernel[Any], database: BaseStorage | None) -> list[Trials]:
    """Return the trials filed under the device name `filed`, less those of a journal that cannot be read now."""
    studies: list[Trials] = []
    with suppress(UsageError):  # another session is writing it, or it is damaged: its own session says so
        studies += read_journal(state, filed, kernel)
    if database is not None:
        studies += read_database(database, filed, kernel)
    return studies
