"""Workloads that a GPU is prepared for on its first day: every model, in each layout that it is served in."""

from types import SimpleNamespace

import pytest

from autotune import device, registry, workload
from autotune.cli import main
from autotune.cli.tuned_problems import day0_problems
from autotune.config import key
from autotune.tuning.session.promotion import served
from autotune.workload import day0

SCENARIO = workload.scenario.named("8k1k")
ROUTER, GEMM = registry.load("moe/router"), registry.load("gemm/fp8_block_scaled")


def test_every_model_is_served_by_tensor_parallelism_everywhere():
    for name in day0.DEVICES:
        split = {each.model.name for each in day0.deployments(name, SCENARIO) if each.parallelism == day0.TENSOR}
        assert split == set(workload.models.MODELS)


def test_wide_layouts_are_those_of_two_devices():
    wide = {name for name in day0.DEVICES if any(e.parallelism in day0.WIDE for e in day0.deployments(name, SCENARIO))}
    assert wide == {"mi355x", "gb300"}


def test_layout_that_splits_no_model_is_left_out(monkeypatch):
    monkeypatch.setattr(day0, "WIDE", (workload.Parallelism(7, 7, data_attention=True),))
    assert {each.parallelism for each in day0.deployments("gb300", SCENARIO)} == {day0.TENSOR}


def problems(name, **asked):
    arguments = SimpleNamespace(model=None, scenario="8k1k", **asked)
    return day0_problems(GEMM, device.named(name), arguments)


def test_launches_of_all_layouts_are_added_up():
    gpu = device.named("h200")
    by_model = [
        workload.problems(GEMM, each.model, SCENARIO, each.parallelism, gpu)
        for each in day0.deployments("h200", SCENARIO)
    ]
    together = problems("h200")
    assert len(by_model) == 3
    assert together.keys() == set().union(*by_model)
    assert sum(together.values()) == sum(sum(some.values()) for some in by_model)


def test_problems_differ_in_what_a_lookup_sees():
    gpu = device.named("gb300")
    for kernel in (GEMM, ROUTER):
        arguments = SimpleNamespace(model=None, scenario="8k1k")
        found = day0_problems(kernel, gpu, arguments)
        assert len({key(served(problem, gpu)) for problem in found}) == len(found)


@pytest.mark.parametrize("more", [["--problem", "m=1,n=128,k=128"], ["--dp-attention"], ["--ep", "8"]])
def test_day0_takes_no_other_choice_of_problems(more, capsys):
    assert main(["tune", GEMM.name, "--day0", *more]) == 2
    assert "--day0 says what to tune" in capsys.readouterr().err


def test_portfolio_share_must_be_positive(capsys):
    assert main(["tune", GEMM.name, "--device", "h200", "--portfolio", "0"]) == 2
    assert "--portfolio must be positive" in capsys.readouterr().err
