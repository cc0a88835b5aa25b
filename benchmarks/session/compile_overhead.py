"""Compiles the same 60 configs with the toolkit and with a bare loop over `JITFunction.warmup`, two processes each.

    python -m benchmarks.session.compile_overhead [--device mi355x] [--configs 60]

Prints seconds of each side and their ratio. Every compile is cold: each side has its own empty Triton cache.
"""

from __future__ import annotations

import argparse
import multiprocessing
import os
import random
import tempfile
import time
from pathlib import Path

from autotune import device as devices
from autotune import registry
from autotune.config import key
from autotune.tuning import space
from autotune.tuning.jobs import compile_job
from autotune.tuning.workers.worker import Job, Limits, Workers

KERNEL = "gemm/fp8_block_scaled"


def _bare(jobs: list[Job], cache: str) -> float:
    """Seconds of a user's own loop, imports excluded: one warmup per config, arguments spelled out."""
    os.environ["TRITON_CACHE_DIR"] = cache
    import torch
    from triton.runtime import driver

    from autotune.kernels._launch import options
    from autotune.kernels.gemm._tiles import split_buffers
    from autotune.tuning.compilation.launch import StubDriver, target_of

    kernel = registry.load(KERNEL)
    driver.set_active(StubDriver(target_of(devices.named(jobs[0].device).arch)))
    begin = time.perf_counter()
    for job in jobs:
        sizes = dict(job.problem)
        m, n, k = (int(sizes[name]) for name in "mnk")
        a, b, a_scale, b_scale = kernel.problem(**sizes).inputs(0, "meta")
        c = torch.empty((m, n), dtype=torch.bfloat16, device="meta")
        parts = split_buffers(c, job.config.size("SPLIT_K"), m * n, devices.named(job.device))
        kernel.jit.warmup(
            a,
            b,
            c,
            *parts,
            a_scale,
            b_scale,
            m,
            n,
            k,
            COPIES_IN_REGISTERS=True,
            MASKS_ROWS=False,
            grid=(1,),
            **options(job.config),
        )  # fmt: skip
    return time.perf_counter() - begin


def _jobs(device_name: str, count: int) -> list[Job]:
    kernel, device = registry.load(KERNEL), devices.named(device_name)
    problem = kernel.problem(64, 2048, 7168, device.fp8)
    allowed = space.feasible(space.load(kernel, device), kernel, problem, device)
    chosen = random.Random(0).sample(allowed, count)
    return [Job(KERNEL, key(problem), config, device_name) for config in chosen]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--device", default="mi355x")
    parser.add_argument("--configs", type=int, default=60)
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    *jobs, first, second = _jobs(arguments.device, arguments.configs + 2)
    ratios = []
    for _ in range(arguments.repeat):
        with tempfile.TemporaryDirectory() as folder:
            with multiprocessing.get_context("spawn").Pool(2) as pool:
                halves = [(jobs[i::2], str(Path(folder) / f"bare{i}")) for i in range(2)]
                bare = max(pool.starmap(_bare, halves))
            with Workers(Limits(processes=2), Path(folder)) as workers:
                list(workers.run(compile_job, [first, second]))  # so that both sides are timed without start-up
                begin = time.perf_counter()
                failed = sum("resources" not in result for _, result in workers.run(compile_job, jobs))
                ours = time.perf_counter() - begin
        ratios.append(ours / bare)
        print(f"bare {bare:.2f} s, toolkit {ours:.2f} s ({failed} do not fit), ratio {ours / bare:.3f}", flush=True)
    print(f"{len(jobs)} configs on {arguments.device}: median ratio {sorted(ratios)[len(ratios) // 2]:.3f}")


if __name__ == "__main__":
    main()
