"""Stages of an estimate, each against figures worked out by hand or published by others."""

import dataclasses
from pathlib import Path

import pytest

import autotune
from autotune import device, registry, runtime, workload
from autotune.config import Config
from autotune.errors import UsageError
from autotune.estimate import step_times as stage
from autotune.estimate.call_times import fastest
from autotune.estimate.collectives import LATENCY_US, collective_times, collectives
from autotune.estimate.links import LINKS
from autotune.estimate.memory import memory
from autotune.estimate.points import points
from autotune.estimate.prices import USD_PER_HOUR, usd_per_million_tokens
from autotune.estimate.published import implied
from autotune.estimate.throughput import Load, throughput
from autotune.estimate.time_range import TimeRange, total
from autotune.table import Row
from autotune.workload.models import named
from autotune.workload.scenario import Parallelism, Step

PRO = named("deepseek-v4-pro")
SCENARIO = workload.scenario.named("8k1k")
DECODE = Step("decode", 64, 64, 64, 8704)
GATHERED = Step("decode", 8, 64, 8, 8704)


def test_range_of_sum_adds_ends():
    ranges = [TimeRange.within(10, 2), TimeRange.within(40, 1.5)]
    assert total(ranges) == TimeRange(5 + 40 / 1.5, 50, 20 + 60)


def test_published_costs_follow_from_published_throughput():
    """InferenceX counts tokens of prompts and answers, and takes the hourly cost of a hyperscaler.

    Its $0.064 at 11,474 tok/s/GPU of GB300 is $2.652 an hour. Its $0.291 at 2,256 tok/s/GPU of MI355X would be
    $2.363, which is none of its prices of that GPU (1.48, 1.90, 2.10); 1.90, of a smaller cloud, gives it at the 1,814
    tok/s/GPU that the same table has at concurrency 512. Were answers alone counted, a ninth of the tokens, both
    prices would be a ninth, which no cloud asks.
    """
    assert round(usd_per_million_tokens(USD_PER_HOUR["gb300"], 11_474), 3) == 0.064
    assert round(usd_per_million_tokens(2.363, 2_256.1), 3) == 0.291
    assert round(usd_per_million_tokens(1.90, 1_814.4), 3) == 0.291
    assert round(usd_per_million_tokens(USD_PER_HOUR["mi355x"], 2_256.1), 3) == 0.182
    assert 0.291 / 9 * 3600 * 2_256.1 / 1e6 < 0.3


def test_every_priced_device_has_record_and_links():
    assert set(USD_PER_HOUR) <= set(LINKS) <= set(device.names())


def test_split_attention_reduces_twice_a_layer():
    found = {each.kind: each for each in collectives(PRO, Parallelism(8), DECODE) if each.place != "embedding"}
    assert found["all-reduce"].per_step == 2 * 61
    assert found["all-reduce"].sent_bytes == 2 * 7 / 8 * 64 * 7168 * 2
    assert found["all-gather"].sent_bytes == 7 / 8 * 64 * 129280 * 2


def test_data_parallel_attention_gathers_tokens_for_experts():
    kinds = [(each.kind, each.sent_bytes) for each in collectives(PRO, Parallelism(8, 1, True), GATHERED)]
    assert kinds == [(kind, 7 / 8 * 64 * 7168 * 2) for kind in ("all-gather", "reduce-scatter")]


def test_whole_experts_get_choices_of_tokens():
    dispatch, combine = collectives(PRO, Parallelism(8, 8, True), GATHERED)
    assert combine.sent_bytes == 7 / 8 * 8 * 6 * 7168 * 2
    assert dispatch.sent_bytes == combine.sent_bytes / 2 * (1 + 4 / 128)


def test_small_collective_takes_latency_and_one_gpu_none():
    mi355x = device.named("mi355x")
    first = collective_times(PRO, Parallelism(8), dataclasses.replace(DECODE, tokens=1), mi355x)[0]
    assert first.time.us == pytest.approx(122 * (LATENCY_US + 2 * 7 / 8 * 7168 * 2 / (538 * 0.8 * 1e3)))
    assert first.bound_us < first.time.least_us
    assert collective_times(PRO, Parallelism(1), DECODE, mi355x) == ()


@pytest.mark.parametrize(
    ("name", "parallelism", "message"),
    [
        ("mi355x", Parallelism(16, 16, True), "links join at most 8 GPUs, got 16 ranks; give --tp"),
        ("rtx_4090", Parallelism(8), "no figure of its links, which 8 ranks need; known: h100"),
        ("gb300", Parallelism(8, 4), "whole experts are estimated on the ranks that run attention; give --tp 4 --ep 4"),
        ("gb300", Parallelism(3), "128 attention heads cannot be split 3 ways"),
    ],
)
def test_split_that_cannot_be_estimated_is_refused(name, parallelism, message):
    with pytest.raises(UsageError, match=message):
        points(PRO, SCENARIO, parallelism, device.named(name), [64])


def test_throughput_of_load_counts_prompts_and_stalls():
    load = Load.of(SCENARIO, Parallelism(8), 4)
    figures = throughput(load, TimeRange.within(10_000, 2), TimeRange.within(256_000, 2))
    cycle_s = 1024 * 0.010 + 4 * 0.256
    assert figures.tokens_per_s_per_gpu.value == pytest.approx(4 * 9216 / cycle_s / 8)
    assert figures.tokens_per_s_per_gpu.least == pytest.approx(figures.tokens_per_s_per_gpu.value / 2)
    assert figures.tokens_per_s_per_user.value == pytest.approx(1e6 / (10_000 + 3 * 256_000 / 1024))
    assert figures.prefill_share == pytest.approx(4 * 0.256 / cycle_s)


def test_data_parallel_ranks_prefill_side_by_side():
    assert Load.of(SCENARIO, Parallelism(8, 1, True), 64).prefill_steps == 8
    assert Load.of(SCENARIO, Parallelism(8, 1, True), 4).prefill_steps == 1


def test_published_throughput_leads_back_to_its_step():
    load = Load.of(SCENARIO, Parallelism(8), 4)
    decode, prefill = TimeRange.exact(10_000), TimeRange.exact(256_000)
    tokens = throughput(load, decode, prefill).tokens_per_s_per_gpu.value
    held = implied(tokens, load, tuned_us=8_000, bound_us=2_000, prefill_us=prefill.us, launch_us=4)
    assert held.decode_ms == pytest.approx(10)
    assert (held.of_tuned, held.of_bound) == (pytest.approx(0.8), pytest.approx(0.2))
    assert held.more_launches == pytest.approx(500)
    slow = implied(100 * tokens, load, tuned_us=8_000, bound_us=2_000, prefill_us=prefill.us, launch_us=4)
    assert slow.decode_ms < 0
    assert (slow.of_bound, slow.more_launches) == (None, None)


def test_grouped_gemms_share_one_alignment():
    kernel, b200 = registry.load("moe/mxfp4_grouped_gemm"), device.named("b200")
    problem = kernel.problem(tokens=64, topk=6, experts=384, n=768, k=7168)
    config = kernel.default(problem, b200)
    (time,) = fastest(kernel, {problem: [config]}, b200).values()
    assert (kernel.work(problem, config, b200).launches, time.launches) == (3, 1)


def test_fastest_config_is_never_slower_than_first():
    kernel, b200 = registry.load("norm/rms_norm_quant"), device.named("b200")
    problem = kernel.problem(rows=4096, cols=7168)
    default = kernel.default(problem, b200)
    alone = fastest(kernel, {problem: [default]}, b200)[problem]
    best = fastest(kernel, {problem: [default, Config(default, num_warps=1)]}, b200)[problem]
    assert best.us <= alone.us
    assert fastest(kernel, {problem: [default, default]}, b200)[problem].config is default


def test_weights_of_rank_are_its_share_of_model():
    """V4-Pro has 1.6T parameters; all but 2 % are experts in MXFP4, 17/32 of a byte each."""
    b200 = device.named("b200")
    calls = stage.step_calls(PRO, Parallelism(8), b200, DECODE)
    held = memory(PRO, Parallelism(8), b200, calls, requests=64, positions=9216)
    experts = 61 * 384 * 3 * 7168 * 3072 / 8 * 17 / 32 / 1e9
    assert experts < held.weights_gb < 1.07 * experts
    row = 30 * 9216 / 4 * (584 + 68) + 31 * 72 * 584 + 61 * 128 * 584
    assert held.caches_gb == pytest.approx(64 * row / 1e9)
    assert held.fits
    assert not dataclasses.replace(held, device_gb=80).fits


@pytest.fixture
def decode_step(tmp_path, monkeypatch):
    """A decode step of V4-Pro on a B200 without tables, from a sample of four configs."""
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path))
    monkeypatch.setattr(stage, "SAMPLE", 4)
    stage.runtime.forget()
    (step,) = stage.step_times(PRO, Parallelism(8), device.named("b200"), [DECODE])
    yield step
    stage.runtime.forget()


def test_step_has_every_call_once_and_no_draft_layers(decode_step):
    paths = {path.number: path for path in decode_step.paths}
    assert sum(count for _, count in paths[13].tiers) == 61
    assert sum(count for _, count in paths[20].tiers) == 3 * 61
    assert {tier for path in decode_step.paths for tier, _ in path.tiers} == {"no row"}
    assert decode_step.tuned.us <= decode_step.default.us
    assert decode_step.bound_us < decode_step.tuned.us
    assert decode_step.launching_us < decode_step.tuned.us
    assert sum(path.tuned.us for path in decode_step.paths) == pytest.approx(decode_step.tuned.us)


@pytest.mark.parametrize(
    ("how", "tier", "known"), [("exact", "measured", True), ("nearest", "measured", False), ("exact", "modeled", False)]
)
def test_only_measured_row_of_very_problem_counts_with_its_time(how, tier, known):
    row = Row((("rows", 64),), Config(num_warps=4), tier, {"us": 7.5}, "triton", "0" * 16)
    time = stage._measured(runtime.Choice(row.config, how, "", row))
    assert time == (TimeRange.exact(7.5) if known else None)
    assert stage._measured(runtime.Choice(row.config, "default", "")) is None


def test_table_row_serves_and_its_tier_is_told(tmp_path, monkeypatch):
    """Only the two quantized norms of a layer have a table here, whatever else is shipped."""
    shipped = Path(autotune.__file__).parent / "tuned_configs"
    (table,) = shipped.glob("*/mi355x/norm/rms_norm_quant.json")
    copy = tmp_path / table.relative_to(shipped)
    copy.parent.mkdir(parents=True)
    copy.write_bytes(table.read_bytes())
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path))
    stage.runtime.forget()
    (step,) = stage.step_times(PRO, Parallelism(8), device.named("mi355x"), [dataclasses.replace(DECODE, tokens=64)])
    norms = next(path for path in step.paths if path.number == 4)
    stage.runtime.forget()
    assert dict(norms.tiers)["modeled"] == 2 * 61
