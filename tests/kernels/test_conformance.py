"""The suite that every kernel passes, found by walking the registry."""

import dataclasses
import functools
import inspect
import random
import re

import pytest
import torch
from triton.runtime.jit import JITFunction

from autotune import device, registry
from autotune.config import build, describe, key, parse
from autotune.errors import UsageError
from autotune.inputs import DISTRIBUTIONS
from autotune.tuning import space
from autotune.tuning.compilation import launch
from autotune.tuning.jobs import validate_job
from autotune.tuning.validation.cases import cases_of
from autotune.tuning.workers.worker import Job, Limits, Workers

GPUS = ["mi355x", "b200", "mi300x", "h100"]
KERNELS = registry.names()


@pytest.fixture(params=KERNELS)
def kernel(request):
    return registry.load(request.param)


@pytest.fixture(params=GPUS)
def gpu(request):
    return device.named(request.param)


def test_file_is_kernel(kernel):
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
        seen = kernel.problem.of(kernel.arguments(*arguments))
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


def test_default_is_in_space_and_allowed(kernel, gpu):
    loaded = space.load(kernel, gpu)
    for problem in loaded.check:
        config = kernel.default(problem, gpu)
        assert set(config) == set(loaded.lists)
        assert kernel.reject(problem, config, gpu) is None
        off = {name: value for name, value in config.items() if value not in loaded.lists[name]}
        assert not off, f"{describe(problem)}: {off}"


def test_work_is_no_less_than_problem(kernel, gpu):
    for problem in space.load(kernel, gpu).check:
        config = kernel.default(problem, gpu)
        work = kernel.work(problem, config, gpu)
        grid = launch.launches(kernel, problem, config, gpu)[0].grid
        assert 0 < work.programs <= 4 * max(1, torch.Size(grid).numel())
        assert work.programs * work.flops_per_program >= 0.5 * problem.flops


POOLS = {"cache", "cache_aux", "extra_cache", "extra_aux", "chunk", "table", "page_table"}
"""Arguments of any number of rows: what other arguments point into."""


def wrong_tensors(tensor):
    """(what is wrong, tensor) for all but the sizes."""
    yield "dtype", tensor.to(torch.float64)
    yield "rank", tensor.unsqueeze(0)
    if tensor.numel() > 1:
        yield (
            "stride",
            torch.empty((*tensor.shape[:-1], 2 * tensor.shape[-1]), dtype=tensor.dtype, device="meta")[..., ::2],
        )


def put(inputs, index, tensor):
    return [*inputs[:index], tensor, *inputs[index + 1 :]]


@pytest.fixture
def refusals(kernel, gpu, monkeypatch):
    """(names of the arguments, indices of tensors among them, inputs, a launcher without launches), one a problem."""
    monkeypatch.setattr(JITFunction, "run", lambda *args, **kwargs: None)
    names = list(inspect.signature(kernel.launch).parameters)
    found = []
    for problem in space.load(kernel, gpu).check:
        inputs = list(problem.inputs(0, "meta"))
        tensors = [index for index, value in enumerate(inputs) if isinstance(value, torch.Tensor)]
        call = functools.partial(kernel.launch, config=kernel.default(problem, gpu), device=gpu)
        found.append((names, tensors, inputs, call))
    return found


def test_wrong_dtypes_ranks_and_strides_name_the_argument(refusals):
    for names, tensors, inputs, call in refusals:
        for index in tensors:
            for _, wrong in wrong_tensors(inputs[index]):
                with pytest.raises(UsageError, match=rf"\b{names[index]}\b must be .*got"):
                    call(*put(inputs, index, wrong))


def test_tensors_on_two_devices_are_refused(refusals):
    for _, tensors, inputs, call in refusals:
        for index in tensors if len(tensors) > 1 else ():
            elsewhere = torch.empty(inputs[index].shape, dtype=inputs[index].dtype)
            with pytest.raises(UsageError, match=r"\w+ must be on (cpu|meta) as the first argument is, got"):
                call(*put(inputs, index, elsewhere))


def test_sizes_that_do_not_fit_each_other_are_refused(kernel, refusals):
    """One more in each dimension in turn: an error that names an argument, or a problem that has just these sizes."""
    for names, tensors, inputs, call in refusals:
        for index, dim in [(i, dim) for i in tensors for dim in range(inputs[i].ndim)]:
            shape = list(inputs[index].shape)
            shape[dim] += 1
            changed = put(inputs, index, torch.empty(shape, dtype=inputs[index].dtype, device="meta"))
            try:
                call(*changed)
            except UsageError as error:
                assert any(re.search(rf"\b{names[i]}\b", str(error)) for i in tensors), error
                assert "got" in str(error)
            else:
                right = kernel.problem.of(kernel.arguments(*changed)).inputs(0, "meta")
                unlike = {names[i] for i in tensors if right[i].shape != changed[i].shape}
                assert unlike <= POOLS, f"{names[index]} {shape} was let through"


def jobs(kernel, gpu, picks, turn=slice(None)):
    """The default and `picks` seeded allowed configs of the check problems whose turn it is."""
    loaded = space.load(kernel, gpu)
    for problem in loaded.check[turn]:
        allowed = space.feasible(loaded, kernel, problem, gpu)
        picked = random.Random(describe(problem)).sample(allowed, min(picks, len(allowed)))
        for config in {kernel.default(problem, gpu), *picked}:
            yield Job(kernel.name, key(problem), config, gpu.name)


@pytest.fixture(scope="module")
def provers(tmp_path_factory):
    with Workers(Limits(timeout_s=240), tmp_path_factory.mktemp("state"), interpret=True) as workers:
        yield workers


def check_right(provers, tried):
    results = list(provers.run(validate_job, tried))
    assert len(results) == len(tried) > 0
    wrong = [(job, result) for job, result in results if isinstance(result, str) or "failed" in result]
    assert not wrong
    assert all(0 <= result["error"] <= 1 for _, result in results)


@pytest.mark.parametrize("name", KERNELS)
def test_default_is_right_on_smallest_problem(name, provers):
    """One proof of each kernel; all check problems are in the thorough test below."""
    kernel, gpu = registry.load(name), device.named("mi355x")
    problem = min(space.load(kernel, gpu).check, key=lambda problem: problem.bytes_moved)
    check_right(provers, [Job(name, key(problem), kernel.default(problem, gpu), gpu.name)])


@pytest.mark.thorough
@pytest.mark.parametrize(("gpu_name", "first"), [("mi355x", 0), ("mi300x", 1)], ids=["mi355x", "mi300x"])
@pytest.mark.parametrize("name", KERNELS)
def test_sampled_configs_are_right(name, gpu_name, first, provers):
    """Each problem on one of two GPUs, in turn, with its default and another config; the rest is in the slow test."""
    check_right(provers, list(jobs(registry.load(name), device.named(gpu_name), 1, slice(first, None, 2))))


@pytest.mark.slow
@pytest.mark.parametrize("name", KERNELS)
@pytest.mark.parametrize("gpu_name", GPUS)
def test_allowed_configs_are_right(name, gpu_name, provers):
    check_right(provers, list(jobs(registry.load(name), device.named(gpu_name), 4)))


def test_check_problems_together_see_every_distribution(kernel):
    """On two GPUs in turn, as the test above proves them."""
    seen = set()
    for number, gpu in enumerate(map(device.named, ("mi355x", "mi300x"))):
        checks = space.load(kernel, gpu).check
        for problem in checks[number::2]:
            seen |= {case.distribution for case in cases_of(kernel, problem, kernel.default(problem, gpu), gpu, checks)}
    assert seen == set(DISTRIBUTIONS)
