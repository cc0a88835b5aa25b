"""Run in the interpreter: what was counted of each kernel beside what its formula says, as JSON."""

import json
import sys

from autotune import device, registry
from autotune.tuning import kernel_facts
from autotune.tuning.interpreter.counting import count


def main(gpu, names):
    rows = {}
    for name in names or registry.names():
        kernel = registry.load(name)
        drawn = {"dtype": gpu.fp8} if "dtype" in kernel.problem.__dataclass_fields__ else {}
        sizes = kernel_facts.read(name).count
        assert sizes, f"search_spaces/{name}.yaml: count must name a problem whose tiles are full"
        problem = kernel.problem(**sizes, **drawn)
        config = kernel.default(problem, gpu)
        said = kernel.work(problem, config, gpu)
        counts = count(kernel, problem, config, gpu)
        rows[name] = {
            "said": vars(said),
            "counted": vars(counts.work(said.dtype)),
            "programs_run": counts.main.counted,
            "flops": counts.main.flops,
            "atomics": sum(launch.atomics for launch in counts.launches),
            "arguments": {argument: vars(traffic) for argument, traffic in counts.main.arguments.items()},
        }
    print(json.dumps(rows))


if __name__ == "__main__":
    main(device.named(sys.argv[1]), sys.argv[2:])
