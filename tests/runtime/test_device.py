"""Device records: every figure says where it is from; a GPU is found by arch, units, PCI id, then memory."""

import tomllib
import warnings
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
def test_every_figure_has_source_and_confidence(name):
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


def instinct(name="", clock_ghz=0.0):
    return SimpleNamespace(
        gcnArchName="gfx950:sramecc+:xnack-",
        multi_processor_count=256,
        total_memory=309_000_000_000,
        name=name,
        clock_rate=int(clock_ghz * 1e6),
    )


def lovelace(name="", clock_ghz=0.0):
    return SimpleNamespace(
        major=8,
        minor=9,
        multi_processor_count=142,
        total_memory=48_000_000_000,
        name=name,
        clock_rate=int(clock_ghz * 1e6),
    )


def test_name_or_clock_tells_what_hidden_pci_id_does_not(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert device._identify(instinct("AMD Instinct MI355X VF"), tmp_path).name == "mi355x"
        assert device._identify(instinct("AMD Instinct MI350X"), tmp_path).name == "mi350x"
        assert device._identify(instinct("AMD Radeon Graphics", clock_ghz=2.4), tmp_path).name == "mi355x"
        assert device._identify(instinct(clock_ghz=2.2), tmp_path).name == "mi350x"
        assert device._identify(lovelace("NVIDIA L40S"), tmp_path).name == "l40s"
        assert device._identify(lovelace("NVIDIA L40"), tmp_path).name == "l40"
        assert device._identify(lovelace(clock_ghz=2.52), tmp_path).name == "l40s"


def test_tie_of_records_is_said_aloud(tmp_path):
    for unclear, names, slowest in ((instinct(), "mi350x or mi355x", "mi350x"), (lovelace(), "l40 or l40s", "l40")):
        with pytest.warns(UserWarning, match=names):
            assert device._identify(unclear, tmp_path).name == slowest


def test_virtual_functions_are_known_by_their_pci_ids(tmp_path):
    slot = tmp_path / "0000:83:00.0"
    slot.mkdir()
    (slot / "device").write_text("0x75b3\n")
    virtual = instinct()
    virtual.pci_domain_id, virtual.pci_bus_id, virtual.pci_device_id = 0, 0x83, 0
    assert device._identify(virtual, tmp_path).name == "mi355x"


def test_unknown_gpu_is_error_with_remedy(tmp_path):
    unknown = SimpleNamespace(major=9, minor=9, multi_processor_count=7, total_memory=1)
    with pytest.raises(DeviceError, match="add a file there"):
        device._identify(unknown, tmp_path)
