"""`autotune learn`: teaches the prior by what was measured here, and calibrates the times that the model predicts."""

from __future__ import annotations

import argparse
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import files
from autotune.cli.output import Commands, command, show_rows
from autotune.cli.storage_option import add_storage, database
from autotune.state import state_root

if TYPE_CHECKING:
    from autotune.tuning.cost_model.calibration import Calibration
    from autotune.tuning.cost_model.prior_training import MeasuredProblem


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "learn",
        "train the prior and calibrate `predict` with what was measured here: trials on GPUs, and measured rows of the "
        "tables",
        "  autotune learn\n  autotune learn --storage postgresql://tuner@db/trials   # what a cluster measured\n"
        "  rm ~/.cache/autotune/prior.json   # back to the packaged prior",
    )
    add_storage(parser)
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from autotune.tuning.cost_model import calibration, prior
    from autotune.tuning.cost_model.prior_training import written
    from autotune.tuning.session.history import calibrations, lessons, measured

    state = state_root()
    found = measured(state, database=database(arguments))
    taught, fits = lessons(found), calibrations(found)
    if taught:
        files.write(prior.learned_path(state), written(taught))
        prior.load.cache_clear()
    if fits:
        files.write(calibration.path(state), calibration.written(fits))
    rows: list[dict[str, Any]] = [{"prior": name, "problems": len(some)} for name, some in sorted(taught.items())]
    rows += [{"calibration": name, **asdict(one)} for name, one in sorted(fits.items())]
    if arguments.json:
        show_rows(rows, as_json=True)
    elif rows:
        _tell(state, taught, fits)
    else:
        print(f"nothing measured under {state} nor in the tables, or too little; run autotune tune where a GPU is")
    return 0 if rows else 1


def _tell(state: Path, taught: dict[str, list[MeasuredProblem]], fits: dict[str, Calibration]) -> None:
    from autotune.tuning.cost_model import prior

    for name, some in sorted(taught.items()):
        print(f"{name}: {len(some)} problems")
    if taught:
        path = prior.learned_path(state)
        trees, kb = len(prior.load(path).value), path.stat().st_size / 1e3
        print(f"{path}: {trees} trees, {kb:.0f} kB; remove it to forget")
    for name, one in sorted(fits.items()):
        print(f"{name}: {one.factor:.2f} of the modeled time, within x{one.spread:.2f}, of {one.times} times")
