"""CPU seconds to prove one config on all of its check problems, inputs and sanitizer included.

TRITON_INTERPRET=1 OMP_NUM_THREADS=1 python -m benchmarks.validation.cost [KERNEL] [--device mi355x] [--repeat 3]
"""

import argparse
import time

from autotune import device, registry
from autotune.tuning import space
from autotune.tuning.validation.cases import cases_of
from autotune.tuning.validation.validate import validate


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("kernel", nargs="?", default="gemm/fp8_block_scaled")
    parser.add_argument("--device", default="mi355x")
    parser.add_argument("--repeat", type=int, default=3)
    arguments = parser.parse_args()
    kernel, gpu = registry.load(arguments.kernel), device.named(arguments.device)
    checks = space.load(kernel, gpu).check
    config = kernel.default(checks[-1], gpu)
    allowed = [problem for problem in checks if kernel.reject(problem, config, gpu) is None]
    for _ in range(arguments.repeat):
        began = time.process_time()
        for problem in allowed:
            validate(kernel, problem, config, gpu, cases_of(kernel, problem, config, gpu, checks))
        print(f"{kernel.name} {config}: {len(allowed)} problems, {time.process_time() - began:.2f} CPU s", flush=True)


main()
