"""Run by test_ops.py in a process of its own, in Triton's interpreter: one JSON line a kernel."""

import json
import sys

import torch

from autotune import device, registry
from autotune.tuning import space
from autotune.tuning.interpreter.corrections import correct_interpreter

GPU = device.named("mi355x")


def without_fp8(arguments):
    """opcheck compares copies of the inputs, which torch's CPU cannot do in FP8."""
    return all(a.dtype.itemsize > 1 or a.dtype == torch.uint8 for a in arguments if isinstance(a, torch.Tensor))


def checked(name):
    kernel = registry.load(name)
    arguments = space.load(kernel, GPU).check[0].inputs(0, "cpu")
    tests = ["test_autograd_registration", "test_faketensor", "test_aot_dispatch_dynamic"]
    if without_fp8(arguments):
        tests.append("test_schema")
    found = torch.library.opcheck(kernel.op, arguments, {"device": GPU.name}, test_utils=tests, raise_exception=False)
    return {test: str(result) for test, result in found.items()}


def compiled(name):
    """Whether a compiled call gives, and writes, exactly what a plain call does; sizes static and dynamic."""
    kernel = registry.load(name)
    problem = space.load(kernel, GPU).check[0]
    same = []
    for dynamic in (False, True):
        torch._dynamo.reset()
        call = torch.compile(
            lambda *args: kernel(*args, device=GPU), backend="aot_eager", fullgraph=True, dynamic=dynamic
        )
        results = [as_tuple(run(*problem.inputs(0, "cpu"))) for run in (call, lambda *a: kernel(*a, device=GPU))]
        same += [torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(*results, strict=True)]
    return same


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


if __name__ == "__main__":
    correct_interpreter()
    for asked in sys.argv[1:]:
        print(json.dumps({"kernel": asked, "opcheck": checked(asked), "compiled": compiled(asked)}), flush=True)
