"""Is any config rejected that the kernel's rules allow? Samples configs of each kernel and proves them, as `tune` does.

    TRITON_INTERPRET=1 OMP_NUM_THREADS=1 python -m benchmarks.validation.correct_configs \
        [KERNEL ...] [--each 20] [--log FILE]

Configs are drawn over four devices in turn; each is proved on one check problem (`--problems 0`: on all), with all its
inputs. Rows of the --log are not computed again. Prints one line a kernel; exit code 1 where anything was rejected.
"""

import argparse
import json
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autotune import device, registry
from autotune.config import Config, Problem, describe
from autotune.device import Device
from autotune.errors import AutotuneError
from autotune.kernel import Kernel
from autotune.tuning import space
from autotune.tuning.validation.cases import cases_of
from autotune.tuning.validation.validate import validate

GPUS = ("mi355x", "h100", "b200", "mi300x")
_MOST_STEPS = 256
"""Programs x iterations: larger ones are left to the slow tests."""


def drawn(kernel: Kernel[Any], each: int, problems: int) -> Iterator[tuple[Device, Problem, Config]]:
    """`each` distinct (device, config), and the problems that each is proved on."""
    chance = random.Random(kernel.name)
    for number in range(each):
        gpu = device.named(GPUS[number % len(GPUS)])
        loaded = space.load(kernel, gpu)
        config = chance.choice(loaded.configs)
        for _ in range(2000):
            allowed = [p for p in loaded.check if _affordable(kernel, p, config, gpu)]
            if allowed:
                break
            config = chance.choice(loaded.configs)
        for problem in allowed if problems == 0 else chance.sample(allowed, min(problems, len(allowed))):
            yield gpu, problem, config


def _affordable(kernel: Kernel[Any], problem: Problem, config: Config, gpu: Device) -> bool:
    if kernel.reject(problem, config, gpu) is not None:
        return False
    work = kernel.work(problem, config, gpu)
    return work.programs * work.iterations <= _MOST_STEPS


def proved(kernel: Kernel[Any], gpu: Device, problem: Problem, config: Config) -> dict[str, Any]:
    began = time.process_time()
    try:
        checks = space.load(kernel, gpu).check
        error = validate(kernel, problem, config, gpu, cases_of(kernel, problem, config, gpu, checks))
        found: dict[str, Any] = {"error": round(error, 4)}
    except AutotuneError as wrong:
        found = {"rejected": str(wrong)}
    return found | {"cpu_s": round(time.process_time() - began, 2)}


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("kernels", nargs="*")
    parser.add_argument("--each", type=int, default=20)
    parser.add_argument("--problems", type=int, default=1, help="check problems a config (0: all)")
    parser.add_argument("--log", type=Path)
    arguments = parser.parse_args()
    known: dict[str, dict[str, Any]] = {}
    if arguments.log and arguments.log.exists():
        known = {row["key"]: row for row in map(json.loads, arguments.log.read_text().splitlines())}
    wrong = 0
    for name in arguments.kernels or registry.names():
        kernel, rows = registry.load(name), []
        for gpu, problem, config in drawn(kernel, arguments.each, arguments.problems):
            key = f"{name} {kernel.identity} {gpu.name} {describe(problem)} {config}"
            row = known.get(key) or {"key": key, **proved(kernel, gpu, problem, config)}
            if arguments.log and key not in known:
                with arguments.log.open("a") as log:
                    log.write(json.dumps(row) + "\n")
            rows.append(row)
        rejected = [row for row in rows if "rejected" in row]
        wrong += len(rejected)
        worst = max((row["error"] for row in rows if "error" in row), default=0.0)
        spent = sum(row["cpu_s"] for row in rows)
        print(f"{name}: {len(rows)} proved, {len(rejected)} rejected, worst {worst}, {spent:.1f} CPU s", flush=True)
        for row in rejected:
            print(f"  {row['key']}: {row['rejected']}", flush=True)
    return 1 if wrong else 0


sys.exit(main())
