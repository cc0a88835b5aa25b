"""The GPUs of a machine as the driver tells them, and what their device record says."""

from types import SimpleNamespace

import pytest
import torch
from stand_in.cuda import NAMES, PROPERTIES, standing_in

from autotune import device as devices
from autotune import registry
from autotune.cli import benches
from autotune.errors import DeviceError, UsageError
from autotune.tuning.measurement import driver, gpu, hardware


def two_kinds(number):
    kind = ("h200", "mi355x", "h200")[number]
    return SimpleNamespace(name=NAMES[kind], **PROPERTIES[kind])


def test_gpus_of_another_kind_are_left_alone_and_named(capsys):
    with standing_in("h200", device_count=lambda: 3, get_device_properties=two_kinds):
        assert hardware.present("h200") == hardware.Present((0, 2), ("GPU 1 is mi355x",))
        bench = benches.named("gpu", devices.named("h200"))
        assert (bench.slots, bench.kind) == (2, "h200")
        assert "GPU 1 is mi355x; left alone" in capsys.readouterr().err
        with pytest.raises(UsageError, match="GPU 0 is h200"):
            benches.named("gpu", devices.named("b200"))


def test_lanes_open_gpus_of_their_kind(monkeypatch):
    opened = []
    monkeypatch.setattr(gpu, "GpuMeter", opened.append)
    with standing_in("h200", device_count=lambda: 3, get_device_properties=two_kinds):
        for slot in range(3):
            gpu.Gpu(3, "h200").open(slot)
        with pytest.raises(DeviceError, match="no b200"):
            gpu.Gpu(1, "b200").open(0)
    assert opened == [0, 2, 0]


def test_differences_of_record_and_driver_are_told():
    told = PROPERTIES["h200"] | {"L2_cache_size": 60 << 20, "clock_rate": 1_980_000, "total_memory": 80_000_000_000}
    reported = SimpleNamespace(name="NVIDIA H200", **told)
    with standing_in("h200", get_device_properties=lambda number: reported):
        found = " ".join(hardware.differences(devices.named("h200"), 0))
        assert "L2: the record says 50 MiB, the driver 60" in found
        assert "memory: the record says 141 GB, the driver 80" in found
        assert "clock" not in found
        assert hardware.last_level_bytes(devices.named("h200"), 0) == 60 << 20


def test_busy_gpu_is_not_measured_on(monkeypatch):
    monkeypatch.setattr(gpu, "_QUIET_S", 0.0)
    with standing_in("h200"):
        monkeypatch.setattr(gpu.GpuMeter, "_elapsed_us", lambda meter, call: 2000.0)
        with pytest.raises(DeviceError, match="GPU 0 is busy"):
            gpu.Gpu(kind="h200").open(0)


def test_driver_libraries_that_break_tell_nothing(monkeypatch):
    def broken(index):
        raise OSError("the library says something else in each release")

    monkeypatch.setattr(torch.cuda, "clock_rate", broken)
    assert (driver.clock_mhz(0), driver.held_back(0)) == (None, None)
    monkeypatch.setattr(driver, "_amdsmi", lambda index: ("HBM thermal",))
    assert driver.held_back(0) == ("HBM thermal",)


def test_tensors_of_another_gpu_are_refused():
    kernel = registry.load("norm/rms_norm")
    message = r"cuda:0, the current GPU is cuda:1; .*torch.cuda.device\(0\)"
    with standing_in("h200", current_device=lambda: 1), pytest.raises(DeviceError, match=message):
        kernel.home((torch.ones(2, device="cuda"),))
