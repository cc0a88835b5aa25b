"""Calls of an idle rank, without rows: outputs of no rows, nothing launched, nothing noted as a miss."""

import dataclasses
import json

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from triton.runtime.jit import JITFunction

from autotune import device, misses, registry, runtime
from autotune.config import build, empty_fields, key, resized
from autotune.errors import UsageError
from autotune.tuning import space

GPU = device.named("mi355x")


@pytest.fixture(params=registry.names())
def kernel(request):
    return registry.load(request.param)


def larger(problem, field):
    """The problem with so much more in `field` that every output of it grows."""
    size = getattr(problem, field)
    return next(other for more in (16 * size, 2 * size) if (other := resized(problem, field, more)) is not None)


def without(problem, field):
    """Inputs on the meta device whose dimensions that follow `field` have length 0."""
    inputs = []
    for value, other in zip(problem.inputs(0, "meta"), larger(problem, field).inputs(0, "meta"), strict=True):
        if isinstance(value, torch.Tensor):
            shape = [0 if size != grown else size for size, grown in zip(value.shape, other.shape, strict=True)]
            inputs.append(torch.empty(shape, dtype=value.dtype, device="meta"))
        else:
            inputs.append(0 if value != other else value)
    return tuple(inputs)


def results(outputs):
    return outputs if isinstance(outputs, tuple | list) else () if outputs is None else (outputs,)


def like(outputs, grown):
    """Shapes of `outputs` with 0 for each size that differs in `grown`, and their dtypes."""
    pairs = [zip(one.shape, other.shape, strict=True) for one, other in zip(outputs, grown, strict=True)]
    shapes = [[0 if size != more else size for size, more in pair] for pair in pairs]
    return [(torch.Size(shape), output.dtype) for shape, output in zip(shapes, outputs, strict=True)]


def test_calls_without_rows_launch_nothing(kernel, monkeypatch):
    launched = []
    monkeypatch.setattr(JITFunction, "run", lambda function, *args, **kwargs: launched.append(function))
    problem = space.load(kernel, GPU).check[-1]
    field = problem.VARYING[0]

    def call(inputs):
        config = kernel.serve(inputs, GPU).config
        return results(kernel.launch(*inputs, config=config, device=GPU))

    shapes = like(call(problem.inputs(0, "meta")), call(larger(problem, field).inputs(0, "meta")))
    filled = len(launched)
    assert filled
    assert [(output.shape, output.dtype) for output in call(without(problem, field))] == shapes
    # A plan of windows has rows without requests too: they are filled with -1.
    assert len(launched) == filled + (kernel.name == "metadata/compress_plan")


def test_ops_without_rows_trace_to_empty_outputs(kernel):
    problem = space.load(kernel, GPU).check[-1]
    field = problem.VARYING[0]
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:

        def call(inputs):
            fakes = [
                torch.empty(value.shape, dtype=value.dtype) if isinstance(value, torch.Tensor) else value
                for value in inputs
            ]
            with mode:
                return results(kernel.op(*fakes, device=GPU.name))

        shapes = like(call(problem.inputs(0, "meta")), call(larger(problem, field).inputs(0, "meta")))
        assert [(output.shape, output.dtype) for output in call(without(problem, field))] == shapes


def test_empty_calls_are_no_misses(tmp_path):
    kernel = registry.load("norm/rms_norm")
    stop = misses.record(tmp_path / "misses.jsonl")
    try:
        for rows in (0, 3):
            x = torch.empty((rows, 1234), dtype=torch.bfloat16)
            choice = kernel.serve((x, torch.empty(1234)), GPU).choice
            assert choice.how == ("default" if rows else "empty")
    finally:
        stop()
        runtime.forget()
    noted = [json.loads(line)["problem"]["rows"] for line in (tmp_path / "misses.jsonl").read_text().splitlines()]
    assert noted == [3]


def test_problems_to_tune_are_not_empty():
    kernel = registry.load("norm/rms_norm")
    problem = space.load(kernel, GPU).check[0]
    empty = dataclasses.replace(problem, rows=0)
    assert empty_fields(empty) == ("rows",) and not empty_fields(problem)
    assert resized(problem, "rows", 0) is None
    with pytest.raises(UsageError, match="rows must be at least 1, got 0"):
        build(kernel.problem, dict(key(empty)), "here")


def test_sizes_that_no_problem_has_are_usage_errors():
    x = torch.empty((4, 8), dtype=torch.bfloat16)
    with pytest.raises(UsageError, match="norm/rms_norm: cols must be at least 16"):
        registry.load("norm/rms_norm").serve((x, torch.empty(8)), GPU)
