"""A first table and what a call gets from it, in Python: no GPU is needed, and no time is measured.

python examples/quickstart.py
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import autotune
from autotune import device, registry


def tune(tables: Path) -> None:
    """Search, compile and prove 12 configs of one problem for the MI355X; write the table under `tables`."""
    words = ["tune", "norm/rms_norm_quant", "--device", "mi355x", "--problem", "rows=64,cols=7168"]
    subprocess.run([sys.executable, "-m", "autotune", *words, "--tables", str(tables), "--quiet"], check=True)


def serve(tables: Path) -> None:
    """Ask for the config of a size that was tuned, and of one that was not."""
    os.environ["AUTOTUNE_TABLES"] = str(tables)
    kernel, gpu = registry.load("norm/rms_norm_quant"), device.named("mi355x")
    for rows in (64, 50):
        problem = kernel.problem(rows, 7168, dtype=gpu.fp8)
        choice = autotune.choose(kernel, problem, gpu)
        print(f"rows={rows}: {choice.how} ({choice.reason})\n  {choice.config}")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        tune(Path(folder))
        serve(Path(folder))
