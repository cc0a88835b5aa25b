"""Time of one config lookup: ours beside Triton's Autotuner, and vLLM's and SGLang's own functions.

    python -m benchmarks.serving.lookup [--vllm FOLDER] [--sglang FOLDER]

FOLDER is an unpacked wheel or source archive of the engine, from which its functions are taken as they are. Prints
nanoseconds, the median of short batches on one core, and how many times each peer takes; and the cost at start.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import triton

from autotune import device as devices
from autotune import registry, runtime, table
from autotune.config import key
from autotune.kernel import Kernel
from benchmarks.serving import peers

N, K, M = 2048, 7168, 64
ROWS = (1, 2, 4, 8, 16, 24, 32, 48, 64, 96, 128, 256, 512, 1024, 1536, 2048, 3072, 4096)


def nanoseconds(call: Callable[[], object], batch: int = 100, batches: int = 2000) -> float:
    """Median over batches short enough that another process seldom interrupts one."""
    times = []
    for _ in range(batches):
        begin = time.perf_counter_ns()
        for _ in range(batch):
            call()
        times.append((time.perf_counter_ns() - begin) / batch)
    return statistics.median(times)


def tables(folder: Path) -> None:
    """A table with a row at each of ROWS, of which the last also serves up to twice its size."""
    kernel, device = registry.load("gemm/fp8_block_scaled"), devices.named("mi355x")
    problems = [kernel.problem(m, N, K, device.fp8) for m in ROWS]
    rows = [
        table.Row(key(p), kernel.default(p, device), "modeled", {}, "none", "", (("m", p.m, 2 * p.m - 1),))
        for p in problems
    ]
    path = table.path_of(folder, device.arch, device.name, kernel.name)
    table.save(table.Table(kernel.name, device.arch, device.name, kernel.identity.kernel, tuple(rows)), path)
    os.environ["AUTOTUNE_TABLES"] = str(folder)


def ours() -> dict[str, float]:
    """From the arguments of a call, as in `Kernel.__call__`; and from sizes alone, as the engines' functions."""
    kernel, device = registry.load("gemm/fp8_block_scaled"), devices.named("mi355x")
    found = {}
    for how, m in (("exact", M), ("interval", M + 3)):
        args = kernel.problem(m, N, K, device.fp8).inputs(0, "meta")
        devices.current = lambda: device  # what a GPU would answer, once a kind of call
        assert kernel.serve(args).choice.how == how
        found[f"call, {how}"] = of_call(kernel, args)
        lookup = runtime.lookup(kernel, device)
        assert lookup[m, N, K, "e4m3fn"].how == how
        found[f"sizes, {how}"] = of_sizes(lookup, m)
    return found


def of_call(kernel: Kernel[Any], args: tuple[Any, ...]) -> float:
    return nanoseconds(lambda: kernel.serve(args))


def of_sizes(lookup: runtime.Lookup, m: int) -> float:
    return nanoseconds(lambda: lookup[m, N, K, "e4m3fn"])


def triton_key() -> float:
    """`Autotuner.run` of the same call with a warm cache and a kernel that does nothing: its key, and one dict hit."""

    configs = [triton.Config({"BLOCK": block}) for block in (16, 32)]

    @triton.autotune(configs, key=["m", "n", "k"])  # type: ignore[untyped-decorator]
    @triton.jit  # type: ignore[untyped-decorator]
    def gemm(a, b, out, a_scale, b_scale, m, n, k, BLOCK: triton.language.constexpr):  # type: ignore[no-untyped-def]  # noqa: ANN001, ANN202, PLR0913
        pass

    class Nothing:
        @staticmethod
        def run(*args: object, **kwargs: object) -> None:
            pass

    a, b, a_scale, b_scale = registry.load("gemm/fp8_block_scaled").problem(M, N, K).inputs(0, "meta")
    args = (a, b, torch.empty((M, N), dtype=torch.bfloat16, device="meta"), a_scale, b_scale, M, N, K)
    dtypes = [str(arg.dtype) for arg in args if isinstance(arg, torch.Tensor)]
    gemm.cache[(M, N, K, *dtypes)] = gemm.configs[0]
    gemm.fn, launched = Nothing, nanoseconds(lambda: Nothing.run(*args, grid=(1,), warmup=False, BLOCK=16))
    return nanoseconds(lambda: gemm.run(*args, grid=(1,), warmup=False)) - launched


def engine(name: str, folder: Path, home: Path) -> dict[str, float]:
    """The engine's block-FP8 and MoE lookups with a choice of the nearest row, as its launchers make it."""
    peer = peers.load(name, folder, home, "NVIDIA H200")
    rows = json.dumps({str(m): {"BLOCK_SIZE_M": 64, "BLOCK_SIZE_K": 128} for m in ROWS})
    space = "" if name == "vllm" else " "
    dense, experts = (home / path for path in peer.modules)
    version = f"triton_{triton.__version__.replace('.', '_')}" if name == "sglang" else ""
    shape = f"device_name=NVIDIA_H200,dtype=fp8_w8a8,block_shape=[128,{space}128].json"
    for path in (
        dense.parent / "configs" / f"N={N},K={K},{shape}",
        experts.parent / "configs" / version / f"E=256,N=256,{shape}",
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(rows)

    def block_fp8() -> object:
        configs = peer.block_fp8(N, K, 128, 128)
        assert configs
        return configs[min(configs.keys(), key=lambda x: abs(x - M))]

    def moe() -> object:
        configs = peer.moe(256, 256, "fp8_w8a8", 128, 128)
        assert configs
        return configs[min(configs.keys(), key=lambda x: abs(x - M))]

    return {f"{name} block FP8": nanoseconds(block_fp8), f"{name} fused MoE": nanoseconds(moe)}


START = """
import time, torch, triton.language
wall, cpu = time.perf_counter(), time.process_time()
from autotune import device, runtime, table
gpu = device.named("mi355x")
paths = sorted(runtime.tables_root().glob(f"{gpu.arch}/{gpu.name}/*/*.json"))
rows = sum(len(table.load(path).rows) for path in paths)
print((time.perf_counter() - wall) * 1e3, (time.process_time() - cpu) * 1e3, rows)
"""


def start() -> tuple[float, float, int]:
    """Best of five fresh processes: ms of wall time, of processor time, and rows read, beyond torch and triton."""
    runs = [subprocess.run([sys.executable, "-c", START], capture_output=True, text=True, check=True) for _ in range(5)]
    wall, cpu, rows = zip(*(map(float, run.stdout.split()) for run in runs), strict=True)
    return min(wall), min(cpu), int(rows[0])


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--vllm", type=Path)
    parser.add_argument("--sglang", type=Path)
    arguments = parser.parse_args()
    wall, cpu, rows = start()
    print(f"import autotune.runtime and {rows} rows of mi355x: {wall:.1f} ms, of which processor {cpu:.1f} ms")
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    with tempfile.TemporaryDirectory() as folder:
        tables(Path(folder))
        own = ours()
        theirs = {"triton Autotuner.run key": triton_key()}
        for name in ("vllm", "sglang"):
            if given := getattr(arguments, name):
                theirs |= engine(name, given, Path(folder))
            else:
                print(f"{name}: no folder given, left out")
    for name, ns in own.items():
        print(f"autotune {name:32} {ns:8.0f} ns")
    for name, ns in theirs.items():
        mine = own["call, interval"] if name.startswith("triton") else own["sizes, interval"]
        print(f"{name:41} {ns:8.0f} ns  {ns / mine:5.1f} x")


if __name__ == "__main__":
    main()
