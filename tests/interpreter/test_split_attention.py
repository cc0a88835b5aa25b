"""Splits over keys: joined by the last program of a few where it may, else by a second launch; the same result."""

import pytest

from autotune import device, registry
from autotune.config import Config
from autotune.tuning.interpreter.counting import count
from autotune.tuning.validation.validate import validate

SIZES = {
    "attention/sparse_decode": {"tokens": 3, "heads": 20, "keys": 128, "extra_keys": 256},
    "attention/sparse_mla": {"tokens": 3, "heads": 20, "keys": 512},
}


@pytest.mark.parametrize("name", SIZES)
@pytest.mark.parametrize(
    ("gpu", "split", "launches"),
    [("b200", 1, 1), ("b200", 4, 1), ("b200", 8, 1), ("b200", 16, 2), ("mi355x", 1, 1), ("mi355x", 4, 2)],
)
def test_splits_of_keys_are_joined(name, gpu, split, launches):
    kernel, gpu = registry.load(name), device.named(gpu)
    problem = kernel.problem(**SIZES[name])
    config = Config({**kernel.default(problem, gpu), "BLOCK_N": 16, "SPLIT_KV": split})
    assert validate(kernel, problem, config, gpu) <= 1
    assert len(count(kernel, problem, config, gpu).launches) == kernel.work(problem, config, gpu).launches == launches
