"""The prior gets better with use: it learns from what was measured here, and from nothing else."""

import json

import numpy as np
import pytest
from optuna.distributions import CategoricalDistribution
from optuna.trial import create_trial

from autotune import device, registry
from autotune.cli import main
from autotune.config import describe, key
from autotune.errors import UsageError
from autotune.table import Row, Table, load, path_of, save
from autotune.tuning import space
from autotune.tuning.cost_model import calibration, prior
from autotune.tuning.cost_model.call_batch import calls_of
from autotune.tuning.cost_model.model import predict_all
from autotune.tuning.cost_model.prior import predicted_times
from autotune.tuning.search import storage
from autotune.tuning.search.trials import Study, journal_path, prefix
from autotune.tuning.session.history import calibrations, lessons, measured

GPU = device.named("h100")
KERNEL = registry.load("gemm/bf16_linear")
PROBLEMS = [KERNEL.problem(m, n, 7168) for m in (16, 64) for n in (384, 2048)]


def configs(problem):
    return space.feasible(space.load(KERNEL, GPU), KERNEL, problem, GPU)


def odd(config):
    """A surface that no shipped winner has: BLOCK_N 32 and 2 warps are best, wherever."""
    return 10.0 * (1 + (config["BLOCK_N"] != 32)) * (1 + (config["num_warps"] != 2)) + 0.001 * config["BLOCK_K"]


def measure(state, problem, bench="gpu", count=40, time_us=odd, database=None):
    """Finished trials, as a session leaves them in a journal or in `database`."""
    everything = configs(problem)
    tried = [everything[at] for at in np.random.default_rng(problem.m + problem.n).permutation(len(everything))[:count]]
    tried += [config for config in everything if odd(config) < 11][:2]
    name = Study(describe(problem), KERNEL.identity.kernel, "triton 3.9.0", 0, bench).name
    if database is None:
        study = storage.study_called(name, storage.journal(journal_path(state, GPU.name, KERNEL.name)))
    else:
        study = storage.study_called(prefix(KERNEL.name, GPU.name) + name, database)
    lists = space.load(KERNEL, GPU).lists
    for config in dict.fromkeys(tried):
        study.add_trial(
            create_trial(
                params=dict(config),
                distributions={name: CategoricalDistribution(lists[name]) for name in config},
                value=time_us(config),
                user_attrs={"outcome": json.dumps({"us": time_us(config)})},
            )
        )


def good_of_first(problem, believed):
    """Share of good configs among the first 32 that the prior at `believed` would try."""
    everything = configs(problem)
    times = predicted_times(KERNEL, problem, everything, GPU, believed)[1]
    return np.mean([odd(everything[at]) < 11 for at in np.argsort(times, kind="stable")[:32]])


@pytest.fixture(autouse=True)
def tables(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    return tmp_path / "tables"


@pytest.mark.thorough
def test_measurements_move_prior_on_other_problems(state, capsys):
    *seen, unseen = PROBLEMS[0], PROBLEMS[1], PROBLEMS[3]
    for problem in seen:
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


@pytest.mark.thorough
def test_trials_of_database_teach_prior(state, tmp_path, capsys):
    url = f"sqlite:///{tmp_path}/trials.db"
    database = storage.database(url)
    for problem in PROBLEMS[:2]:
        measure(state, problem, database=database)
    assert main(["learn"]) == 1
    assert main(["learn", "--storage", url]) == 0
    assert "gemm/bf16_linear h100: 2 problems" in capsys.readouterr().out


@pytest.mark.parametrize("bench", ["model:0123abcd", "simulated-h100"])
@pytest.mark.thorough
def test_modeled_and_simulated_trials_teach_nothing(bench, state, capsys):
    measure(state, PROBLEMS[0], bench)
    assert measured(state) == []
    assert main(["learn"]) == 1
    assert "nothing measured" in capsys.readouterr().out
    assert prior.chosen(state) == prior.PATH


def test_only_measured_rows_of_tables_teach(state, tables):
    good = next(config for config in configs(PROBLEMS[0]) if odd(config) < 11)
    rows = [
        Row(key(problem), good, tier, {"us": 10.0}, "triton 3.9.0", "0" * 16)
        for problem, tier in zip(PROBLEMS, ("measured", "modeled", "imported", "measured"), strict=True)
    ]
    table = Table(KERNEL.name, GPU.arch, GPU.name, KERNEL.identity.kernel, tuple(rows))
    save(table, path_of(tables, GPU.arch, GPU.name, KERNEL.name))
    (found,) = lessons(measured(state)).values()
    assert len(found) == 2
    assert all(len(lesson.won) == 1 and not lesson.lost for lesson in found)


def predicted(text, capsys):
    assert main(["predict", KERNEL.name, text, "--device", "h100", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    return [row["config"] for row in rows], [tuple(map(float, row["modeled us"].split(" to "))) for row in rows]


@pytest.mark.thorough
def test_predicted_times_are_calibrated_by_what_was_measured(state, capsys):
    """Here the truth is three times the model's, give or take a tenth."""
    rng = np.random.default_rng(0)
    problem = PROBLEMS[0]
    order, before = predicted("m=64,n=2048,k=7168", capsys)
    modeled = predict_all(calls_of(KERNEL, problem, configs(problem), GPU), GPU).us
    times = dict(zip(configs(problem), 3 * modeled * np.exp(0.1 * rng.standard_normal(len(modeled))), strict=True))
    measure(state, problem, time_us=lambda config: float(times[config]))
    fit = calibrations(measured(state))["h100 bf16 gemm"]
    assert fit.factor == pytest.approx(3, rel=0.06) and 1.1 < fit.spread < 1.3 and fit.times == 42
    calibration.path(state).write_text(calibration.written({"h100 bf16 gemm": fit}))
    again, after = predicted("m=64,n=2048,k=7168", capsys)
    assert again == order, "a factor orders nothing"
    for (low, high), (least, most) in zip(before, after, strict=True):
        middle = fit.factor * (low * high) ** 0.5
        assert (least, most) == pytest.approx((middle / fit.spread, middle * fit.spread), rel=0.03)


def test_few_times_calibrate_nothing(state):
    measure(state, PROBLEMS[0], count=10)
    assert calibrations(measured(state)) == {}


@pytest.mark.parametrize(
    "text", ["[]", '{"h100 bf16 gemm": {"factor": 0, "spread": 2, "times": 20}}', '{"a": {}}', "{"]
)
def test_what_is_no_calibration_says_how_to_get_one(text, state, capsys):
    state.mkdir(parents=True, exist_ok=True)
    calibration.path(state).write_text(text)
    assert main(["predict", KERNEL.name, "m=64,n=2048,k=7168", "--device", "h100"]) == 2
    told = capsys.readouterr().err
    assert "calibration.json" in told and "autotune learn" in told


def test_what_is_no_prior_any_more_says_how_to_get_one(state):
    path = prior.learned_path(state)
    path.parent.mkdir(parents=True)
    path.write_text("{}")
    with pytest.raises(UsageError, match="autotune learn"):
        predicted_times(KERNEL, PROBLEMS[0], configs(PROBLEMS[0])[:2], GPU, prior.chosen(state))


@pytest.mark.slow
def test_rows_say_that_prior_of_ones_own_helped(state, tables):
    path = prior.learned_path(state)
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
