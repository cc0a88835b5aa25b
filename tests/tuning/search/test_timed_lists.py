"""Searches judged on whole timed lists: on small lists and files of the same form."""

import csv
import lzma

import numpy as np
import pytest

from benchmarks.search import across_gpus, measured_lists
from tools import timed_lists
from tools.timed_lists import TimedList

TIMES = {"16x64x64/4/4": "8", "64x64x64/3/4": "7", "128x128x128/5/8": ""}


def write(path, rows):
    with lzma.open(path, "wt", newline="") as file:
        table = csv.DictWriter(file, list(rows[0]))
        table.writeheader()
        table.writerows(rows)


@pytest.fixture
def lists(tmp_path):
    """An A100 and an H100 that timed one problem, the second in another order and twice as fast; a third problem."""
    spaces = [
        {"id": at, "gpu": gpu, "m": m, "n": 512, "k": 1024, "a_dtype": "float16", "best_us": at, "tf32": ""}
        for at, (gpu, m) in enumerate([("a100", 64), ("h100", 64), ("h100", 128)])
    ]
    rows = [
        {"id": space["id"], "cfg": config, "status": "ok" if us else "failed", "us": us and float(us) / 2, "spread": ""}
        for space in spaces
        for config, us in (TIMES if space["gpu"] == "a100" else dict(reversed(TIMES.items()))).items()
    ]
    write(tmp_path / "inductor_mm.spaces.csv.xz", spaces)
    write(tmp_path / "inductor_mm.rows.csv.xz", rows)
    return list(timed_lists.load(tmp_path, "mm"))


@pytest.fixture(scope="module")
def grid():
    configs = [
        {"BLOCK_M": m, "BLOCK_N": n, "num_warps": w} for m in (16, 32, 64) for n in (32, 64, 128) for w in (4, 8)
    ]
    times = np.array([abs(c["BLOCK_M"] - 32) + abs(c["BLOCK_N"] - 64) + c["num_warps"] for c in configs], float)
    times[3] = np.inf
    return TimedList("h100", "made up", 1, tuple(configs), times, lambda: (np.arange(1.0, 19.0).tolist(),))


def test_list_keeps_failed_configs_and_both_views(lists):
    a100 = lists[0]
    assert a100.device == "a100" and a100.times.tolist() == [4, 3.5, np.inf]
    assert a100.configs[0] == {"BLOCK_M": 16, "BLOCK_N": 64, "BLOCK_K": 64, "num_warps": 4, "num_stages": 4}
    assert [len(view) for view in a100.views] == [3, 3]


def test_attention_has_two_blocks(tmp_path):
    space = {"id": 0, "gpu": "h100", "b": 1, "heads": 2, "q_len": 128, "head_dim": 64, "kv_len": "", "dtype": "float16"}
    write(tmp_path / "inductor_flex_attention.spaces.csv.xz", [space])
    row = {"id": 0, "cfg": "64x32/3/4", "status": "ok", "us": 9, "spread": ""}
    write(tmp_path / "inductor_flex_attention.rows.csv.xz", [row])
    (only,) = timed_lists.load(tmp_path, "flex_attention")
    assert only.configs == ({"BLOCK_M": 64, "BLOCK_N": 32, "num_warps": 4, "num_stages": 3},)


def test_lists_pair_up_by_problem_in_both_directions(lists):
    assert [(lender.device, other.device) for lender, other in across_gpus.pairs(lists)] == [
        ("a100", "h100"),
        ("h100", "a100"),
    ]


def test_lent_times_follow_configs_not_places(lists):
    pair = next(across_gpus.pairs(lists))
    assert across_gpus.lent(pair) == {0: np.inf, 1: 3.5, 2: 4}
    assert across_gpus.by_times(pair) == [1, 2]


def test_scaled_times_follow_model_of_both_gpus(lists):
    pair = next(across_gpus.pairs(lists))
    there, here = (dict(zip(map(str, space.configs), space.views[0], strict=True)) for space in pair)
    config = str(pair[1].configs[1])
    assert across_gpus.scaled(pair)[1] == pytest.approx(3.5 * here[config] / there[config])
    assert across_gpus.scaled(pair)[0] == np.inf


def test_failed_trials_count_as_slowest(lists):
    a100 = lists[0]
    assert across_gpus.behind(a100, [2]) == across_gpus.behind(a100, [0]) == pytest.approx(8 / 7)
    assert across_gpus.behind(a100, [2, 1]) == 1


@pytest.mark.parametrize("name", measured_lists.SEARCHES)
def test_search_tries_every_config_of_list_once(name, grid):
    order = list(measured_lists.SEARCHES[name](grid, 0))
    assert sorted(order) == list(range(18))


def test_pattern_climbs_from_its_population(grid):
    order = list(measured_lists.pattern(grid, 0))
    start = min(order[: measured_lists.POPULATION], key=grid.times.__getitem__)
    after = grid.configs[order[measured_lists.POPULATION]]
    assert sum(after[name] != grid.configs[start][name] for name in after) == 1


def test_trials_are_counted_until_one_is_within_share(grid):
    best = int(grid.times.argmin())
    worse = int((grid.times != grid.times.min()).argmax())
    assert grid.until(iter([worse, best]), 0.01) == 2
    assert grid.until(iter([worse, best]), 100.0) == 1


def test_problem_of_space_names_neither_gpu_nor_results(lists):
    assert lists[0].problem == lists[1].problem == "m=64 n=512 k=1024 a_dtype=float16 tf32="
    assert lists[0].half == lists[1].half
