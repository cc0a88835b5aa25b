"""Kernels as ops of torch, run: opcheck, and torch.compile beside a plain call."""

import pytest
import torch

from autotune import device, registry
from autotune.tuning import space
from autotune.tuning.interpreter.corrections import correct_interpreter

GPU = device.named("mi355x")
FEW = ["norm/rms_norm_quant", "rope/qk_prep", "compressor/index_key_store"]
"""One with optional results, two that write in place (with and without a new result)."""


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
    """For each output, is it equal in a compiled and in a plain call? Sizes are static, then dynamic."""
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


def check(name):
    correct_interpreter()
    assert set(checked(name).values()) == {"SUCCESS"}
    assert all(compiled(name))


@pytest.mark.parametrize("name", FEW)
def test_op_is_accepted_and_compiles(name):
    check(name)


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in registry.names() if name not in FEW])
def test_every_op_is_accepted_and_compiles(name):
    check(name)
