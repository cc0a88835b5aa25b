"""Transfer of one problem's trials to another: a good source saves trials, a bad one costs few."""

import math
import random
from dataclasses import dataclass
from functools import cache

import optuna
import pytest
from test_search import BEST, CONFIGS, LISTS, outcome, suggest, time_us, tried

from autotune.config import Config
from autotune.tuning.search.sampler import FeasibleSampler
from autotune.tuning.search.study import Search
from autotune.tuning.search.transfer import distance, transfer_between

ORDER = random.Random(0).sample(CONFIGS, 40)


def shuffled(config):
    return time_us(random.Random(str(config)).choice(CONFIGS))


def reversed_(config):
    return 1 / min(time_us(config), 1e6)


def without_the_best(config):
    """Right, but for the best and its neighbours: they are said to be the slowest."""
    near = sum(config[name] != BEST[name] for name in BEST) <= 1
    return 1e3 if near else time_us(config)


def trials_to_the_best(seed, *teachers):
    sampler = FeasibleSampler(CONFIGS, seed=seed)
    sampler.transfer_from([[(config, teacher(config)) for config in ORDER] for teacher in teachers])
    study = optuna.create_study(sampler=sampler)
    best = time_us(BEST)
    study.optimize(
        lambda trial: time_us(suggest(trial)),
        len(CONFIGS),
        callbacks=[lambda s, t: s.stop() if t.value == best else None],
    )
    return len(study.trials)


@cache
def cold():
    return [trials_to_the_best(seed) for seed in range(4)]


def test_good_teacher_saves_most_trials():
    warm = [trials_to_the_best(seed, lambda config: 3 * time_us(config) ** 1.2) for seed in range(4)]
    assert sum(warm) < sum(cold()) / 2, (warm, cold())


@pytest.mark.parametrize("teacher", [shuffled, reversed_, without_the_best])
def test_misleading_teacher_costs_few_trials(teacher):
    misled = [trials_to_the_best(seed, teacher) for seed in range(4)]
    assert sum(misled) < 2 * sum(cold()), (misled, cold())


def test_teacher_with_hardly_any_success_is_not_heard():
    fails = trials_to_the_best(3, lambda config: time_us(config) if config in ORDER[:5] else math.inf)
    assert fails == trials_to_the_best(3)


def test_search_learns_while_other_goes_on():
    storage = optuna.storages.InMemoryStorage()
    teacher, pupil = (Search(storage, name, LISTS, seed=0) for name in ("teacher", "pupil"))
    teacher.set_feasible(CONFIGS)
    pupil.set_feasible(CONFIGS)
    pupil.transfer(teacher.outcomes)
    pupil.tell(config := pupil.ask(1)[0], outcome(config))
    for _ in range(8):
        for config in teacher.ask(5):
            teacher.tell(config, outcome(config))
    assert pupil.ask(1) == [BEST]


@dataclass(frozen=True)
class Problem:
    m: int
    n: int
    dtype: str = "bf16"
    VARYING = ("m",)


def test_problems_learn_from_nearest():
    storage = optuna.storages.InMemoryStorage()
    problems = [Problem(64, 512), Problem(128, 512), Problem(4096, 512), Problem(64, 512, "fp8")]
    searches = {problem: Search(storage, str(problem), LISTS, seed=0) for problem in problems}
    transfer_between(searches)
    first, second, far, other = problems
    assert distance(first, second) < distance(first, far) < distance(first, other)
    assert searches[first]._sources == (searches[second].outcomes, searches[far].outcomes)


def test_lessons_of_other_parameters_are_left_out():
    sampler = FeasibleSampler(CONFIGS)
    sampler.transfer_from([[(Config(OTHER=value), 1.0) for value in range(9)]])
    study = optuna.create_study(sampler=sampler)
    study.optimize(lambda trial: time_us(suggest(trial)), n_trials=3)
    assert len(tried(study)) == 3


def after_eight_trials_each(seed, shared):
    """Sum of the best log times of five problems with one surface, searched side by side from configs drawn."""
    storage = optuna.storages.InMemoryStorage()
    searches = {Problem(2**i, 512): Search(storage, str(i), LISTS, seed=seed) for i in range(5)}
    for search in searches.values():
        search.set_feasible(CONFIGS)
    for search, first in zip(searches.values(), random.Random(seed).sample(CONFIGS, 5), strict=True):
        search.enqueue([first])
    if shared:
        transfer_between(searches)
    for _ in range(8):
        for search in searches.values():
            for config in search.ask(1):
                search.tell(config, outcome(config))
    return sum(min(math.log(told.get("us", 1e6)) for told in search.outcomes.values()) for search in searches.values())


@pytest.mark.thorough
def test_problems_side_by_side_learn_within_first_trials():
    alone, together = ([after_eight_trials_each(seed, shared) for seed in range(12)] for shared in (False, True))
    assert sum(together) < sum(alone), (together, alone)
