"""On which problems a row is proved."""

import dataclasses
import random

import pytest

from autotune import device, registry
from autotune.config import Config, resized
from autotune.tuning import space
from autotune.tuning.compilation.launch import launches
from autotune.tuning.validation.coverage import codes, folds, inner, period, problems_to_prove, tails

GPU = device.named("mi355x")


def proved(name, fields, serves):
    kernel = registry.load(name)
    problem = kernel.problem(**fields)
    config = kernel.default(problem, GPU)
    checks = space.load(kernel, GPU).check
    return config, checks, problems_to_prove(kernel, (problem, config), GPU, checks, serves)


def test_ends_tails_and_inner_size_are_added_to_checks():
    config, checks, problems = proved("gemm/fp8_block_scaled", {"m": 200, "n": 2048, "k": 7168}, {"m": (65, 300)})
    assert set(checks) <= set(problems)
    sizes = {problem.m for problem in problems} - {check.m for check in checks}
    tile = period(config)
    assert {65, 300} <= sizes
    assert any(size % tile == 1 for size in sizes)
    assert any(size % tile == tile - 1 for size in sizes)
    assert len(sizes) >= 5


def test_large_sizes_are_folded_to_same_tail():
    config, _, problems = proved("gemm/fp8_block_scaled", {"m": 8192, "n": 2048, "k": 7168}, {"m": (4097, 8191)})
    tile = period(config)
    assert max(problem.m for problem in problems) <= 3 * tile
    assert {4097 % tile, 8191 % tile} <= {problem.m % tile for problem in problems}


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize(("low", "high"), [(1, 4096), (3, 4095), (2049, 8192)])
def test_ends_tails_and_inner_size_are_proved(name, low, high):
    kernel = registry.load(name)
    checks = space.load(kernel, GPU).check
    field = kernel.problem.VARYING[0]
    problem = next(one for one in checks if not kernel.reject(one, kernel.default(one, GPU), GPU))
    config = kernel.default(problem, GPU)

    def allowed(size):
        ones = [resized(check, field, size) for check in checks]
        return any(one is not None and not kernel.reject(one, config, GPU) for one in ones)

    sizes = {
        getattr(one, field) for one in problems_to_prove(kernel, (problem, config), GPU, checks, {field: (low, high)})
    }
    assert (1 in sizes) == (low == 1 and allowed(1)) or low > 1
    for value in {low, *tails(low, high, config), inner((problem, config), field, (low, high)), high} - {1}:
        assert any(1 < size <= value and size % 16 == value % 16 for size in sizes), value


def test_folds_keep_tail_and_divisibility_by_16():
    for tile in (1, 4, 32, 256):
        config = Config(BLOCK_M=tile)
        for value in (1, 15, 16, 17, 4095, 4096, 4097, 8191):
            first, *smaller = folds(value, config)
            assert first == value
            assert all(1 < size < value and size % 16 == value % 16 for size in smaller)
            assert all(size % tile == value % tile for size in smaller[:2] if size >= tile)
        assert max(folds(4097, config)[1:]) <= 3 * max(tile, 64)


def test_size_refused_by_one_check_is_proved_on_another():
    kernel = registry.load("attention/dense_mqa")
    problem = kernel.problem(16, 16, 4096)
    config = kernel.default(problem, GPU)
    checks = tuple(kernel.problem(tokens, 8, keys) for tokens, keys in ((1, 1), (3, 40)))
    problems = problems_to_prove(kernel, (problem, config), GPU, checks, {"tokens": (17, 32)})
    assert {17, 32} <= {one.tokens for one in problems}


@pytest.mark.parametrize("name", registry.names())
def test_every_problem_is_allowed_and_row_adds_little(name):
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
def test_every_machine_code_of_interval_is_proved(name, field):
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


def test_config_too_large_for_every_check_is_proved_on_few_rows():
    kernel, gpu = registry.load("indexer/ragged_logits"), device.named("b200")
    problem = kernel.problem(6144, 64, 1536, True)
    config = Config(BLOCK_N=128, BLOCK_T=2, STEPS=8, maxnreg=0, num_ctas=1, num_stages=3, num_warps=8)
    checks = space.load(kernel, gpu).check
    assert all(kernel.reject(check, config, gpu) for check in checks)
    problems = problems_to_prove(kernel, (problem, config), gpu, checks)
    assert len(problems) == 6
    assert all(0 < one.tokens < 100 and one.keys == 1536 for one in problems)
    assert not any(kernel.reject(one, config, gpu) for one in problems)
    served = problems_to_prove(kernel, (problem, config), gpu, checks, {"tokens": (4097, 8192)})
    assert set(problems) < set(served)


@pytest.mark.parametrize("name", registry.names())
def test_every_config_that_may_win_can_be_proved(name):
    kernel, gpu = registry.load(name), device.named("b200")
    loaded, chance = space.load(kernel, gpu), random.Random(0)
    for config in chance.sample(loaded.configs, min(60, len(loaded.configs))):
        for problem in loaded.compile:
            if kernel.reject(problem, config, gpu) is None:
                assert problems_to_prove(kernel, (problem, config), gpu, loaded.check), (problem, config)
