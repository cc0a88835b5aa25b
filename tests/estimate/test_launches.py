"""Launches of a decode step: no more than they were, and one for each call that needs no second."""

import pytest

from autotune import device
from autotune.estimate.launches import launches_of_step
from autotune.workload.models import MODELS
from autotune.workload.scenario import Parallelism, Scenario

STEP = Scenario("decode", 8192, 1024, (64,), (64,), "")


@pytest.mark.parametrize("gpu", ["mi355x", "b200", "h200"])
def test_decode_step_of_v4_pro_launches_no_more_than_before(gpu):
    counted = launches_of_step(MODELS["deepseek-v4-pro"], STEP, Parallelism(), device.named(gpu), "decode")
    assert sum(counted.values()) <= 2119
    # 61 layers and the layer of predicted tokens.
    assert counted["attention/sparse_decode"] == 62
    assert counted["gemm/bf16_linear"] == 185
