"""Trials as one tidy table for pandas, R or a spreadsheet: one row a trial, also of those that failed.

Problems and configs of several kernels share the table: their fields have columns `problem.*` and `config.*`, empty
where a kernel lacks them. What the model says is computed when the table is made, by the present model with what is
known of each binary, and stands in columns apart from measured times; `tier` says what timed a trial.
"""

from __future__ import annotations

import importlib.util
import io
import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from autotune import device as devices
from autotune import registry
from autotune.config import key
from autotune.device import Device
from autotune.errors import UsageError
from autotune.tuning.compilation.occupancy import most_warps
from autotune.tuning.compilation.resources import Resources
from autotune.tuning.cost_model.call_batch import calls_of
from autotune.tuning.cost_model.model import Prediction, model_name, predict_all
from autotune.tuning.cost_model.roofline import roofline_us
from autotune.tuning.search.trials import Trials

_SUFFIXES = (".csv", ".parquet")
_USED = ("registers", "stack_bytes", "shared_bytes", "tmem_columns", "programs_per_unit", "code_bytes")


def written(sessions: Iterable[Trials], path: Path) -> bytes:
    """The table in the format that the suffix of `path` names. Raises UsageError for another, and for Parquet where
    pyarrow is missing."""
    if path.suffix not in _SUFFIXES:
        raise UsageError(f"{path}: must end in {' or '.join(_SUFFIXES)}")
    if path.suffix == ".parquet" and importlib.util.find_spec("pyarrow") is None:
        raise UsageError(f"{path}: Parquet needs pyarrow: pip install pyarrow, or write a .csv")
    table = frame(sessions)
    if path.suffix == ".parquet":
        buffer = io.BytesIO()
        table.to_parquet(buffer, index=False)
        return buffer.getvalue()
    table["samples_us"] = table["samples_us"].map(json.dumps, na_action="ignore")
    return table.to_csv(index=False).encode()


def frame(sessions: Iterable[Trials]) -> pd.DataFrame:
    """One row a trial, studies in the order given and trials as they were asked; `samples_us` holds lists."""
    rows = [row for session in sessions for row in _rows(session)]
    table = pd.DataFrame(rows)
    fixed = [name for name in table.columns if "." not in name]
    split = fixed.index("status")
    fields = [sorted(name for name in table.columns if name.startswith(f"{kind}.")) for kind in ("problem", "config")]
    terms = sorted(name for name in table.columns if name.startswith("term."))
    # Whole numbers stay whole where other rows have none.
    return table[[*fixed[:split], *fields[0], *fields[1], *fixed[split:], *terms]].convert_dtypes()


def _rows(session: Trials) -> Iterator[dict[str, Any]]:
    device = devices.named(session.device.partition(".")[0])
    kernel, study, problem = registry.load(session.kernel), session.study, session.problem
    where = {
        "kernel": session.kernel,
        "device": session.device,
        "arch": device.arch,
        "tier": study.tier,
        "bench": study.bench,
        "toolchain": study.toolchain,
        "source": study.source,
        "seed": study.seed,
        "epoch": study.epoch,
        "order": study.order or None,
        "problem": study.problem,
        "roofline_us": roofline_us(kernel, problem, device),
        **{f"problem.{name}": value for name, value in key(problem)},
    }
    used = [outcome.get("resources") for _, outcome in session.outcomes]
    binaries = [Resources.from_json(one) if one else None for one in used]
    configs = [config for config, _ in session.outcomes]
    modeled = predict_all(calls_of(kernel, problem, configs, device), device, binaries)
    for number, (config, outcome) in enumerate(session.outcomes):
        yield {
            **where,
            "trial": number,
            **{f"config.{name}": value for name, value in config.items()},
            **_outcome(outcome, study.measured),
            **_resources(outcome.get("resources") or {}, device),
            **_model(modeled[number], device),
        }


def _outcome(outcome: Mapping[str, Any], measured: bool) -> dict[str, Any]:
    """How a trial ended; the time of one that was only modeled is none of its own."""
    timed = outcome if measured else {}
    names = ("us", "spread", "samples_us", "clock_mhz", "throttled")
    return {
        "status": outcome.get("kind") or outcome.get("failed") or "ok",
        "stage": outcome.get("failed"),
        "reason": outcome.get("reason"),
        **{name: timed.get(name) for name in names},
        "error_over_bound": timed.get("error"),
        "same_as": outcome.get("same_as"),
        "code": outcome.get("code"),
        "spills": outcome.get("spills"),
    }


def _resources(used: Mapping[str, Any], device: Device) -> dict[str, Any]:
    """Resources of the binary; occupancy is the fraction of a unit's warps that its resident programs fill."""
    found = {name: used.get(name) for name in _USED}
    filled = used["programs_per_unit"] * used["num_warps"] / most_warps(device) if used else None
    instructions = json.dumps(used["matrix_instructions"], allow_nan=False) if used else None
    return {**found, "occupancy": filled, "matrix_instructions": instructions}


def _model(modeled: Prediction, device: Device) -> dict[str, Any]:
    low, high = modeled.range_us
    return {
        "model": model_name(device),
        "modeled_us": modeled.us,
        "modeled_low_us": low,
        "modeled_high_us": high,
        "bound": modeled.bound,
        **{f"term.{name}_us": us for name, us in modeled.terms},
    }
