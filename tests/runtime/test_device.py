"""Device records: every figure says where it is from; a GPU is found by arch, units, PCI id, then memory."""

import tomllib
import warnings
from types import SimpleNamespace

import pytest

from autotune import device, present_device, registry, runtime
from autotune.config import values
from autotune.errors import DeviceError
from autotune.tuning import space

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
    assert present_device._identify(hopper(85), tmp_path).name == "h100"
    assert present_device._identify(hopper(150), tmp_path).name == "h200"
    slot = tmp_path / "0000:1b:00.0"
    slot.mkdir()
    (slot / "device").write_text("0x2335\n")
    assert present_device._identify(hopper(85, bus=0x1B), tmp_path).name == "h200", "the PCI id goes before the memory"


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
        assert present_device._identify(instinct("AMD Instinct MI355X VF"), tmp_path).name == "mi355x"
        assert present_device._identify(instinct("AMD Instinct MI350X"), tmp_path).name == "mi350x"
        assert present_device._identify(instinct("AMD Radeon Graphics", clock_ghz=2.4), tmp_path).name == "mi355x"
        assert present_device._identify(instinct(clock_ghz=2.2), tmp_path).name == "mi350x"
        assert present_device._identify(lovelace("NVIDIA L40S"), tmp_path).name == "l40s"
        assert present_device._identify(lovelace("NVIDIA L40"), tmp_path).name == "l40"
        assert present_device._identify(lovelace(clock_ghz=2.52), tmp_path).name == "l40s"


def test_tie_of_records_is_said_aloud(tmp_path):
    for unclear, names, slowest in ((instinct(), "mi350x or mi355x", "mi350x"), (lovelace(), "l40 or l40s", "l40")):
        with pytest.warns(UserWarning, match=names):
            assert present_device._identify(unclear, tmp_path).name == slowest


def test_virtual_functions_are_known_by_their_pci_ids(tmp_path):
    slot = tmp_path / "0000:83:00.0"
    slot.mkdir()
    (slot / "device").write_text("0x75b3\n")
    virtual = instinct()
    virtual.pci_domain_id, virtual.pci_bus_id, virtual.pci_device_id = 0, 0x83, 0
    assert present_device._identify(virtual, tmp_path).name == "mi355x"


def test_unknown_arch_is_error_with_remedy(tmp_path):
    unknown = SimpleNamespace(major=9, minor=9, multi_processor_count=7, total_memory=1)
    with pytest.raises(DeviceError, match=r"arch sm_99, which has no record; known: .* give it a record"):
        present_device._identify(unknown, tmp_path)


OWNED = {
    "H100 PCIe": ("sm_90", 114, 80),
    "H100 MIG 3g.40gb": ("sm_90", 60, 40),
    "A10": ("sm_86", 72, 24),
    "RTX 3090": ("sm_86", 82, 24),
    "L4": ("sm_89", 58, 24),
    "L20": ("sm_89", 92, 48),
    "RTX 4080": ("sm_89", 76, 16),
    "RTX 5080": ("sm_120", 84, 16),
    "GB10": ("sm_121", 48, 128),
    "Jetson Thor": ("sm_110", 20, 128),
    "MI210": ("gfx90a", 104, 64),
    "MI308X": ("gfx942", 80, 192),
    "MI300X in CPX mode": ("gfx942", 38, 24),
    "MI300A": ("gfx942", 228, 128),
    "MI100": ("gfx908", 120, 32),
    "RX 7900 XTX": ("gfx1100", 48, 24),
    "Strix Halo": ("gfx1151", 20, 96),
    "RX 9060 XT": ("gfx1200", 16, 16),
}
"""GPUs without a record: arch, compute units and GB, from their makers' tables."""


def reported(name):
    """Properties that torch reports of one of OWNED, where the driver tells no more than it must."""
    arch, units, memory_gb = OWNED[name]
    amd = arch.startswith("gfx")
    version = {"gcnArchName": f"{arch}:sramecc+"} if amd else {"major": int(arch[3:-1]), "minor": int(arch[-1])}
    return SimpleNamespace(**version, name=name, multi_processor_count=units, total_memory=memory_gb * 10**9)


@pytest.mark.parametrize("name", OWNED)
def test_gpu_without_record_serves_defaults(name, tmp_path, caplog):
    gpu = present_device._identify(reported(name), tmp_path)
    arch, units, memory_gb = OWNED[name]
    assert (gpu.arch, gpu.compute_units, gpu.dram_gb) == (arch, units, memory_gb)
    assert gpu.confidence.startswith("derived")
    assert device.named(gpu.name) == gpu, "an op of torch knows its device by name only"
    assert len(caplog.records) == 1
    assert gpu.name in caplog.text and "default configs serve" in caplog.text
    for kernel in map(registry.load, registry.names()):
        problem = space.load(kernel, gpu).check[0]
        assert runtime.lookup(kernel, gpu)[values(problem)].how == "default"
        assert kernel.forbids(problem, kernel.default(problem, gpu), gpu) is None, kernel.name


def test_rates_of_partition_go_with_units_and_memory(tmp_path):
    whole, part = device.named("mi300x"), present_device._identify(reported("MI300X in CPX mode"), tmp_path)
    assert part.xcds == 1
    assert part.rate("fp8") == pytest.approx(whole.rate("fp8") * 38 / 304)
    assert part.dram_tb_s == pytest.approx(whole.dram_tb_s * 24 / 192)


def test_driver_tells_bandwidth_cache_and_clock(tmp_path):
    told = reported("H100 PCIe")
    told.memory_clock_rate, told.memory_bus_width = 1_593_000, 5120
    told.L2_cache_size, told.clock_rate = 50 * 2**20, 1_755_000
    gpu = present_device._identify(told, tmp_path)
    assert gpu.dram_peak_tb_s == pytest.approx(2.04, rel=0.01)
    assert (gpu.l2_mb, gpu.clock_ghz) == (50, pytest.approx(1.755))
