"""Joint tuning along one size, on surfaces whose crossovers are known."""

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from autotune.config import Config
from autotune.tuning.session.intervals import Times, cover, spans

SMALL, MIDDLE, LARGE = (Config(BLOCK=block) for block in (16, 64, 256))
CONFIGS = [SMALL, MIDDLE, LARGE]
SIZES = [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096]


def us(size, config):
    """Tiles of a config's rows, each with a cost: small blocks win small sizes, large blocks large ones."""
    block = config.size("BLOCK")
    return 2 + (-(-size // block)) * (1 + block / 24)


def ask_of(table):
    calls = []

    def ask(size, configs):
        calls.append((size, tuple(configs)))
        return {config: table(size, config) for config in configs}

    return ask, calls


def test_crossovers_keep_every_size_within_its_regret():
    ask, _ = ask_of(us)
    found = spans(SIZES, CONFIGS, Times(ask), lambda config, low, high: [(low + high) // 2 + 1])
    assert [span.config for span in found] == [SMALL, MIDDLE, LARGE]
    assert (found[0].low, found[-1].high) == (1, 4096)
    for left, right in pairwise(found):
        assert left.high + 1 == right.low
    for span in found:
        assert {span.low, span.high} <= set(span.measured)
        for size in span.measured:
            best = min(us(size, config) for config in CONFIGS)
            assert us(size, span.config) / best - 1 <= span.regret + 1e-9


def test_one_config_serves_all_within_tolerance():
    ask, _ = ask_of(lambda size, config: size * (1.0 if config == SMALL else 1.005))
    (span,) = spans(SIZES, CONFIGS, Times(ask))
    assert (span.low, span.high, span.config, span.regret) == (1, 4096, SMALL, 0.0)


def test_config_that_cannot_run_somewhere_serves_nothing_there():
    def ask(size, configs):
        return {c: us(size, c) for c in configs if not (c == LARGE and size < 1000) and size != 8}

    found = spans(SIZES, CONFIGS, Times(ask))
    assert all(span.low >= 1000 for span in found if span.config == LARGE)
    assert not any(span.low <= 8 <= span.high for span in found)


def test_nothing_is_measured_twice():
    ask, calls = ask_of(us)
    times = Times(ask)
    spans(SIZES, CONFIGS, times)
    before = len(calls)
    spans(SIZES, CONFIGS, times)
    assert len(calls) == before
    assert len({(size, frozenset(configs)) for size, configs in calls}) == len(calls)


@given(st.lists(st.lists(st.floats(1, 2), min_size=3, max_size=3), min_size=1, max_size=8))
def test_cover_is_whole_ordered_and_shortest(rows):
    sizes = [2**i for i in range(len(rows))]
    table = {size: dict(zip(CONFIGS, row, strict=True)) for size, row in zip(sizes, rows, strict=True)}
    times = Times(lambda size, configs: table[size])
    for size in sizes:
        times.at(size, CONFIGS)
    runs = cover(sizes, CONFIGS, times, 0.1)
    assert [i for _, first, last in runs for i in range(first, last + 1)] == list(range(len(sizes)))
    fits = [[times.regret(config, size) <= 0.1 for size in sizes] for config in CONFIGS]
    assert all(times.regret(config, sizes[i]) <= 0.1 for config, first, last in runs for i in range(first, last + 1))
    # Dynamic programming over prefixes gives the fewest runs.
    fewest = [0] + [len(sizes)] * len(sizes)
    for end in range(1, len(sizes) + 1):
        fewest[end] = min(fewest[b] + 1 for b in range(end) for fit in fits if all(fit[b:end]))
    assert len(runs) == fewest[-1]


def test_crossing_takes_few_measurements_and_jump_is_exact():
    ask, calls = ask_of(lambda size, c: {SMALL: size, MIDDLE: 3000, LARGE: 1e6}[c])
    left, right = spans([1, 4096], [SMALL, MIDDLE], Times(ask))
    assert right.low - 1 == left.high == pytest.approx(3000, rel=0.02)
    assert len(calls) < 14
    ask, _ = ask_of(lambda size, c: {SMALL: 1 if size <= 1733 else 9, MIDDLE: 5, LARGE: 1e6}[c])
    left, right = spans([1, 4096], [SMALL, MIDDLE], Times(ask))
    assert (left.high, right.low) == (1733, 1734)
    assert left.regret == right.regret == 0
