"""`autotune learn`: teaches the prior by what was measured here, so that the next session begins better."""

from __future__ import annotations

import argparse
import os
import tempfile
from pathlib import Path

from autotune.cli.output import Commands, command
from autotune.tuning.prediction import prior
from autotune.tuning.session.cache import state_root


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "learn",
        "teach the prior by the trials measured on GPUs here and the measured rows of the tables; tune begins with it",
        "  autotune learn\n  rm ~/.cache/autotune/prior.json   # back to the packaged prior",
    )
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    from autotune.tuning.prediction.learn import written
    from autotune.tuning.session.experience import lessons

    state = state_root()
    found = lessons(state)
    if not found:
        print(f"nothing measured under {state} nor in the tables; run autotune tune on a machine with a GPU first")
        return 1
    path = prior.own(state)
    _replace(path, written(found))
    prior.load.cache_clear()
    taught = prior.load(path)
    for name, some in sorted(found.items()):
        print(f"{name}: {len(some)} problems")
    print(f"{path}: {len(taught.value)} trees, {path.stat().st_size / 1e3:.0f} kB; remove it to forget")
    return 0


def _replace(path: Path, text: str) -> None:
    """Atomic: a session sees the old prior or the new one."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    with os.fdopen(handle, "w", encoding="utf-8") as file:
        file.write(text)
    Path(temporary).replace(path)
