"""Device records: every figure says where it is from; a GPU is found by arch, units, PCI id, then memory."""

import tomllib
from types import SimpleNamespace

import pytest

from autotune import device
from autotune.errors import DeviceError

NOT_FIGURES = {"arch", "confidence", "figures"}


def figure_names(record):
    for name, value in record.items():
        if name == "tflops" or (name not in NOT_FIGURES and not isinstance(value, dict)):
            yield name
        elif name not in NOT_FIGURES:
            yield from value


@pytest.mark.parametrize("name", device.names())
def test_every_figure_has_a_source_and_a_confidence(name):
    record = tomllib.loads((device.DEVICES / f"{name}.toml").read_text())
    assert set(record["figures"]) == set(figure_names(record))
    for figure, text in record["figures"].items():
        sure, colon, source = text.partition(":")
        assert sure in device.CONFIDENCE, figure
        assert not colon or source.strip()
    loaded = device.named(name)
    assert loaded.dram_tb_s <= loaded.dram_peak_tb_s
    assert loaded.shared_bytes_per_block <= loaded.shared_bytes_per_unit


def hopper(memory_gb, bus=4):
    return SimpleNamespace(
        major=9,
        minor=0,
        multi_processor_count=132,
        total_memory=int(memory_gb * 1e9),
        pci_domain_id=0,
        pci_bus_id=bus,
        pci_device_id=0,
    )


def test_h100_and_h200_are_told_apart(tmp_path):
    assert device._identify(hopper(85), tmp_path).name == "h100"
    assert device._identify(hopper(150), tmp_path).name == "h200"
    slot = tmp_path / "0000:1b:00.0"
    slot.mkdir()
    (slot / "device").write_text("0x2335\n")
    assert device._identify(hopper(85, bus=0x1B), tmp_path).name == "h200", "the PCI id goes before the memory"


def test_an_unknown_gpu_is_an_error_with_a_remedy(tmp_path):
    unknown = SimpleNamespace(major=9, minor=9, multi_processor_count=7, total_memory=1)
    with pytest.raises(DeviceError, match="add a file there"):
        device._identify(unknown, tmp_path)
