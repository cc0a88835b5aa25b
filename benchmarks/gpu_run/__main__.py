"""One run of at most ten minutes on a GPU that nobody has used with this product; then a page of what it showed.

    python -m benchmarks.gpu_run                                # on a GPU
    python -m benchmarks.gpu_run --bench simulated:7 --device h200 --kernels norm/rms_norm_quant   # a rehearsal
    python -m benchmarks.gpu_run --bench stand-in --kernels quant/fp8_group_quant    # the GPU code itself, on a CPU

Steps run in order of worth, each in a process with a limit, and keep each result as it comes: a run that was killed
goes on where it was when the same command is given again. DIR/page.md shows every step; `python -m
benchmarks.gpu_run.read DIR` writes it anew. Compiled kernels lie in $AUTOTUNE_STATE, else in DIR/state.

A machine where nothing can be downloaded needs torch, triton, numpy, pandas, scipy, pyyaml, networkx, rich,
threadpoolctl and pytest, which images with torch mostly have, and the rest as wheels that are carried to it:

    pip download --no-deps --only-binary=:all: --python-version 3.12 -d wheels \\
        --platform manylinux2014_x86_64 --platform manylinux_2_28_x86_64 \\
        optuna alembic sqlalchemy greenlet mako colorlog pyelftools threadpoolctl     # 6.2 MB
    pip install --no-index --no-deps --target site wheels/*.whl          # there
    PYTHONPATH=site:. python3 -m benchmarks.gpu_run --out "$OUT"
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from autotune.errors import AutotuneError, UsageError, did_you_mean, told
from benchmarks.gpu_run.context import device_of, kernels_of
from benchmarks.gpu_run.plan import SECONDS, STEPS, chosen
from benchmarks.gpu_run.read import written
from benchmarks.gpu_run.runner import Run, run


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", default="gpu", help="gpu (default), simulated:SEED or stand-in")
    parser.add_argument("--device", default="h200", help="the device that another bench than gpu stands for")
    parser.add_argument("--out", type=Path, default=Path("gpu_run"), metavar="DIR", help="results (default: gpu_run)")
    parser.add_argument("--only", nargs="+", default=[], metavar="STEP", help=", ".join(step.name for step in STEPS))
    parser.add_argument("--kernels", nargs="+", default=[], metavar="KERNEL", help="default: all")
    parser.add_argument("--seconds", type=float, default=SECONDS, help=f"of the whole run (default: {SECONDS:g})")
    parser.add_argument("--again", action="store_true", help="ask finished steps again too")
    arguments = parser.parse_args()
    try:
        _known(arguments.only)
        kernels_of(tuple(arguments.kernels))
        device = device_of(arguments.bench, arguments.device)
        asked = Run(arguments.out, arguments.bench, device.name, tuple(arguments.kernels))
        try:
            run(chosen(tuple(arguments.only)), asked, arguments.seconds, arguments.again)
        finally:
            if arguments.out.is_dir():
                print(f"page: {written(arguments.out)}")
    except AutotuneError as error:
        print(told(error), file=sys.stderr)
        return 2
    return 0


def _known(only: list[str]) -> None:
    known = [step.name for step in STEPS]
    for name in only:
        if name not in known:
            raise UsageError(f"--only {name}: no such step{did_you_mean(name, known)}; steps: {', '.join(known)}")


if __name__ == "__main__":
    sys.exit(main())
