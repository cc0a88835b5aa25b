"""The race's error rates on simulated devices, and its parts."""

import random
from collections import Counter
from statistics import NormalDist

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.config import Config
from autotune.tuning.measurement.race import LOOKS, gain_over, noise_floor, race, student, trimmed
from autotune.tuning.measurement.simulated import Simulated, Weather
from autotune.tuning.search.stopping import Budget
from autotune.tuning.workers.worker import Job

TRIALS = 200


class Flat:
    """A surface that is written down: microseconds by config name."""

    def __init__(self, **times):
        self.times = times

    def us(self, job):
        return self.times[job.config["name"]]


def run(weather, **times):
    """One race of the named configs, the first of them the incumbent, on a fresh simulated GPU."""
    jobs = [Job("any", (), Config(name=name), "mi355x") for name in times]
    meter = Simulated(surface=Flat(**times), weather=weather).open(0)
    meter._random = random.Random(str(run.count))
    meter._samples = run.count * 137
    run.count += 1

    def ask(entries, passes):
        return [timing.samples_us for timing in meter.time([jobs[i] for i in entries], passes)]

    return race(ask, len(jobs))


run.count = 0


def rates(weather, **times):
    return Counter(run(weather, **times).winner for _ in range(TRIALS))


WEATHERS = {
    "noise": Weather(noise=0.02),
    "noise, drift and throttling": Weather(noise=0.02, drift=0.05, throttle=0.1),
}


@pytest.mark.parametrize("weather", WEATHERS.values(), ids=WEATHERS)
def test_equal_configs_are_hardly_ever_promoted(weather):
    promoted = TRIALS - rates(weather, incumbent=100.0, twin=100.0)[0]
    print(f"equal configs: {promoted} of {TRIALS} promoted")
    assert promoted <= 0.05 * TRIALS


@pytest.mark.parametrize("weather", WEATHERS.values(), ids=WEATHERS)
def test_true_gain_of_three_percent_is_found(weather):
    found = rates(weather, incumbent=100.0, better=97.0)[1]
    print(f"gain of 3 %: {found} of {TRIALS} found")
    assert found >= 0.95 * TRIALS


def test_best_finalist_wins_and_slower_ones_never_do():
    seen = rates(Weather(noise=0.02), incumbent=100.0, slow=105.0, good=95.0, twin=100.0)
    assert seen[2] >= 0.95 * TRIALS
    assert seen[1] == 0


def test_no_promotion_where_noise_floor_exceeds_gain():
    verdicts = [run(Weather(noise=0.2), incumbent=100.0, better=99.0) for _ in range(40)]
    assert all(verdict.floor > 0.01 for verdict in verdicts)
    assert sum(verdict.winner for verdict in verdicts) <= 0.05 * len(verdicts)
    kept = [verdict for verdict in verdicts if not verdict.winner]
    assert all("kept" in verdict.reason for verdict in kept)
    assert not any(v.winner for v in verdicts if v.gains[1].gain <= v.floor)


def test_clear_race_ends_early_and_lone_incumbent_stays():
    verdict = run(Weather(noise=0.02), incumbent=100.0, better=50.0)
    assert (verdict.winner, verdict.decided) == (1, True)
    assert len(verdict.samples_us[0]) == 2 * LOOKS[0]
    assert run(Weather(noise=0.02), incumbent=100.0).winner == 0


def test_tie_keeps_incumbent_without_noise():
    assert run(Weather(noise=0.0), incumbent=100.0, twin=100.0).winner == 0
    assert run(Weather(noise=0.0), incumbent=100.0, hair=99.9).winner == 0


def test_drift_that_only_grows_makes_no_gain():
    base = [100 * 1.01**i for i in range(0, 64, 2)]
    # Passes there and back: the other entry is measured after the incumbent in even passes, before it in odd ones.
    times = [100 * 1.01**i for i in range(64)]
    base = [times[2 * i + i % 2] for i in range(32)]
    other = [times[2 * i + 1 - i % 2] for i in range(32)]
    assert gain_over(base, other, 0.95).gain == pytest.approx(0, abs=1e-9)
    assert noise_floor([100.0] * 16, 0.95).high == 0


def test_student_agrees_with_tables():
    for probability, freedom, table in [(0.975, 10, 2.228), (0.99, 5, 3.365), (0.95, 30, 1.697)]:
        assert student(probability, freedom) == pytest.approx(table, rel=0.005)
    assert student(0.975, 10**9) == pytest.approx(NormalDist().inv_cdf(0.975))


@given(st.lists(st.floats(-1, 1), min_size=8, max_size=60), st.floats(-5, 5))
def test_trimmed_means_move_with_their_values(values, shift):
    middle, half = trimmed(values, 0.95)
    moved, same = trimmed([value + shift for value in values], 0.95)
    assert moved == pytest.approx(middle + shift, abs=1e-9)
    assert same == pytest.approx(half, abs=1e-9)
    assert min(values) - 1e-12 <= middle <= max(values) + 1e-12


def test_search_ends_by_trials_minutes_or_little_promise():
    assert Budget(trials=12).left(5, lambda: 0.0) == 7
    assert Budget(minutes=0).left(0, lambda: 1.0) == 0
    assert Budget(trials=40, until_gain=0.01).left(20, lambda share: 0.005) == 0
    assert Budget(trials=40, until_gain=0.01).left(20, lambda share: 0.02) == 20
    assert Budget(trials=40, until_gain=0.01).left(15, lambda share: 0.0) == 25, "too early to tell"
