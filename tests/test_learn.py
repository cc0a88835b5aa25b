"""The prior gets better with use: it learns from what was measured here, and from nothing else."""

import json

import numpy as np
import optuna
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from autotune import device, registry
from autotune.cli import main
from autotune.config import describe, key
from autotune.errors import UsageError
from autotune.table import Row, Table, load, path_of, save
from autotune.tuning import space
from autotune.tuning.prediction import prior
from autotune.tuning.prediction.opinions import opinions
from autotune.tuning.search import storage
from autotune.tuning.session.experience import lessons
from autotune.tuning.session.trials import Study, journal_path

GPU = device.named("h100")
KERNEL = registry.load("gemm/bf16_linear")
PROBLEMS = [KERNEL.problem(m, n, 7168) for m in (16, 64) for n in (384, 2048)]


def configs(problem):
    return space.feasible(space.load(KERNEL, GPU), KERNEL, problem, GPU)


def odd(config):
    """A surface that no shipped winner has: BLOCK_N 32 and 2 warps are best, wherever."""
    return 10.0 * (1 + (config["BLOCK_N"] != 32)) * (1 + (config["num_warps"] != 2)) + 0.001 * config["BLOCK_K"]


def measure(state, problem, bench="gpu", count=40):
    """Finished trials, as a session leaves them."""
    everything = configs(problem)
    tried = [everything[at] for at in np.random.default_rng(problem.m + problem.n).permutation(len(everything))[:count]]
    tried += [config for config in everything if odd(config) < 11][:2]
    study = optuna.create_study(
        storage=storage.journal(journal_path(state, GPU.name, KERNEL.name)),
        study_name=Study(describe(problem), KERNEL.source_hash(), "triton 3.9.0", 0, bench).name,
    )
    lists = space.load(KERNEL, GPU).lists
    for config in dict.fromkeys(tried):
        study.add_trial(
            create_trial(
                params=dict(config),
                distributions={name: CategoricalDistribution(lists[name]) for name in config},
                value=odd(config),
                user_attrs={"outcome": json.dumps({"us": odd(config)})},
            )
        )


def good_of_first(problem, believed):
    """Of the first 32 configs that the prior at `believed` would try, the share that is good."""
    everything = configs(problem)
    times = opinions(KERNEL, problem, everything, GPU, believed)[1]
    return np.mean([odd(everything[at]) < 11 for at in np.argsort(times, kind="stable")[:32]])


@pytest.fixture(autouse=True)
def tables(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    return tmp_path / "tables"


@pytest.mark.slow
def test_what_was_measured_moves_the_prior_on_problems_not_measured(state, capsys):
    *measured, unseen = PROBLEMS[0], PROBLEMS[1], PROBLEMS[3]
    for problem in measured:
        measure(state, problem)
    assert good_of_first(unseen, prior.PATH) < 0.1
    assert main(["learn"]) == 0
    assert "gemm/bf16_linear h100: 2 problems" in capsys.readouterr().out
    path = prior.chosen(state)
    assert path == state / "prior.json" and path.stat().st_size < 1_000_000
    assert good_of_first(unseen, path) > 0.2
    trained_on = prior.load(path).trained_on
    assert trained_on["own"] == {"gemm/bf16_linear h100": 2}
    assert trained_on["winners"] == prior.load().trained_on["winners"]
    text = path.read_text()
    assert main(["learn"]) == 0 and path.read_text() == text


@pytest.mark.parametrize("bench", ["model:0123abcd", "simulated-h100"])
def test_modelled_and_simulated_trials_teach_nothing(bench, state, capsys):
    measure(state, PROBLEMS[0], bench)
    assert lessons(state) == {}
    assert main(["learn"]) == 1
    assert "nothing measured" in capsys.readouterr().out
    assert prior.chosen(state) == prior.PATH


def test_only_measured_rows_of_tables_teach(state, tables):
    good = next(config for config in configs(PROBLEMS[0]) if odd(config) < 11)
    rows = [
        Row(key(problem), good, tier, {"us": 10.0}, "triton 3.9.0", "0" * 16)
        for problem, tier in zip(PROBLEMS, ("measured", "modeled", "imported", "measured"), strict=True)
    ]
    table = Table(KERNEL.name, GPU.arch, GPU.name, KERNEL.source_hash(), tuple(rows))
    save(table, path_of(tables, GPU.arch, GPU.name, KERNEL.name))
    (found,) = lessons(state).values()
    assert len(found) == 2
    assert all(len(lesson.won) == 1 and not lesson.lost for lesson in found)


def test_what_is_no_prior_any_more_says_how_to_get_one(state):
    path = prior.own(state)
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(UsageError, match="autotune learn"):
        opinions(KERNEL, PROBLEMS[0], configs(PROBLEMS[0])[:2], GPU, prior.chosen(state))


@pytest.mark.slow
def test_rows_say_that_a_prior_of_ones_own_helped(state, tables):
    path = prior.own(state)
    path.parent.mkdir(parents=True)
    path.write_text(prior.PATH.read_text())
    tune = ["--device", "mi355x", "--jobs", "2", "--trials", "2", "--problem"]
    assert main(["tune", "norm/rms_norm_quant", *tune, "rows=2,cols=384"]) == 0
    assert main(["tune", "gemm/bf16_linear", *tune, "m=16,n=64,k=256"]) == 0
    silent, told = (
        load(path_of(tables, "gfx950", "mi355x", name)).rows[0] for name in ("norm/rms_norm_quant", KERNEL.name)
    )
    assert "prior" not in silent.evidence
    assert told.evidence["prior"] == prior.name(path) and prior.name(path).startswith("learned:")
