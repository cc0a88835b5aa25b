"""The shipped prior: a small artefact that says where it is from, read without executing anything."""

import json

import numpy as np
import pytest

from autotune import device, registry
from autotune.config import Config
from autotune.errors import UsageError
from autotune.tuning.cost_model import prior
from autotune.tuning.cost_model.call_batch import side_by_side
from autotune.tuning.cost_model.prior import predicted_times
from autotune.tuning.space import feasible, load

KERNEL = registry.load("gemm/fp8_block_scaled")


def test_artefact_is_small_and_names_its_winners():
    assert prior.PATH.stat().st_size < 1_000_000
    trained_on = prior.load().trained_on
    assert sum(trained_on["winners"].values()) > 1000
    assert {name.split()[-1] for name in trained_on["winners"]} <= set(device.names())
    assert {name.split()[0] for name in trained_on["winners"]} == {"gemm", "moe"}
    assert len(trained_on["sha256"]) == 64
    assert trained_on["left_out"]["copies of another table"] > 0


def test_trees_are_walked_to_their_leaves():
    rows = np.zeros((3, len(prior.FEATURES)))
    rows[:, 1] = [1, 2, 3]
    rows[:, 4] = [0, 0, 5]
    split = [[1, 1.5, 1, 2, 0.0], [0, 0.0, 1, 1, 10.0], [4, 1.0, 3, 4, 0.0], [0, 0, 3, 3, 20.0], [0, 0, 4, 4, 30.0]]
    stump = [[0, 0.0, 0, 0, 1.0]]
    assert prior.from_trees([split, stump], {}).score(rows).tolist() == [11.0, 21.0, 31.0]


@pytest.mark.parametrize(
    "nodes",
    [
        [[0, 0.0, 5, 5, 1.0]],  # no such child
        [[0, 0.0, 1, 1, 0.0], [0, 0.0, 0, 0, 1.0]],  # a circle
        [[999, 0.0, 0, 0, 1.0]],  # no such feature
    ],
)
def test_trees_that_would_not_end_are_refused(nodes, tmp_path):
    path = tmp_path / "prior.json"
    path.write_text(json.dumps({"version": 1, "features": prior.FEATURES, "trees": [nodes], "trained_on": {}}))
    with pytest.raises(UsageError, match="train it again"):
        prior.load(path)


@pytest.mark.parametrize("text", ["", "{}", '{"version": 1}', '{"version": 99, "features": []}'])
def test_what_is_no_prior_is_refused(text, tmp_path):
    path = tmp_path / "prior.json"
    path.write_text(text)
    with pytest.raises(UsageError, match=r"prior.json.*train it again"):
        prior.load(path)


def small(gpu, m):
    problem = KERNEL.problem(m, 4096, 7168, gpu.fp8)
    configs = [
        c for c in feasible(load(KERNEL, gpu), KERNEL, problem, gpu) if c["SPLIT_K"] == 1 and not c["PERSISTENT"]
    ]
    return problem, configs[::7]


@pytest.mark.parametrize("name", ["h100", "mi300x", "gfx1250"])
def test_both_opinions_cover_every_config_on_any_device(name):
    gpu = device.named(name)
    problem, configs = small(gpu, 64)
    modeled, believed = predicted_times(KERNEL, problem, configs, gpu)
    assert len(modeled) == len(believed) == len(configs)
    assert min(modeled) > 0 < min(believed)
    assert len(set(believed)) > 10


def test_prior_sends_narrow_tiles_to_prefill_last():
    gpu = device.named("h100")
    problem, configs = small(gpu, 4096)
    _, believed = predicted_times(KERNEL, problem, configs, gpu)
    best, worst = configs[int(np.argmin(believed))], configs[int(np.argmax(believed))]
    assert best["BLOCK_M"] >= 64 and best["BLOCK_N"] >= 128
    assert worst["BLOCK_M"] * worst["BLOCK_N"] < best["BLOCK_M"] * best["BLOCK_N"] or worst["num_warps"] == 2


def test_kernels_of_another_kind_get_model_alone():
    kernel, gpu = registry.load("norm/rms_norm_quant"), device.named("h100")
    problem = load(kernel, gpu).check[0]
    assert len(predicted_times(kernel, problem, feasible(load(kernel, gpu), kernel, problem, gpu), gpu)) == 1
    assert not prior.applies_to(
        side_by_side([kernel.work(problem, kernel.default(problem, gpu), gpu)], [Config(num_warps=4)])
    )
