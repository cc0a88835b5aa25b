"""The cost model: laws that it must keep, its footprint against binaries, and the command."""

import dataclasses
import json

import pytest

from autotune import device, registry
from autotune.cli import main
from autotune.config import Config
from autotune.tuning import space
from autotune.tuning.compilation import launch, resources
from autotune.tuning.cost_model.call_batch import side_by_side, works
from autotune.tuning.cost_model.constants import calibration, terms
from autotune.tuning.cost_model.model import model_name, predict, predict_all
from autotune.tuning.cost_model.program_cost import program_cost
from autotune.tuning.cost_model.tile_cost import tiles

KERNEL = registry.load("gemm/fp8_block_scaled")
H100, H200, B200, MI300X = map(device.named, ("h100", "h200", "b200", "mi300x"))


def case(gpu, m=4096, n=2048, k=7168, **changes):
    problem = KERNEL.problem(m, n, k, gpu.fp8)
    config = Config({**KERNEL.default(problem, gpu), **changes})
    return KERNEL.work(problem, config, gpu), config


def used_by(work, config, gpu, found=None):
    return program_cost(side_by_side([work], [config]), gpu, [found])


@pytest.mark.parametrize("gpu", [H100, B200, MI300X], ids=lambda g: g.name)
@pytest.mark.parametrize("kernel", registry.names())
def test_calls_side_by_side_are_predicted_as_each_alone(kernel, gpu):
    loaded = registry.load(kernel)
    declared = space.load(loaded, gpu)
    problem = declared.check[0]
    configs = list(space.feasible(declared, loaded, problem, gpu))[::7]
    asked = works(loaded, problem, configs, gpu)
    assert asked == [loaded.work(problem, config, gpu) for config in configs]
    predictions = predict_all(side_by_side(asked, configs), gpu)
    for at in range(0, len(configs), 1 + len(configs) // 20):
        alone = predict(asked[at], configs[at], gpu)
        assert predictions[at].us == pytest.approx(alone.us)
        assert dict(predictions[at].terms) == pytest.approx(dict(alone.terms))


@pytest.mark.parametrize("gpu", [H100, B200, MI300X], ids=lambda g: g.name)
def test_calls_of_many_dtypes_are_predicted_as_each_alone(gpu):
    work, config = case(gpu)
    dtypes = ["bf16", "fp8", "fp8_tensor", "fp32", *(["fp4"] if gpu.has_native_fp4 else [])]
    asked = [dataclasses.replace(work, dtype=dtype) for dtype in dtypes]
    predictions = predict_all(side_by_side(asked, [config] * len(asked)), gpu)
    times = {dtype: predictions[at] for at, dtype in enumerate(dtypes)}
    assert times == {dtype: predict(each, config, gpu) for dtype, each in zip(dtypes, asked, strict=True)}
    assert len({time.us for time in times.values()}) == len(dtypes)


def test_binaries_replace_estimates_of_their_own_calls_only():
    work, config = case(H100, BLOCK_M=128, BLOCK_N=128, num_warps=8)
    found = resources.Resources(255, 512, 512, 1000, 0, (("wgmma.mma_async.f32.e4m3", 8),), 1, 8, 1, "")
    calls = side_by_side([work] * 3, [config] * 3)
    plain, spilling, _ = predict_all(calls, H100, [None, found, None]).us
    assert spilling > 1.2 * plain
    assert plain == predict(work, config, H100).us and spilling == predict(work, config, H100, found).us


def test_bytes_kept_in_cache_spare_only_dram():
    """Weights of 15 MB stay in an L2 of 50 if the call is repeated at once, not where a layer runs between."""
    work, config = case(H100, m=16)
    calls = side_by_side([work], [config])
    cold = predict_all(calls, H100)[0]
    assert predict_all(calls, H100, reuse_bytes=H100.last_level_mb * 2**20 + 1)[0] == cold
    kept = predict_all(calls, H100, reuse_bytes=calls.unique_bytes)[0]
    changed = {name for name, us in kept.terms if us != dict(cold.terms)[name]}
    assert changed == {"dram"} and kept.us < cold.us
    factor = calibration(H100, "fp8").factor
    assert dict(kept.terms)["dram"] == pytest.approx(factor * work.unique_bytes / (H100.last_level_tb_s * 1e6))


def test_flops_of_kernels_without_tiles_are_not_padded():
    # 16 or 64 rows of an instruction are padding only where BLOCK_M says that there are fewer.
    work, _ = case(H100)
    config = Config(BLOCK_H=64, num_warps=4, num_stages=2)
    used = used_by(work, config, H100)
    clocks = work.flops_per_program / work.iterations / (H100.rate("fp8") / H100.compute_units / H100.clock_ghz / 1e3)
    assert used.matrix_clocks[0] == pytest.approx(clocks)


@pytest.mark.parametrize("gpu", [H100, MI300X], ids=lambda g: g.name)
@pytest.mark.parametrize("kernel", registry.names())
def test_every_kernel_has_time_on_every_vendor(kernel, gpu):
    loaded = registry.load(kernel)
    for problem in space.load(loaded, gpu).check[:2]:
        config = loaded.default(problem, gpu)
        prediction = predict(loaded.work(problem, config, gpu), config, gpu)
        low, high = prediction.range_us
        assert 0 < low < prediction.us < high < 1e5
        assert prediction.bound in dict(prediction.terms)
        assert all(us >= 0 for _, us in prediction.terms)


def test_never_faster_than_hardware():
    work, config = case(H100)
    us = predict(work, config, H100).us
    assert us > work.programs * work.flops_per_program / H100.rate("fp8")
    assert us > work.unique_bytes / (H100.dram_peak_tb_s * 1e6)


def test_more_work_takes_longer_and_more_bandwidth_helps():
    small, config = case(H100, m=64)
    large, _ = case(H100, m=64, n=8192)
    assert predict(small, config, H100).us < predict(large, config, H100).us
    assert predict(large, config, H200).us < predict(large, config, H100).us


def test_device_may_lose_more_to_open_pages_than_most():
    work, wide = case(H100, m=64, BLOCK_N=128)
    narrow = Config({**wide, "BLOCK_N": 32})
    lossy = dataclasses.replace(H100, page_loss=0.1)

    def dram_us(config, gpu):
        return dict(predict(work, config, gpu).terms)["dram"]

    assert dram_us(wide, lossy) > dram_us(wide, H100)
    assert dram_us(wide, lossy) / dram_us(narrow, lossy) > dram_us(wide, H100) / dram_us(narrow, H100)


def test_one_program_too_many_starts_another_wave():
    work, config = case(H100)
    per_wave = int(H100.compute_units * used_by(work, config, H100).programs_per_unit[0])
    full = dataclasses.replace(work, programs=per_wave, unique_bytes=1.0)
    over = dataclasses.replace(full, programs=per_wave + 1)
    assert predict(over, config, H100).us > 1.5 * predict(full, config, H100).us


def test_accumulators_beyond_registers_are_charged_not_refused():
    work, config = case(H100, BLOCK_M=256, BLOCK_N=256, num_warps=4)
    spilling = used_by(work, config, H100)
    work, config = case(H100, BLOCK_M=128, BLOCK_N=128, num_warps=8)
    assert spilling.shared_bytes_moved > 2 * 4 * used_by(work, config, H100).shared_bytes_moved
    assert spilling.programs_per_unit[0] == 1


@pytest.mark.parametrize(
    ("rows", "columns", "warps", "layout"),
    [
        # warpsPerCTA that Triton 3.9 gives mma.sync (sm_89) for such tiles.
        (16, 64, 4, (1, 4)),
        (64, 128, 4, (1, 4)),
        (128, 64, 4, (2, 2)),
        (128, 128, 4, (2, 2)),
        (128, 128, 8, (2, 4)),
        (64, 256, 8, (1, 8)),
        (256, 64, 8, (4, 2)),
    ],
)
def test_operands_are_read_as_compiler_lays_out_warps(rows, columns, warps, layout):
    gpu = device.named("l40s")
    work, config = case(gpu, BLOCK_M=rows, BLOCK_N=columns, BLOCK_K=128, num_warps=warps)
    read = tiles(side_by_side([work], [config]), gpu).read[0]
    assert read == 128 * (rows * layout[1] + columns * layout[0])


def test_unscaled_tcgen05_sums_stay_in_tensor_memory():
    kernel = registry.load("gemm/bf16_linear")

    def moved(gpu, warps):
        problem = kernel.problem(4096, 4096, 7168)
        config = Config({**kernel.default(problem, gpu), "BLOCK_M": 256, "BLOCK_N": 256, "num_warps": warps})
        return used_by(kernel.work(problem, config, gpu), config, gpu).shared_bytes_moved[0]

    assert moved(H100, 4) > 1.5 * moved(H100, 8)  # spills in each iteration
    assert moved(B200, 4) == moved(B200, 8)


@pytest.mark.parametrize("gpu", [H100, B200], ids=lambda g: g.name)
def test_fp8_scaled_after_sum_spares_scaling(gpu):
    work, config = case(gpu, m=4096, BLOCK_M=128, BLOCK_N=128, num_warps=8)

    def before_calibration(dtype):
        found, factor = predict(dataclasses.replace(work, dtype=dtype), config, gpu), calibration(gpu, dtype).factor
        return {name: us / factor for name, us in found.terms} | {"all": found.us / factor}

    by_block, after = before_calibration("fp8"), before_calibration("fp8_tensor")
    assert after["compute"] == pytest.approx(by_block["compute"])
    assert after["issue"] < by_block["issue"] and after["all"] < by_block["all"]


@pytest.mark.parametrize("gpu", [H100, MI300X], ids=lambda g: g.name)
def test_estimate_of_occupancy_is_near_binary(gpu):
    problem = KERNEL.problem(256, 2048, 7168, gpu.fp8)
    for changes in ({"BLOCK_M": 64, "BLOCK_N": 128, "num_warps": 4}, {"BLOCK_M": 128, "BLOCK_N": 128, "num_warps": 8}):
        work, config = case(gpu, m=256, SPLIT_K=1, num_stages=2, **changes)
        found = resources.read(launch.compile_launches(KERNEL, problem, config, gpu), gpu)
        estimated = used_by(work, config, gpu).programs_per_unit[0]
        assert abs(estimated - found.programs_per_unit) <= 1, (config, found)
        assert used_by(work, config, gpu, found).programs_per_unit[0] == found.programs_per_unit


def test_trials_of_record_since_mended_are_of_another_model():
    """Or a session would resume with times that the record no longer foretells."""
    known = device.named("mi355x")
    mended = dataclasses.replace(known, dram_tb_s=known.dram_tb_s * 1.1)
    cited = dataclasses.replace(known, figures=(("dram_tb_s", "read: a data sheet"),))
    assert model_name(known) == model_name(cited) != model_name(mended)
    assert model_name(known) != model_name(device.named("mi350x"))


def test_calibration_is_of_nearest_relation():
    """This device, its arch, its vendor; kernels without tiles and vendors without times have the widest range."""
    h100, twin = calibration(H100, "fp8"), calibration(dataclasses.replace(H100, name="h100_twin"), "fp8")
    stranger = calibration(device.named("rtx_4090"), "bf16")
    assert "this device" in h100.source and "this arch" in twin.source and "this vendor" in stranger.source
    assert 1 <= h100.spread <= twin.spread < calibration(H100, "*").spread
    assert calibration(MI300X, "bf16").spread == calibration(H100, "*").spread == 2
    assert "not calibrated" in calibration(MI300X, "bf16").source


def test_waits_of_scaled_products_are_seen():
    """Products that are scaled one by one are waited for; a sum on the matrix units goes on."""
    work, config = case(H100, m=64, BLOCK_M=64, BLOCK_N=64, num_warps=4)
    given = terms("nvidia")
    waiting = dataclasses.replace(given, scaled_chain=3 * given.scaled_chain)

    def us(dtype, formula):
        calls = side_by_side([dataclasses.replace(work, dtype=dtype)], [config])
        return predict_all(calls, H100, terms_of_formula=formula).us[0]

    assert us("fp8", waiting) > us("fp8", given)
    assert us("fp8_tensor", waiting) == us("fp8_tensor", given)


def test_operations_outside_matrix_units_take_time():
    work, config = case(H100)
    busy = dataclasses.replace(work, lane_operations_per_program=work.iterations * 128.0 * 128)
    assert predict(busy, config, H100).us > predict(work, config, H100).us


def test_widened_operands_have_the_rate_of_wide_ones():
    work, config = case(B200, BLOCK_M=128, BLOCK_N=256, num_warps=8)
    native, wide = (dataclasses.replace(work, dtype=dtype, loaded_bytes=(1, 1)) for dtype in ("fp8_tensor", "bf16"))
    assert predict(dataclasses.replace(native, widened_to="bf16"), config, B200) == predict(wide, config, B200)
    assert predict(native, config, B200).us < predict(wide, config, B200).us


def test_narrow_operand_leaves_room_for_more_programs():
    work, config = case(H100, BLOCK_M=16, BLOCK_N=128, BLOCK_K=256, num_stages=4, num_warps=4)
    wide = dataclasses.replace(work, dtype="bf16")
    narrow = dataclasses.replace(wide, loaded_bytes=(2, 0.5))
    assert used_by(narrow, config, H100).programs_per_unit[0] > used_by(wide, config, H100).programs_per_unit[0]


@pytest.mark.thorough
def test_command_ranks_and_says_that_nothing_was_measured(capsys, state):
    arguments = ["predict", "norm/rms_norm_quant", "rows=64,cols=1536", "--device", "mi355x", "--top", "5"]
    assert main(arguments) == 0
    assert "modeled, not" in capsys.readouterr().out
    assert main([*arguments, "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4, 5]
    assert all(" to " in row["modeled us"] and row["terms us"] for row in rows)
    assert main([*arguments, "--compile", "2", "--json"]) == 0
    assert len(json.loads(capsys.readouterr().out)) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["gemm/fp8_block_scaled", "m=64", "--device", "mi355x"], "missing problem fields"),
        (["gemm/fp8_block_scaled", "m=64,n=2048,k=7168", "--device", "mi35"], "unknown device"),
        (["gemm/fp8_block_scaled", "m=64,n=2048,k=7168", "--device", "h100", "--top", "0"], "--top must be positive"),
    ],
)
def test_mistakes_are_named(arguments, message, capsys):
    assert main(["predict", *arguments]) == 2
    assert message in capsys.readouterr().err
