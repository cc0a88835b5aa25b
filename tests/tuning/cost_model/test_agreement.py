"""The model against times: figures of known cases, and the command that shows them."""

import json

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from autotune import device, registry
from autotune.cli import main
from autotune.config import describe
from autotune.tuning import space
from autotune.tuning.cost_model.agreement import Timed, agreement
from autotune.tuning.cost_model.call_batch import calls_of
from autotune.tuning.cost_model.model import predict_all
from autotune.tuning.search import storage
from autotune.tuning.search.trials import Study, journal_path

KERNEL, H200 = registry.load("gemm/bf16_linear"), device.named("h200")
PROBLEM = KERNEL.problem(64, 256, 7168)
COUNT = 20


def timed(modeled, us, bounds=None):
    return Timed(np.array(modeled, float), np.array(us, float), tuple(bounds or ["dram"] * len(us)))


@pytest.fixture(autouse=True)
def tables(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))


def leave_trials(state, bench, time_of):
    """Finished trials of the first configs, as a session leaves them; `time_of` modeled microseconds is measured."""
    loaded = space.load(KERNEL, H200)
    configs = space.feasible(loaded, KERNEL, PROBLEM, H200)[:COUNT]
    modeled = predict_all(calls_of(KERNEL, PROBLEM, configs, H200), H200).us
    filed = H200.name if bench == "gpu" else f"{H200.name}.{bench.replace(':', '-')}"
    study = optuna.create_study(
        storage=storage.journal(journal_path(state, filed, KERNEL.name)),
        study_name=Study(describe(PROBLEM), KERNEL.identity.kernel, "triton 3.9.0", 0, bench).name,
    )
    for config, us in zip(configs, map(time_of, modeled), strict=True):
        study.add_trial(
            create_trial(
                params=dict(config),
                distributions={name: CategoricalDistribution(loaded.lists[name]) for name in config},
                value=us,
                user_attrs={"outcome": json.dumps({"us": us})},
            )
        )


def test_model_that_orders_rightly_has_rank_one_and_no_regret():
    found = agreement([timed(range(1, 11), [2 * us for us in range(1, 11)])])
    assert (found.problems, found.ranked, found.ratio.times) == (1, 1, 10)
    assert found.rank == pytest.approx(1) and found.regret == (0, 0, 0)
    assert (found.ratio.factor, found.ratio.spread) == (pytest.approx(2), pytest.approx(1))


def test_regret_is_what_best_of_first_configs_loses():
    found = agreement([timed(range(1, 11), [20, 18, 16, 15, 14, 13, 12, 11, 10, 25])])
    assert found.regret == (pytest.approx(1.0), pytest.approx(0.5), pytest.approx(0.1))
    assert found.rank < 0


def test_problems_with_few_configs_are_not_ranked():
    few, many = timed([1, 2], [9, 1]), timed(range(1, 9), range(1, 9))
    assert agreement([few]).rank is None and agreement([few]).regret is None
    both = agreement([few, many])
    assert (both.problems, both.ranked, both.rank) == (2, 1, pytest.approx(1))
    assert both.ratio.times == 10


def test_ratios_are_told_by_term_that_bounds():
    found = agreement([timed([1, 1, 1, 1, 1], [2, 2, 2, 8, 8], ["dram", "dram", "dram", "chain", "chain"])])
    (first, dram), (second, chain) = found.by_bound
    assert (first, dram.times, dram.factor) == ("dram", 3, pytest.approx(2))
    assert (second, chain.times, chain.factor) == ("chain", 2, pytest.approx(8))
    assert found.ratio.spread == pytest.approx(4), "four of five lie within a factor of four around the median of 2"


def test_compare_model_reads_trials_of_gpus_only(state, capsys):
    leave_trials(state, "simulated:7", lambda us: 5 * us)
    assert main(["compare-model"]) == 1
    assert "nothing measured" in capsys.readouterr().out
    leave_trials(state, "gpu", lambda us: 2 * us)
    assert main(["compare-model", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["family"], one["tier"]) == ("h200 bf16 gemm", "measured")
    assert (one["problems"], one["times"]) == (1, COUNT)
    assert (one["factor"], one["rank"]) == (pytest.approx(2), pytest.approx(1))
    assert one["regret"] == {"1": 0, "4": 0, "8": 0}
    assert sum(part["times"] for part in one["by_bound"].values()) == COUNT
    assert main(["compare-model", "--device", "b200"]) == 1


@pytest.mark.thorough
def test_compare_model_marks_rehearsal_where_it_is_named(state, capsys):
    leave_trials(state, "simulated:7", lambda us: 5 * us)
    assert main(["compare-model", "--bench", "simulated:7", "--json"]) == 0
    (one,) = json.loads(capsys.readouterr().out)
    assert (one["tier"], one["bench"], one["factor"]) == ("simulated", "simulated:7", pytest.approx(5))
    assert main(["compare-model", "--bench", "simulated:7"]) == 0
    text = capsys.readouterr().out
    assert "simulated" in text and "of no device" in text
    assert max(map(len, text.splitlines())) <= 100
    assert main(["compare-model", "--bench", "simulated:8"]) == 1
    assert main(["compare-model", "--bench", "simulated"]) == 2
