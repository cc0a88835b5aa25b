"""`autotune learn`: teaches the prior by what was measured here, so that the next session begins better."""

from __future__ import annotations

import argparse

from autotune import atomic
from autotune.cli.output import Commands, command, show_rows
from autotune.tuning.prediction import prior
from autotune.tuning.prediction.learn import written
from autotune.tuning.session.cache import state_root
from autotune.tuning.session.experience import lessons


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "learn",
        "teach the prior by the trials measured on GPUs here and the measured rows of the tables; tune begins with it",
        "  autotune learn\n  rm ~/.cache/autotune/prior.json   # back to the packaged prior",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    state = state_root()
    found = lessons(state)
    path = prior.own(state)
    if found:
        atomic.write(path, written(found))
        prior.load.cache_clear()
    rows = [{"learned": name, "problems": len(some)} for name, some in sorted(found.items())]
    if arguments.json:
        show_rows(rows, as_json=True)
    elif not found:
        print(f"nothing measured under {state} nor in the tables; run autotune tune on a machine with a GPU first")
    else:
        for row in rows:
            print(f"{row['learned']}: {row['problems']} problems")
        trees, kb = len(prior.load(path).value), path.stat().st_size / 1e3
        print(f"{path}: {trees} trees, {kb:.0f} kB; remove it to forget")
    return 0 if found else 1
