"""Calls of an idle rank, without rows: outputs of no rows, nothing launched, nothing noted as a miss."""

import dataclasses
import json

import pytest
import torch
from rowless import forms, larger, like, results, without
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


@pytest.fixture
def launched(monkeypatch):
    """The jit functions that were launched, in order; none of them runs."""
    functions = []
    monkeypatch.setattr(JITFunction, "run", lambda function, *args, **kwargs: functions.append(function))
    return functions


def batch_field(kernel):
    """(a check problem, the name of its field of rows)."""
    problem = space.load(kernel, GPU).check[-1]
    return problem, problem.VARYING[0]


def expected_forms(kernel, call):
    """Shapes and dtypes of the outputs of `call` without rows, from two calls with rows."""
    problem, field = batch_field(kernel)
    return like(*(results(call(size.inputs(0, "meta"))) for size in (problem, larger(problem, field))))


def launches_of_nothing(kernel):
    """A plan of windows has rows without requests too: they are filled with -1."""
    return int(kernel.name == "metadata/compress_plan")


def test_calls_without_rows_launch_nothing(kernel, launched):
    def call(inputs):
        config = kernel.serve(inputs, GPU).config
        return kernel.launch(*inputs, config=config, device=GPU)

    expected = expected_forms(kernel, call)
    filled = len(launched)
    assert filled
    assert forms(call(without(*batch_field(kernel)))) == expected
    assert len(launched) == filled + launches_of_nothing(kernel)


def test_ops_without_rows_run_to_empty_outputs(kernel, launched):
    """Called by `torch.ops`, on real tensors; torch refuses outputs that alias inputs."""
    expected = expected_forms(kernel, lambda inputs: kernel.launch(*inputs, config=default(kernel, inputs), device=GPU))
    launched.clear()
    inputs = without(*batch_field(kernel), "cpu")
    new = kernel.op(*inputs, device=GPU.name)
    written = [inputs[at] for at in kernel.signature.written if inputs[at] is not None]
    assert forms((*results(new), *written)) == expected
    assert len(launched) == launches_of_nothing(kernel)


@pytest.mark.thorough
@pytest.mark.parametrize("dynamic", [False, True], ids=["static", "dynamic"])
def test_compiled_calls_without_rows_launch_nothing(kernel, launched, dynamic):
    """A graph compiled for a batch with rows is then called without: it specialises, or has symbols that fit."""
    problem, field = batch_field(kernel)
    torch._dynamo.reset()
    call = torch.compile(lambda *args: kernel(*args, device=GPU), backend="aot_eager", fullgraph=True, dynamic=dynamic)
    call(*problem.inputs(0, "cpu"))
    expected = expected_forms(kernel, lambda inputs: kernel.launch(*inputs, config=default(kernel, inputs), device=GPU))
    launched.clear()
    assert forms(call(*without(problem, field, "cpu"))) == expected
    assert len(launched) == launches_of_nothing(kernel)


def default(kernel, inputs):
    return kernel.default(kernel.problem_of(inputs, GPU), GPU)


def test_ops_without_rows_trace_to_empty_outputs(kernel):
    with FakeTensorMode(allow_non_fake_inputs=True) as mode:

        def call(inputs):
            fakes = [
                torch.empty(value.shape, dtype=value.dtype) if isinstance(value, torch.Tensor) else value
                for value in inputs
            ]
            with mode:
                return kernel.op(*fakes, device=GPU.name)

        assert forms(call(without(*batch_field(kernel)))) == expected_forms(kernel, call)


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
