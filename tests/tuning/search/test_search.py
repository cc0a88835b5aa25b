"""Samplers alone in a study, and the search of a problem: only feasible configs, none twice, failures, priors."""

import itertools
import math
import random

import optuna
import pytest

from autotune.cli import main
from autotune.config import Config
from autotune.tuning.search.encoding import octaves_from_usual
from autotune.tuning.search.feasible_set import FeasibleSetSampler
from autotune.tuning.search.sampler import SAMPLERS, FeasibleSampler, RandomSampler
from autotune.tuning.search.storage import journal
from autotune.tuning.search.study import Search

LISTS = {"BLOCK": (16, 32, 48, 64, 96, 128), "WARPS": (1, 2, 4, 8), "MODE": ("a", "b", "c"), "PAD": (False, True)}
CONFIGS = [
    Config(dict(zip(LISTS, values, strict=True)))
    for values in itertools.product(*LISTS.values())
    if values[0] >= 16 * values[1]
]


def time_us(config):
    """Best at BLOCK 96, WARPS 4, MODE b, PAD true; 128 rows fail with 8 warps."""
    if (config["BLOCK"], config["WARPS"]) == (128, 8):
        return math.inf
    size = abs(math.log2(config["BLOCK"] / 96)) + 0.7 * abs(math.log2(config["WARPS"] / 4))
    return 10 * math.exp(size + (config["MODE"] != "b") + 0.3 * (not config["PAD"]))


BEST = min(CONFIGS, key=time_us)


def study_of(**options):
    return optuna.create_study(sampler=FeasibleSampler(CONFIGS, **options))


def suggest(trial):
    return Config({name: trial.suggest_categorical(name, values) for name, values in LISTS.items()})


def tried(study):
    return [Config(trial.params) for trial in study.get_trials()]


@pytest.mark.parametrize("seed", range(4))
def test_finds_best_of_small_space_and_repeats_nothing(seed):
    study = study_of(seed=seed)
    study.optimize(lambda trial: time_us(suggest(trial)), n_trials=40)
    assert set(tried(study)) <= set(CONFIGS)
    assert len(set(tried(study))) == 40
    assert Config(study.best_params) == BEST, "random search finds it in 40 of 100 trials"


def test_one_seed_gives_one_order():
    orders = []
    for seed in (3, 3, 4):
        study = study_of(seed=seed)
        study.optimize(lambda trial: time_us(suggest(trial)), n_trials=15)
        orders.append(tried(study))
    assert orders[0] == orders[1] != orders[2]


@pytest.mark.parametrize("state", [optuna.trial.TrialState.FAIL, optuna.trial.TrialState.PRUNED])
def test_failures_teach_where_not_to_look(state):
    failing = {config for config in CONFIGS if config["MODE"] == "b"}
    study = study_of(seed=1)
    for _ in range(33):
        trial = study.ask()
        config = suggest(trial)
        if config in failing:
            study.tell(trial, state=state)
        else:
            study.tell(trial, time_us(config))
    failed = [config in failing for config in tried(study)]
    assert sum(failed[:9]) >= 1, "nothing was there to learn from"
    assert sum(failed[9:]) <= 3, "a third of the space fails"


def test_maximising_rate_is_minimising_time():
    study = optuna.create_study(direction="maximize", sampler=FeasibleSampler(CONFIGS, seed=0))
    study.optimize(lambda trial: 1 / time_us(suggest(trial)), n_trials=40)
    assert Config(study.best_params) == BEST


def registers(config):
    """Few where time is long."""
    return config["BLOCK"] * (2 - (config["MODE"] == "a")) / config["WARPS"]


def volume(front):
    """Under the front, in logarithms, up to a corner that every success dominates."""
    points = sorted((math.log(us), math.log(used)) for us, used in front)
    corner = 10.0
    return sum(
        (min((x for x, _ in points[at + 1 :]), default=corner) - points[at][0])
        * (corner - min(y for _, y in points[: at + 1]))
        for at in range(len(points))
    )


@pytest.mark.parametrize("seed", range(3))
def test_of_two_objectives_front_is_found(seed):
    whole = volume([(time_us(c), registers(c)) for c in CONFIGS if math.isfinite(time_us(c))])
    shares = {}
    for sampler in (FeasibleSampler(CONFIGS, seed=seed), optuna.samplers.RandomSampler(seed=seed)):
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=sampler)
        while len({*tried(study)}) < 40:
            trial = study.ask()
            config = suggest(trial)
            if config not in CONFIGS or math.isinf(time_us(config)):
                study.tell(trial, state=optuna.trial.TrialState.FAIL)
            else:
                study.tell(trial, (time_us(config), registers(config)))
        shares[type(sampler)] = volume([trial.values for trial in study.best_trials]) / whole
    assert shares[FeasibleSampler] > 0.99 > shares[optuna.samplers.RandomSampler]


def test_long_front_is_found_beyond_one_objective():
    """Thirteen configs, of which time alone as the cost finds 24 in three searches, room alone 20."""

    def room(config):
        return config["BLOCK"] * config["WARPS"] ** 0.5 * (2 - (config["MODE"] == "a"))

    both = {config: (time_us(config), room(config)) for config in CONFIGS if math.isfinite(time_us(config))}
    front = {
        one
        for one, (us, used) in both.items()
        if not any((a <= us and b < used) or (a < us and b <= used) for a, b in both.values())
    }
    found = 0
    for seed in range(3):
        study = optuna.create_study(directions=["minimize", "minimize"], sampler=FeasibleSampler(CONFIGS, seed=seed))
        while len({*tried(study)}) < 40:
            trial = study.ask()
            values = both.get(suggest(trial))
            study.tell(trial, values, state=None if values else optuna.trial.TrialState.FAIL)
        found += len(front & {*tried(study)})
    assert len(front) == 13 and found > 26


def test_outlook_of_two_objectives_is_refused():
    study = optuna.create_study(directions=["minimize", "maximize"], sampler=FeasibleSampler(CONFIGS))
    study.optimize(lambda trial: (time_us(suggest(trial)), 1.0), n_trials=3)
    with pytest.raises(ValueError, match="several"):
        study.sampler.remaining_gain(study, 0.01)


def test_trials_under_way_are_not_asked_again_and_spread():
    study = study_of(seed=0)
    study.optimize(lambda trial: time_us(suggest(trial)), n_trials=10)
    waiting = [suggest(study.ask()) for _ in range(16)]
    assert len({*tried(study)}) == 26
    assert len({config["BLOCK"] for config in waiting}) > 1


def test_exhausted_set_repeats_its_best():
    few = CONFIGS[:3]
    study = optuna.create_study(sampler=FeasibleSampler(few))
    study.optimize(lambda trial: time_us(suggest(trial)), n_trials=4)
    assert {*tried(study)} == {*few}
    assert tried(study)[3] == min(few, key=time_us)


def test_priors_come_first_and_wrong_one_is_overcome():
    right = study_of(seed=0, priors=[[min(time_us(config), 1e6) for config in CONFIGS]])
    right.optimize(lambda trial: time_us(suggest(trial)), n_trials=2)
    assert tried(right)[0] == BEST
    wrong = study_of(seed=0, priors=[[1 / min(time_us(config), 1e6) for config in CONFIGS]])
    wrong.optimize(lambda trial: time_us(suggest(trial)), n_trials=60)
    assert time_us(tried(wrong)[0]) > 100
    assert Config(wrong.best_params) == BEST


@pytest.mark.parametrize("seed", range(4))
def test_accurate_prior_is_followed(seed):
    rng = random.Random(seed)
    modeled = [1 + place / 10 for place in rng.sample(range(len(CONFIGS)), len(CONFIGS))]
    times = [3 * one * math.exp(rng.gauss(0, 0.02)) for one in modeled]
    study = study_of(seed=seed, priors=[modeled])
    study.optimize(lambda trial: times[CONFIGS.index(suggest(trial))], n_trials=16)
    assert max(modeled[CONFIGS.index(config)] for config in tried(study)) < 4, "the slowest takes 10"


def test_opinion_that_tells_no_two_apart_has_no_say():
    right = [min(time_us(config), 1e6) for config in CONFIGS]
    study = study_of(seed=0, priors=[[1.0] * len(CONFIGS), right])
    study.optimize(lambda trial: time_us(suggest(trial)), n_trials=1)
    assert tried(study) == [BEST]


@pytest.mark.parametrize("seed", range(4))
def test_without_priors_first_trial_is_amid_set(seed):
    study = study_of(seed=seed)
    study.optimize(lambda trial: time_us(suggest(trial)), n_trials=1)
    (first,) = tried(study)
    assert first["BLOCK"] not in {LISTS["BLOCK"][0], LISTS["BLOCK"][-1]}
    assert first["WARPS"] not in {LISTS["WARPS"][0], LISTS["WARPS"][-1]}


BLOCKS = [(x, y, tile) for x in (8, 16, 32, 64, 128, 256, 512) for y in (1, 2, 4, 8, 16, 32) for tile in range(1, 7)]


def block_cost(x, y, tile, octave):
    """Least near 2**`octave` threads; a wrong shape costs less than a wrong count."""
    return 1 + abs(math.log2(x * y) - octave) + 0.3 * abs(math.log2(x / 64)) + 0.2 * abs(tile - 4)


def trials_to_the_best(names, seed, octave):
    configs = [dict(zip(names, values, strict=True)) for values in BLOCKS]
    study = optuna.create_study(sampler=FeasibleSampler(configs, seed=seed))

    def objective(trial):
        values = (trial.suggest_categorical(name, {c[name]: None for c in configs}) for name in names)
        return block_cost(*values, octave)

    best = min(block_cost(*values, octave) for values in BLOCKS)
    while not study.get_trials() or study.best_value > best:
        study.optimize(objective, n_trials=1)
    return study.get_trials()


def test_search_without_priors_knows_how_many_threads_block_has():
    untold = [trials_to_the_best(("A", "B", "tile"), seed, 7.5) for seed in range(6)]
    for x, y in (("block_size_x", "block_size_y"), ("MDIMC", "NDIMC")):
        told = [trials_to_the_best((x, y, "tile"), seed, 7.5) for seed in range(6)]
        assert {128 <= trials[0].params[x] * trials[0].params[y] <= 256 for trials in told} == {True}
        assert sum(map(len, told)) < sum(map(len, untold))


def test_best_blocks_with_few_threads_are_found():
    assert all(len(trials_to_the_best(("block_size_x", "block_size_y", "tile"), s, 4)) < 60 for s in range(4))


@pytest.mark.parametrize(
    ("config", "octaves"),
    [
        ({"block_size_x": 256}, 0),
        ({"block_size_x": 32, "block_size_y": 32}, 2),
        ({"MDIMC": 8, "NDIMC": 8, "VWM": 4}, 1),
        ({"block_size_x": "wide", "block_size_y": 64}, 0),
        ({"block_size_x": 0}, 0),
        ({"num_warps": 16, "BLOCK_SIZE_M": 1024}, 0),
    ],
)
def test_octaves_from_usual_threads_of_block(config, octaves):
    assert octaves_from_usual([config, {**config}]).tolist() == [octaves, octaves]


@pytest.mark.parametrize("seed", range(4))
def test_powers_of_two_of_long_list_come_first(seed):
    configs = [{"SIZE": 16 * i, "TILE": tile} for i in range(1, 17) for tile in range(1, 5)]
    study = optuna.create_study(sampler=FeasibleSampler(configs, seed=seed))

    def objective(trial):
        size = trial.suggest_categorical("SIZE", range(16, 257, 16))
        return 1 + abs(math.log2(size / 96)) + abs(trial.suggest_int("TILE", 1, 4) - 3)

    study.optimize(objective, n_trials=30)
    coarse = [trial.params["SIZE"].bit_count() == 1 for trial in study.get_trials()]
    assert coarse[0]
    assert sum(coarse[:6]) >= 5, "5 of 16 sizes are powers of two"
    assert study.best_params == {"SIZE": 96, "TILE": 3}


def test_configs_enqueued_by_hand_are_learned_from():
    study = study_of(seed=0)
    study.enqueue_trial(dict(BEST))
    study.optimize(lambda trial: time_us(suggest(trial)), n_trials=6)
    assert tried(study)[0] == BEST
    assert len({*tried(study)}) == 6


def test_outlook_falls_when_best_is_found():
    study = study_of(seed=0)
    study.optimize(lambda trial: time_us(suggest(trial)), n_trials=6)
    early = study.sampler.remaining_gain(study, 0.02)
    study.optimize(lambda trial: time_us(suggest(trial)), n_trials=54)
    late = study.sampler.remaining_gain(study, 0.02)
    assert Config(study.best_params) == BEST
    assert late.chance < 0.05 < early.chance
    assert late.expected < early.expected


@pytest.mark.parametrize(
    ("configs", "options", "message"),
    [
        ([], {}, "at least one config"),
        ([{"A": 1}, {"B": 1}], {}, "must have the parameters A"),
        ([{"A": 1}, {"A": 2}], {"priors": [[1.0]]}, "for each of the 2 configs"),
        ([{"A": 1}, {"A": 2}], {"priors": [[1.0, 0.0]]}, "positive predicted time"),
    ],
)
def test_bad_input_is_named(configs, options, message):
    with pytest.raises(ValueError, match=message):
        FeasibleSampler(configs, **options)


def test_parameter_that_no_config_has():
    study = optuna.create_study(sampler=FeasibleSampler([{"A": 1}, {"A": 2}]))
    with pytest.raises(ValueError, match="no config chosen holds a parameter 'B'"):
        study.ask().suggest_int("B", 0, 1)


def outcome(config):
    us = time_us(config)
    return {"us": us} if us < math.inf else {"failed": "compile", "reason": "too big"}


def test_search_resumes_from_its_journal(tmp_path):
    def opened():
        search = Search(journal(tmp_path / "journal.log"), "p", LISTS, seed=0)
        search.set_feasible(CONFIGS)
        return search

    first = opened()
    first.enqueue([BEST, CONFIGS[0]])
    asked = first.ask(6)
    assert asked[:2] == [BEST, CONFIGS[0]]
    assert len(set(asked)) == 6
    for config in asked[:4]:
        first.tell(config, outcome(config))
    second = opened()
    assert set(second.outcomes) == set(asked[:4])
    assert second.outcomes[BEST] == {"us": time_us(BEST)}
    assert second.ask(2) == asked[4:], "what was interrupted goes first"
    rest = second.ask(len(CONFIGS))
    assert {*asked, *rest} == {*CONFIGS}
    assert len(rest) == len(CONFIGS) - 6


def test_search_knows_what_failed(tmp_path):
    search = Search(journal(tmp_path / "journal.log"), "p", LISTS, seed=0)
    search.set_feasible(CONFIGS)
    assert search.remaining_gain(0.01) is None
    for _ in range(8):
        for config in search.ask(5):
            search.tell(config, outcome(config))
    assert search.remaining_gain(0.01).chance < 1
    assert min(search.outcomes, key=lambda config: search.outcomes[config].get("us", math.inf)) == BEST


class WorstFirst(FeasibleSetSampler):
    """A sampler in three lines: all that a new one needs beside its entry in SAMPLERS."""

    def next_position(self, observed, pending):
        untried = [i for i in range(len(self.configs)) if i not in observed and i not in pending]
        return max(untried, key=lambda i: min(time_us(self.configs[i]), 1e6), default=None)


@pytest.mark.parametrize("sampler", [*SAMPLERS.values(), WorstFirst], ids=lambda one: one.__name__)
def test_every_sampler_tries_all_configs_once(sampler, tmp_path):
    some = CONFIGS[:12]
    search = Search(journal(tmp_path / "log"), "study", LISTS, 0, sampler)
    search.set_feasible(some)
    order = []
    while asked := search.ask(2):
        for config in asked:
            order.append(config)
            us = time_us(config)
            search.tell(config, {"us": us} if us < math.inf else {"failed": "compile", "reason": "too large"})
    assert sorted(map(str, order)) == sorted(map(str, some))


def test_random_sampler_does_not_follow_prior():
    perfect = [min(time_us(config), 1e6) for config in CONFIGS]
    study = optuna.create_study(sampler=RandomSampler(CONFIGS, seed=0, priors=[perfect]))
    study.optimize(lambda trial: min(time_us(suggest(trial)), 1e6), n_trials=4)
    assert study.best_value > 1.02 * min(perfect)
    assert study.sampler.remaining_gain(study, 0.01) is None


def test_unknown_sampler_is_refused(capsys):
    assert main(["tune", "norm/rms_norm", "--device", "mi355x", "--sampler", "randm"]) == 2
    assert "did you mean 'random'" in capsys.readouterr().err
