"""The rates of a GPU, measured on a stand-in for torch.cuda, without times: what runs, and what its record becomes."""

import json

import pytest
import torch
from stand_in.cuda import standing_in

from autotune import device, own_devices
from autotune.cli import main
from autotune.kernels._matrix_rate import multiply, multiply_fp4
from autotune.own_devices import Rate
from autotune.tuning.interpreter.sanitizer import sanitized
from autotune.tuning.measurement import device_rates
from autotune.tuning.measurement.device_rates import BLOCK, Sizes

SMALL = Sizes(streamed_bytes=4096, loops=3, programs_per_unit=1)
H200 = device.named("h200")


@pytest.fixture(autouse=True)
def fresh_records(state):
    device.forget()
    yield
    device.forget()


@pytest.fixture
def clock(monkeypatch):
    """Every replay takes 4 us and runs nothing."""
    monkeypatch.setattr(device_rates, "captured", lambda launch, launches: launch)
    monkeypatch.setattr(device_rates, "elapsed_us", lambda replay: 4.0)


@pytest.mark.parametrize("dtype", ["bf16", "fp8", "tf32"])
def test_matrix_loop_adds_product_each_time(dtype):
    with standing_in("h200"), sanitized():
        a, b = device_rates.operands(dtype, H200)
    out = torch.zeros(2, BLOCK, BLOCK)
    with sanitized():
        multiply[(2,)](out, a, b, 3, BLOCK=BLOCK)
    assert torch.equal(out, torch.full_like(out, 3.0 * BLOCK))


def test_fp4_loop_adds_product_each_time():
    with standing_in("mi355x"), sanitized():
        a, b = device_rates.operands("fp4", device.named("mi355x"))
    out = torch.zeros(1, BLOCK, BLOCK)
    with sanitized():
        multiply_fp4[(1,)](out, a, b, 3, BLOCK=BLOCK)
    assert torch.equal(out, torch.full_like(out, 3.0 * BLOCK))


def test_rates_follow_work_and_time(clock, monkeypatch):
    monkeypatch.setattr(device_rates, "_tflops", lambda dtype, gpu, sizes: 1.0)
    with standing_in("h200"):
        rates = {rate.field: rate.value for rate in device_rates.measure(H200, SMALL)}
    assert rates["memory.tb_s"] == pytest.approx(2 * 4096 / 4.0 / 1e6)
    assert rates["launch_us"] == pytest.approx(4.0 / 100)
    assert rates.keys() == {"memory.tb_s", "cache.l2_tb_s", "launch_us", "tflops.fp8", "tflops.bf16", "tflops.tf32"}


def test_repeated_reads_fit_the_l2_of_one_die():
    assert device_rates.l2_share_bytes(H200) == 50 * 2**20 // 4
    assert device_rates.l2_share_bytes(device.named("mi355x")) == 2**20, "eight dies of 4 MiB"


def test_measured_figures_replace_estimates_and_keep_read_peaks():
    rates = [Rate("memory.tb_s", 4.5, "a copy"), Rate("launch_us", 1.5, "a node"), Rate("tflops.bf16", 700.0, "a loop")]
    after = own_devices.measured(H200, rates, "torch 2.13.0")
    assert (after.dram_tb_s, after.launch_us) == (4.5, 1.5)
    assert dict(after.figures)["tb_s"] == "measured: a copy; torch 2.13.0"
    assert after.tflops == H200.tflops, "read from the datasheet"
    guessed = device.named("rtx_4080")
    assert dict(own_devices.measured(guessed, rates[2:], "here").tflops)["bf16"] == 700.0


def test_command_writes_record_of_gpu_that_is_here(monkeypatch, capsys):
    rates = [Rate("memory.tb_s", 4.5, "a copy"), Rate("launch_us", 1.5, "a node")]
    monkeypatch.setattr(device_rates, "measure", lambda gpu: iter(rates))
    with standing_in("h200"):
        assert main(["devices", "measure", "--json"]) == 0
    rows = {row["figure"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["launch_us"]["record now"] == 1.5
    assert rows["memory.tb_s"]["record before"] == H200.dram_tb_s
    assert device.named("h200").dram_tb_s == 4.5, "an own record takes the place of the shipped one"
    assert main(["devices", "measure", "--like", "h100"]) == 2
