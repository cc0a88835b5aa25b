"""Launches each default once, for tools that watch a process: `python -m benchmarks.gpu_run.launches --part check`."""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import torch

from autotune import device as devices
from benchmarks.gpu_run.asking import defaults
from benchmarks.gpu_run.context import Context, kernels_of


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", choices=("check", "compile"), default="check")
    parser.add_argument("--kernels", nargs="*", default=[])
    parser.add_argument("--seconds", type=float, default=60.0)
    arguments = parser.parse_args()
    ends = time.monotonic() + arguments.seconds
    kernels = kernels_of(tuple(arguments.kernels))
    context = Context("launches", Path(), "gpu", devices.current(), kernels, ends)
    for unit, default in list(defaults(context, arguments.part))[: len(kernels)]:
        if context.left() <= 0:
            break
        inputs = default.problem.inputs(0, "cuda:0")
        default.kernel.launch(*inputs, config=default.job.config, device=context.device)
        torch.cuda.synchronize()
        print(unit, flush=True)


if __name__ == "__main__":
    main()
