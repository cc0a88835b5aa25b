"""Rows and cells of a page: what serves, how sure its time is, and what matters."""

import dataclasses

import pytest

from autotune import device, registry, runtime, table
from autotune.config import Config, key
from autotune.estimate.points import points
from autotune.kernel import Work
from autotune.report.html import columns
from autotune.report.matrix_use import EMULATED, NATIVE, NO_PRODUCTS, SLOWER, UNKNOWN, matrix_use, spills
from autotune.report.page_rows import NO_ROW, call_rows, cells
from autotune.report.path_groups import GROUP_OF, GROUPS
from autotune.report.step_bars import bar_ranges, segments
from autotune.workload import Parallelism, models, scenario
from autotune.workload.hot_paths import HOT_PATHS

B200 = device.named("b200")
NORM = "norm/rms_norm_quant"


@pytest.fixture
def tables(tmp_path, monkeypatch):
    """Save a table of the norm on b200, with one row for each of its problems in a decode step of four requests."""
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path))
    runtime.forget()

    def save(tier, **evidence):
        kernel, calls = registry.load(NORM), whole_step(4).kernels.calls
        problems = dict.fromkeys(each.problem for each in calls if each.call.kernel == NORM)
        rows = tuple(
            table.Row(key(problem), kernel.default(problem, B200), tier, evidence, "triton 3.9.0", "c0de")
            for problem in problems
        )
        path = table.path_of(tmp_path, "sm_100", "b200", NORM)
        table.save(table.Table(NORM, "sm_100", "b200", "source", rows), path)
        runtime.forget()

    yield save
    runtime.forget()


def whole_step(concurrency=4):
    found = points(
        models.named("deepseek-v4-pro"), scenario.named("8k1k"), Parallelism(8), B200, [concurrency], sample=0
    )
    return found[0].decode


def rows_of(concurrency=4):
    whole = whole_step(concurrency)
    return call_rows("decode", whole.kernels.calls, B200, whole.tuned.us)


def norm_rows(rows):
    return [each for each in rows if each.kernel == NORM]


def test_kernel_without_row_counts_with_its_default(tables):
    every = rows_of()
    assert {each.tier for each in every} == {NO_ROW}
    assert all(each.us == each.default_us and each.how == "default" for each in every)
    assert all(each.least_us < each.us < each.most_us for each in every)


def test_measured_time_has_no_range_and_modeled_one_has(tables):
    tables("measured", us=7.5)
    assert {(each.tier, each.us, each.least_us, each.most_us) for each in norm_rows(rows_of(4))} == {
        ("measured", 7.5, 7.5, 7.5)
    }


def test_neighbours_measured_row_is_no_measured_time(tables):
    tables("measured", us=7.5)
    near = norm_rows(rows_of(8))
    assert {(each.tier, each.how) for each in near} == {("modeled", "nearest")}
    assert all(each.least_us < each.most_us for each in near)


def test_shares_of_rows_and_collectives_make_the_step(tables):
    whole = whole_step()
    every = call_rows("decode", whole.kernels.calls, B200, whole.tuned.us)
    shared = sum(each.share for each in every) + whole.communication.us / whole.tuned.us
    assert shared == pytest.approx(1, rel=1e-3)
    assert all(0 <= each.gap <= each.share for each in every)
    longest = max(every, key=lambda each: each.gap)
    assert longest.gap == pytest.approx(longest.share * (1 - longest.bound_us / longest.us), rel=1e-3)


def test_cell_sums_all_problems_of_kernel(tables):
    tables("modeled", spills=3)
    every = rows_of()
    for cell in cells(every):
        same = [each for each in every if each.kernel == cell.kernel]
        assert cell.us == pytest.approx(sum(each.calls * each.us for each in same), rel=1e-3)
        assert cell.distance == pytest.approx(cell.us / cell.bound_us, rel=1e-2)
    (norm,) = [cell for cell in cells(every) if cell.kernel == NORM]
    assert NO_ROW not in norm.tier


def test_spills_are_unknown_unless_every_row_says_them(tables):
    tables("modeled", spills=3)
    served = norm_rows(rows_of())
    silent = dataclasses.replace(served[0], spills=None)
    assert cells(served)[0].spills == 3
    assert cells([*served, silent])[0].spills is None
    assert spills({"spills": True}) is None


FP8 = Work(1, 1.0, 1.0, 1.0, dtype="fp8")
WIDE = Config(BLOCK_M=128)


@pytest.mark.parametrize(
    ("name", "work", "evidence", "kind"),
    [
        ("mi355x", FP8, {"matrix": ["v_mfma_scale_f32_16x16x128_f8f6f4"]}, NATIVE),
        ("mi355x", FP8, {"matrix": ["v_mfma_f32_16x16x32_fp8_fp8"]}, SLOWER),
        ("mi355x", FP8, {"matrix": ["v_mfma_f32_16x16x32_bf16"]}, EMULATED),
        ("mi355x", FP8, {"matrix": []}, EMULATED),
        ("mi355x", FP8, {}, UNKNOWN),
        ("mi355x", FP8, {"matrix": "damaged"}, UNKNOWN),
        ("a100", FP8, {}, EMULATED),
        ("h100", dataclasses.replace(FP8, dtype="bf16", loaded_bytes=(1.03, 0.53)), {}, EMULATED),
        ("h100", dataclasses.replace(FP8, dtype="fp32"), {}, NO_PRODUCTS),
    ],
)
def test_matrix_use_follows_instructions_of_proved_binary(name, work, evidence, kind):
    assert matrix_use(work, WIDE, device.named(name), evidence).kind == kind


def test_every_hot_path_has_one_group_and_each_its_colour():
    assert GROUP_OF.keys() == {path.number for path in HOT_PATHS}
    assert sum(len(numbers) for numbers, _ in GROUPS.values()) == len(HOT_PATHS)
    assert len({colour for _, colour in GROUPS.values()}) == len(GROUPS) <= 8


def test_segments_of_each_bar_add_up_to_its_length():
    whole = whole_step()
    lengths = {bar.version: bar for bar in bar_ranges("decode", whole, B200)}
    for version, bar in lengths.items():
        parts = sum(each.ms for each in segments("decode", whole, B200) if each.version == version)
        assert parts == pytest.approx(bar.ms)
    assert lengths["bound"].least_ms == lengths["bound"].most_ms < lengths["tuned"].least_ms


def test_columns_keep_words_once_and_numbers_in_place():
    every = rows_of()
    kept = columns(every)
    assert kept["us"] == [each.us for each in every]
    words = kept["kernel"]["words"]
    assert len(words) == len(set(words))
    assert [words[at] for at in kept["kernel"]["at"]] == [each.kernel for each in every]
    assert columns([]) == {}
