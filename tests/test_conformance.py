"""The suite that every kernel passes, found by walking the registry."""

import dataclasses
import inspect
import random

import pytest
import torch

from autotune import device, registry
from autotune.config import build, describe, key, parse
from autotune.errors import UsageError
from autotune.tuning import launch, space
from autotune.tuning.tasks import validate_job
from autotune.tuning.worker import Job, Limits, Workers

GPUS = ["mi355x", "b200", "mi300x", "h100"]
KERNELS = registry.names()


@pytest.fixture(params=KERNELS)
def kernel(request):
    return registry.load(request.param)


@pytest.fixture(params=GPUS)
def gpu(request):
    return device.named(request.param)


def test_the_file_is_the_kernel(kernel):
    assert kernel.launch.__name__ == kernel.path.stem
    assert kernel.launch.__doc__
    assert len(kernel.path.read_text().splitlines()) <= 360
    package = __import__(f"autotune.kernels.{kernel.family}", fromlist=["x"])
    assert getattr(package, kernel.path.stem) is kernel


def test_problems_are_plain_and_round_trip(kernel, gpu):
    for problem in space.load(kernel, gpu).check:
        assert all(isinstance(value, int | str | bool) for _, value in key(problem))
        assert parse(kernel.problem, describe(problem)) == problem
        assert build(kernel.problem, dict(key(problem)), "here") == problem
        arguments = problem.inputs(0, "meta")
        seen = kernel.problem.of(*arguments)
        drawn = {name: getattr(problem, name) for name in getattr(problem, "DRAWN", ())}
        assert dataclasses.replace(seen, **drawn) == problem
        assert problem.flops > 0
        assert problem.bytes_moved > 0


def test_inputs_are_seeded(kernel, gpu):
    problem = space.load(kernel, gpu).check[0]
    tensors = [[t for t in problem.inputs(seed, "cpu") if isinstance(t, torch.Tensor)] for seed in (1, 1, 2)]
    same = [torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(tensors[0], tensors[1], strict=True)]
    assert all(same)
    assert any(
        not torch.equal(a.view(torch.uint8), b.view(torch.uint8)) for a, b in zip(tensors[0], tensors[2], strict=True)
    )


def test_the_default_is_in_the_space_and_allowed(kernel, gpu):
    loaded = space.load(kernel, gpu)
    for problem in loaded.check:
        config = kernel.default(problem, gpu)
        assert set(config) == set(loaded.lists)
        assert kernel.reject(problem, config, gpu) is None
        off = {name: value for name, value in config.items() if value not in loaded.lists[name]}
        assert not off, f"{describe(problem)}: {off}"


def test_work_is_no_less_than_the_problem(kernel, gpu):
    for problem in space.load(kernel, gpu).check:
        config = kernel.default(problem, gpu)
        work = kernel.work(problem, config, gpu)
        grid = launch.launches(kernel, problem, config, gpu)[0].grid
        assert 0 < work.programs <= 4 * max(1, torch.Size(grid).numel())
        assert work.programs * work.flops_per_program >= 0.5 * problem.flops


def test_wrong_inputs_are_refused_with_the_argument_named(kernel, gpu):
    problem = space.load(kernel, gpu).check[-1]
    config = kernel.default(problem, gpu)
    inputs = list(problem.inputs(0, "meta"))
    names = list(inspect.signature(kernel.launch).parameters)
    for index, tensor in enumerate(inputs):
        if isinstance(tensor, torch.Tensor):
            wrong = [*inputs[:index], tensor.to(torch.float64), *inputs[index + 1 :]]
            with pytest.raises(UsageError, match=names[index]):
                kernel.launch(*wrong, config=config, device=gpu)


def sample(kernel, gpu):
    """Default and three seeded allowed configs of every check problem."""
    loaded = space.load(kernel, gpu)
    for problem in loaded.check:
        allowed = space.feasible(loaded, kernel, problem, gpu)
        picked = random.Random(describe(problem)).sample(allowed, min(3, len(allowed)))
        for config in {kernel.default(problem, gpu), *picked}:
            yield Job(kernel.name, key(problem), config, gpu.name)


@pytest.fixture(scope="module")
def provers(tmp_path_factory):
    with Workers(Limits(timeout_s=240), tmp_path_factory.mktemp("state"), interpret=True) as workers:
        yield workers


@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("gpu_name", ["mi355x", "mi300x"])
def test_allowed_configs_are_right(name, gpu_name, provers):
    jobs = list(sample(registry.load(name), device.named(gpu_name)))
    results = list(provers.run(validate_job, jobs))
    assert len(results) == len(jobs) > 3
    wrong = [(job, result) for job, result in results if isinstance(result, str) or "failed" in result]
    assert not wrong
    assert all(0 <= result["error"] <= 1 for _, result in results)
