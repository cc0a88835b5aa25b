"""Kernels as ops of torch: schemas and fake implementations."""

import threading

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from autotune import device, registry, torch_ops
from autotune.tuning import space

GPU = device.named("mi355x")
KERNELS = registry.names()


def as_tuple(result):
    return result if isinstance(result, tuple) else (result,)


@pytest.mark.parametrize("name", KERNELS)
def test_fake_agrees_with_launcher(name):
    kernel = registry.load(name)
    for problem in space.load(kernel, GPU).check:
        arguments = problem.inputs(0, "meta")
        with torch_ops._without_launching(type(kernel.jit)):
            result = kernel.launch(*arguments, config=kernel.default(problem, GPU), device=GPU)
        outputs = as_tuple(result)
        written = [arguments[i] for i in kernel.signature.written if arguments[i] is not None]
        fresh = [o for o in outputs if not any(o is w for w in written)]
        # The convention that the op relies on: what is new comes first, then what was written.
        assert [id(o) for o in outputs] == [id(o) for o in (*fresh, *written)]
        assert not any(o is a for o in fresh for a in arguments)
        assert isinstance(result, tuple) != (kernel.signature.bare and len(outputs) == 1)
        with FakeTensorMode() as mode:
            fakes = [mode.from_tensor(a) if isinstance(a, torch.Tensor) else a for a in arguments]
            found = kernel.op(*fakes, device=GPU.name)
        found = [found] if isinstance(found, torch.Tensor) else list(found or ())
        assert [(f.shape, f.dtype) for f in found] == [(o.shape, o.dtype) for o in fresh]


def test_other_threads_launch_while_one_traces():
    class Jit:
        def run(self, *args):
            return "launched"

    original, answers = Jit.run, []
    with torch_ops._without_launching(Jit):
        other = threading.Thread(target=lambda: answers.append(Jit().run()))
        other.start()
        other.join()
        answers.append(Jit().run())
    assert answers == ["launched", None]
    assert Jit.run is original
