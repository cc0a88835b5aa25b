"""Launches of a decode step: no more than they were, and one for each call that needs no second."""

import pytest

from autotune import device
from autotune.estimate.launches import launches_of_step
from autotune.workload.models import MODELS
from autotune.workload.scenario import Parallelism, Scenario

STEP = Scenario("decode", 8192, 1024, (64,), (64,), "")


@pytest.mark.parametrize(("gpu", "launches", "parts"), [("mi355x", 2707, 2), ("b200", 2119, 1), ("h200", 2119, 1)])
def test_decode_step_of_v4_pro_launches_no_more_than_before(gpu, launches, parts):
    counted = launches_of_step(MODELS["deepseek-v4-pro"], STEP, Parallelism(), device.named(gpu), "decode")
    assert sum(counted.values()) <= launches
    # 61 layers and the layer of predicted tokens; where no barrier orders stores, a second launch joins the parts.
    assert counted["attention/sparse_decode"] == 62 * parts
    assert counted["gemm/bf16_linear"] == 185 * parts
