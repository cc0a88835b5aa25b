"""A new search for a regressed row that no known config repairs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import autotune
from autotune import device as devices
from autotune import runtime, table
from autotune.check.compare import Comparison
from autotune.check.compilers import Toolchain
from autotune.config import describe


def command(comparison: Comparison) -> list[str]:
    """Arguments of the `autotune` command that searches for the comparison's row anew."""
    served = comparison.served
    problem = describe(served.call.problem)
    words = ["tune", served.kernel.name, "--device", served.device.name, "--problem", problem]
    if own := devices.given_folder():
        words += ["--devices", str(own)]
    if served.table is None:
        return words
    deterministic = table.load(served.table).deterministic
    _, _, seed = served.table.parts[-3].partition(".simulated-")
    words += ["--deterministic"] if deterministic else []
    words += ["--bench", f"simulated:{seed}"] if seed else []  # a rehearsal stays one
    return [*words, "--tables", str(runtime.tables_root())] if deterministic or seed else words


def run(words: list[str], against: Toolchain) -> bool:
    """Runs that command in a process with the compilers of `against`, its results on stderr; True where it succeeds."""
    path = os.pathsep.join([*against.path, str(Path(autotune.__file__).parents[1])])
    environment = {**against.process_environment(), "PYTHONPATH": path}
    ended = subprocess.run([sys.executable, "-m", "autotune", *words], env=environment, stdout=2, check=False)
    return ended.returncode == 0
