"""On which problems a row is proved."""

import dataclasses

import pytest

from autotune import device, registry
from autotune.tuning import space
from autotune.tuning.compilation.launch import launches
from autotune.tuning.validation.proof import codes, inner, period, problems_to_prove, tails

GPU = device.named("mi355x")


def proved(name, fields, serves):
    kernel = registry.load(name)
    problem = kernel.problem(**fields)
    config = kernel.default(problem, GPU)
    checks = space.load(kernel, GPU).check
    return config, checks, problems_to_prove(kernel, (problem, config), GPU, checks, serves)


def test_ends_tails_and_an_inner_size_are_added_to_the_checks():
    config, checks, problems = proved("gemm/fp8_block_scaled", {"m": 200, "n": 2048, "k": 7168}, {"m": (65, 300)})
    assert set(checks) <= set(problems)
    sizes = {problem.m for problem in problems} - {check.m for check in checks}
    tile = period(config)
    assert {65, 300} <= sizes
    assert any(size % tile == 1 for size in sizes)
    assert any(size % tile == tile - 1 for size in sizes)
    assert len(sizes) >= 5


def test_large_sizes_are_folded_to_the_same_tail():
    config, _, problems = proved("gemm/fp8_block_scaled", {"m": 8192, "n": 2048, "k": 7168}, {"m": (4097, 8191)})
    tile = period(config)
    assert max(problem.m for problem in problems) <= 3 * tile
    assert {4097 % tile, 8191 % tile} <= {problem.m % tile for problem in problems}


@pytest.mark.parametrize("name", registry.names())
def test_every_problem_is_allowed_and_a_row_without_interval_adds_little(name):
    kernel = registry.load(name)
    checks = space.load(kernel, GPU).check
    for problem in checks:
        config = kernel.default(problem, GPU)
        problems = problems_to_prove(kernel, (problem, config), GPU, checks)
        assert problem in problems or kernel.reject(problem, config, GPU)
        assert all(kernel.reject(one, config, GPU) is None for one in problems)
        assert len(problems) <= len(checks) + 1


@pytest.mark.parametrize(
    ("name", "field"), [("gemm/fp8_block_scaled", "m"), ("indexer/topk", "n"), ("attention/sparse_mla", "keys")]
)
def test_every_machine_code_of_an_interval_is_proved(name, field):
    kernel = registry.load(name)
    problem = space.load(kernel, GPU).check[0]
    config = kernel.default(problem, GPU)
    low, high = getattr(problem, field), getattr(problem, field) + 40

    def code(size):
        seen = launches(kernel, dataclasses.replace(problem, **{field: size}), config, GPU)
        return tuple(launch.signature for launch in seen)

    allowed = [
        n for n in range(low, high + 1) if not kernel.reject(dataclasses.replace(problem, **{field: n}), config, GPU)
    ]
    proved_at = codes(kernel, (problem, config), field, (low, high), GPU)
    assert {code(size) for size in allowed} == {code(size) for size in proved_at}
    assert len({code(size) for size in proved_at}) == len(proved_at)


def test_tails_and_inner_stay_inside():
    kernel = registry.load("gemm/fp8_block_scaled")
    problem = kernel.problem(64, 256, 1024)
    config = kernel.default(problem, GPU)
    for low, high in [(1, 1), (1, 2), (5, 7), (1, 4096), (128, 128)]:
        assert all(low < value < high for value in tails(low, high, config))
        assert low <= inner((problem, config), "m", (low, high)) <= high
