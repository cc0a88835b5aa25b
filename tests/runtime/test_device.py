"""Device records: every figure says where it is from; a GPU is found by arch, units, PCI id, then memory."""

import tomllib
import warnings
from functools import cache
from types import SimpleNamespace

import pytest

from autotune import arch as archs
from autotune import device, registry, runtime
from autotune.config import values
from autotune.device_record import CONFIDENCE
from autotune.errors import DeviceError
from autotune.tuning import space

NOT_FIGURES = {"arch", "confidence", "figures"}


def figure_names(record):
    for name, value in record.items():
        if name == "tflops" or (name not in NOT_FIGURES and not isinstance(value, dict)):
            yield name
        elif name not in NOT_FIGURES:
            yield from value


@pytest.mark.parametrize("name", [record.name for record in device.records()])
def test_every_figure_has_source_and_confidence(name):
    record = tomllib.loads((device.DEVICES / f"{name}.toml").read_text())
    assert set(record["figures"]) == set(figure_names(record))
    for figure, text in record["figures"].items():
        sure, colon, source = text.partition(":")
        assert sure in CONFIDENCE, figure
        assert not colon or source.strip()
    loaded = device.target(name)
    assert loaded.dram_tb_s <= loaded.dram_peak_tb_s
    assert loaded.shared_bytes_per_block <= loaded.shared_bytes_per_unit


def hopper(memory_gb, bus=4, name=""):
    return SimpleNamespace(
        name=name,
        major=9,
        minor=0,
        multi_processor_count=132,
        total_memory=int(memory_gb * 1e9),
        pci_domain_id=0,
        pci_bus_id=bus,
        pci_device_id=0,
    )


def test_h100_and_h200_are_told_apart(tmp_path):
    assert device._identify(hopper(85, name="NVIDIA H100 80GB HBM3"), tmp_path).name == "h100"
    assert device._identify(hopper(150, name="NVIDIA H200"), tmp_path).name == "h200"
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
    ties = (
        (instinct(), "mi350x or mi355x", "mi350x"),
        (lovelace(), "l40 or l40s", "l40"),
        (hopper(150), "h200 or h200_nvl", "h200_nvl"),
    )
    for unclear, names, slowest in ties:
        with pytest.warns(UserWarning, match=names):
            assert device._identify(unclear, tmp_path).name == slowest


def test_virtual_functions_are_known_by_their_pci_ids(tmp_path):
    slot = tmp_path / "0000:83:00.0"
    slot.mkdir()
    (slot / "device").write_text("0x75b3\n")
    virtual = instinct()
    virtual.pci_domain_id, virtual.pci_bus_id, virtual.pci_device_id = 0, 0x83, 0
    assert device._identify(virtual, tmp_path).name == "mi355x"


def test_unknown_arch_is_error_with_remedy(tmp_path):
    unknown = SimpleNamespace(major=7, minor=5, multi_processor_count=7, total_memory=1)
    with pytest.raises(DeviceError, match=r"arch sm_75, which has no record; known: .* give it a record"):
        device._identify(unknown, tmp_path)


OWNED = {
    "NVIDIA H100 80GB HBM3": ("sm_90", 132, 80, "h100"),
    "NVIDIA H100 PCIe": ("sm_90", 114, 80, "h100_pcie"),
    "NVIDIA H100 NVL": ("sm_90", 132, 94, "h100_nvl"),
    "NVIDIA H200 NVL": ("sm_90", 132, 141, "h200_nvl"),
    "NVIDIA H20-3e": ("sm_90", 78, 141, "h20_3e"),
    "NVIDIA L20Y": ("sm_90", 132, 80, "l20y"),
    "NVIDIA A800-SXM4-80GB": ("sm_80", 108, 80, "a800"),
    "NVIDIA H800": ("sm_90", 132, 80, "h800"),
    "NVIDIA GH200 480GB": ("sm_90", 132, 96, None),
    "NVIDIA H100 80GB HBM3 MIG 3g.40gb": ("sm_90", 60, 40, None),
    "NVIDIA A100-SXM4-80GB": ("sm_80", 108, 80, "a100"),
    "NVIDIA A100-SXM4-40GB": ("sm_80", 108, 40, None),
    "NVIDIA A100-SXM4-40GB MIG 4g.20gb": ("sm_80", 56, 20, None),
    "NVIDIA A30": ("sm_80", 56, 24, "a30"),
    "NVIDIA A10": ("sm_86", 72, 24, "a10"),
    "NVIDIA GeForce RTX 3090": ("sm_86", 82, 24, "rtx_3090"),
    "NVIDIA RTX A6000": ("sm_86", 84, 48, None),
    "Orin": ("sm_87", 16, 64, None),
    "NVIDIA L4": ("sm_89", 58, 24, "l4"),
    "NVIDIA L20": ("sm_89", 92, 48, "l20"),
    "NVIDIA GeForce RTX 4080": ("sm_89", 76, 16, "rtx_4080"),
    "NVIDIA GeForce RTX 4090 Laptop GPU": ("sm_89", 76, 16, None),
    "NVIDIA GeForce RTX 5080": ("sm_120", 84, 16, "rtx_5080"),
    "NVIDIA GB10": ("sm_121", 48, 128, "gb10"),
    "NVIDIA Thor": ("sm_110", 20, 128, "thor"),
    "NVIDIA B300A": ("sm_103", 74, 144, None),
    "AMD Instinct MI210": ("gfx90a", 104, 64, "mi210"),
    "AMD Instinct MI300X": ("gfx942", 38, 24, "mi300x_cpx"),
    "AMD Instinct MI325X": ("gfx942", 152, 128, "mi325x_dpx"),
    "AMD Instinct MI355X": ("gfx950", 32, 36, None),
    "AMD Instinct MI300A": ("gfx942", 228, 128, "mi300a"),
    "AMD Instinct MI308X": ("gfx942", 80, 192, "mi308x"),
    "AMD Instinct MI100": ("gfx908", 120, 32, None),
    "AMD Instinct MI60": ("gfx906", 64, 32, None),
    "AMD Radeon RX 7900 XTX": ("gfx1100", 48, 24, None),
    "AMD Radeon 780M Graphics": ("gfx1103", 6, 16, None),
    "AMD Radeon 8060S Graphics": ("gfx1151", 20, 96, "strix_halo"),
    "AMD Radeon RX 9060 XT": ("gfx1200", 16, 16, None),
}
"""GPUs that people own, by the driver's name: arch, compute units, GB, from their makers' tables; and the record."""


def reported(owned, **told):
    """Properties that torch reports of one of OWNED, where the driver tells no more than it must."""
    arch, units, memory_gb, _ = OWNED[owned]
    amd = arch.startswith("gfx")
    version = {"gcnArchName": f"{arch}:sramecc+"} if amd else {"major": int(arch[3:-1]), "minor": int(arch[-1])}
    must = {"name": owned, "multi_processor_count": units, "total_memory": memory_gb * 10**9}
    return SimpleNamespace(**{**version, **must, **told})


@pytest.mark.parametrize("name", OWNED)
def test_gpu_is_named_and_serves_defaults(name, tmp_path, caplog):
    gpu = device._identify(reported(name), tmp_path)
    arch, units, memory_gb, record = OWNED[name]
    assert (gpu.arch, gpu.compute_units) == (arch, units)
    assert device.named(gpu.name) == gpu, "an op of torch knows its device by name only"
    if record:
        assert gpu.name == record
        assert not caplog.records
    else:
        assert gpu.name.startswith(f"{arch}-{units}") and gpu.dram_gb == memory_gb
        assert gpu.confidence.startswith("derived")
        (said,) = caplog.messages
        assert gpu.name in said and "default configs serve" in said and "devices add NAME --from-this-gpu" in said
    for kernel in map(registry.load, registry.names()):
        problem = first_problem(kernel.name, gpu.fp8)
        assert record or runtime.lookup(kernel, gpu)[values(problem)].how == "default"
        assert kernel.forbids(problem, kernel.default(problem, gpu), gpu) is None, kernel.name


@cache
def first_problem(kernel_name, fp8):
    """A kernel's first check problem in a GPU's FP8."""
    return space.load(registry.load(kernel_name), device.named("mi300x" if fp8 == "e4m3fnuz" else "h100")).check[0]


def test_hidden_name_of_two_equal_gpus_serves_defaults(tmp_path, caplog):
    """H100, H800 and L20Y differ in nothing that a kernel sees: no one's rows are taken for another's."""
    gpu = device._identify(hopper(85), tmp_path)
    assert gpu.name == "sm_90-132"
    assert "may be h100 or h800 or l20y" in caplog.text and "PCI id hidden" in caplog.text


def test_slice_borrows_from_gpu_that_its_pci_id_names(tmp_path):
    slot = tmp_path / "0000:05:00.0"
    slot.mkdir()
    (slot / "device").write_text("0x2335\n")
    told = reported("NVIDIA H100 80GB HBM3 MIG 3g.40gb", name="", pci_bus_id=5)
    assert device._identify(told, tmp_path).confidence.endswith("from h200")


def test_arch_without_record_is_compiled_for_as_itself(tmp_path):
    orin = device._identify(reported("Orin"), tmp_path)
    assert orin.architecture.target == ("cuda", 87, 32)
    assert orin.architecture.limits == archs.named("sm_86").limits
    assert "sm_87" not in archs.names()


def test_derived_gpu_is_not_tuned_and_says_how(tmp_path, monkeypatch):
    told = reported("NVIDIA RTX A6000")
    monkeypatch.setattr(device, "current", lambda: device._identify(told, tmp_path))
    with pytest.raises(DeviceError, match="`autotune devices add NAME --from-this-gpu` writes"):
        device.current_recorded()


def test_rates_of_partition_go_with_units_and_memory(tmp_path):
    whole, part = device.named("mi355x"), device._identify(reported("AMD Instinct MI355X"), tmp_path)
    assert part.xcds == 1
    assert part.rate("fp8") == pytest.approx(whole.rate("fp8") * 32 / 256)
    assert part.dram_tb_s == pytest.approx(whole.dram_tb_s * 36 / 288)


@pytest.mark.parametrize("whole", ["mi300x", "mi325x"])
@pytest.mark.parametrize(("mode", "parts"), [("dpx", 2), ("qpx", 4), ("cpx", 8)])
def test_partition_is_told_by_units_and_pci_id(whole, mode, parts, tmp_path):
    gpu = device.named(whole)
    (tmp_path / "0000:05:00.0").mkdir()
    (tmp_path / "0000:05:00.0/device").write_text(f"0x{gpu.pci_ids[0]}\n")
    told = reported("AMD Instinct MI300X", name="", multi_processor_count=gpu.compute_units // parts, pci_bus_id=5)
    part = device._identify(told, tmp_path)
    assert part.name == f"{whole}_{mode}"
    assert part.xcds * parts == gpu.xcds
    assert part.dram_gb * parts == gpu.dram_gb
    assert part.rate("fp8") * parts == pytest.approx(gpu.rate("fp8"))


def test_pci_id_of_another_record_speaks_against_one(tmp_path):
    """A slice of an H200 with as many units as an H20 and no name is neither an H20 nor an H20-3e."""
    (tmp_path / "0000:05:00.0").mkdir()
    (tmp_path / "0000:05:00.0/device").write_text("0x2335\n")
    told = reported("NVIDIA H20-3e", name="", pci_bus_id=5)
    assert device._identify(told, tmp_path).confidence.endswith("from h200")


def test_driver_tells_bandwidth_cache_and_clock(tmp_path):
    told = reported("NVIDIA RTX A6000", memory_clock_rate=8_001_000, memory_bus_width=384)
    told.L2_cache_size, told.clock_rate = 6 * 2**20, 1_800_000
    gpu = device._identify(told, tmp_path)
    assert gpu.dram_peak_tb_s == pytest.approx(0.768, rel=0.01)
    assert (gpu.l2_mb, gpu.clock_ghz) == (6, pytest.approx(1.8))
