"""Arch records: every figure has a source; an arch is one record; what is unknown says how to be added."""

import ast
import dataclasses
import json
from pathlib import Path

import pytest

import autotune
from autotune import arch as archs
from autotune import device
from autotune.arch import Arch
from autotune.cli import main
from autotune.config import Config
from autotune.device_record import CONFIDENCE
from autotune.errors import DeviceError
from autotune.kernel import Work
from autotune.toolchain import compilers_for
from autotune.tuning.compilation import launch, matrix
from autotune.tuning.compilation.occupancy import programs_per_unit

ROOT = Path(autotune.__file__).resolve().parents[1]
FIELDS = {field.name for field in dataclasses.fields(Arch)} - {"name", "figures"}
FP8_WORK = Work(1, 1.0, 1.0, 1.0, 1, "fp8")


@pytest.mark.parametrize("name", archs.names())
def test_every_figure_of_arch_has_source_and_confidence(name):
    record = archs.named(name)
    assert set(record.figures) == FIELDS
    for figure, text in record.figures.items():
        sure, _, source = text.partition(":")
        assert sure in CONFIDENCE, figure
        assert source.strip(), figure
    assert device.of_arch(name) == device.target(record.stand_in) or record.is_gpu


@pytest.mark.parametrize("name", archs.gpus())
def test_gpus_have_stand_in_and_occupancy(name):
    assert archs.named(name).stand_in in device.names()
    assert programs_per_unit(device.of_arch(name), 32, 1024, 4) > 0


def test_vendor_is_one_of_three():
    assert {archs.named(name).vendor for name in archs.gpus()} == {"nvidia", "amd"}
    assert archs.npus() == archs.names("huawei") == ["ascend910b", "ascend950"]
    assert sorted([*archs.gpus(), *archs.npus()]) == sorted(archs.names())


@pytest.mark.parametrize("name", archs.npus())
def test_npus_refuse_in_words_what_only_gpus_have(name):
    npu = device.target(name)
    limits = npu.architecture.limits
    for asked in (
        lambda: limits.warps,
        lambda: limits.thread_registers,
        lambda: programs_per_unit(npu, 32, 1024, 4),
        lambda: compilers_for(name),
        lambda: launch.target_of(name),
        lambda: device.named(npu.name),
    ):
        with pytest.raises(DeviceError, match=r"NPU|machine code for ascend.*`autotune compile --target`"):
            asked()
    with pytest.raises(DeviceError, match="it has no AI core; name one of ascend910b, ascend950"):
        _ = archs.named("sm_90").ai_core


@pytest.mark.parametrize(
    "words",
    [
        ["tune", "norm/rms_norm", "--device", "ascend950pr", "--problem", "rows=64,cols=7168"],
        ["explain", "norm/rms_norm", "rows=64,cols=7168", "--device", "Ascend910B2"],
        ["predict", "norm/rms_norm", "rows=64,cols=7168", "--device", "ascend950"],
        ["show", "--device", "ascend910c"],
        ["estimate", "--device", "ascend950pr"],
    ],
)
def test_commands_of_tables_and_times_refuse_npus(words, capsys):
    assert main(words) == 2
    said = capsys.readouterr().err
    assert "is an NPU: no kernel is tuned, measured or served on it; `autotune compile --target`" in said


def test_npus_are_listed_with_gpus(capsys):
    assert main(["devices", "--json"]) == 0
    listed = {row["device"]: row for row in json.loads(capsys.readouterr().out)}
    assert {"ascend910b2", "ascend910c", "ascend950pr", "mi355x"} <= listed.keys()
    assert listed["ascend950pr"]["figures"]["bishengir"].startswith("read:")


def test_unknown_gpu_is_no_relation_of_npus():
    with pytest.raises(DeviceError, match="which has no record"):
        archs.family("unheard_of")


@pytest.mark.parametrize("name", [record.name for record in device.records()])
def test_devices_have_shared_memory_of_their_arch(name):
    gpu = device.target(name)
    arch = gpu.architecture
    shared = (gpu.shared_bytes_per_block, gpu.shared_bytes_per_unit)
    assert shared == (arch.shared_bytes_per_block, arch.shared_bytes_per_unit)


def test_no_module_but_arch_compares_arch_by_name():
    named = []
    for path in [*(ROOT / "autotune").rglob("*.py"), *(ROOT / "kernels").rglob("*.py")]:
        if path.name == "arch.py":
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Compare):
                named += [f"{path}: {n.value}" for n in ast.walk(node) if getattr(n, "value", None) in archs.names()]
    assert not named


def with_device(tmp_path, monkeypatch, arch):
    text = (device.DEVICES / "rtx_5090.toml").read_text()
    (tmp_path / "own_gpu.toml").write_text(text.replace('arch = "sm_120"', f'arch = "{arch}"'))
    for path in device.DEVICES.glob("*.toml"):
        (tmp_path / path.name).write_text(path.read_text())
    monkeypatch.setattr(device, "DEVICES", tmp_path)
    device.forget()


@pytest.fixture(autouse=True)
def fresh_records():
    yield
    device.forget()


def test_device_of_unknown_arch_names_missing_record(tmp_path, monkeypatch):
    with_device(tmp_path, monkeypatch, "sm_999")
    with pytest.raises(DeviceError, match=r"own_gpu\.toml: unknown arch 'sm_999'.*arch\.py.*limits.*ladder"):
        device.named("own_gpu")


def test_one_record_makes_arch_compile_and_count(tmp_path, monkeypatch):
    added = dataclasses.replace(archs.named("sm_120"), name="sm_999", ladder=None)
    monkeypatch.setitem(archs._RECORDS, "sm_999", added)
    gpu = device.target("sm_999")
    assert (gpu.name, gpu.arch, gpu.warp_size, gpu.vendor) == ("sm_999", "sm_999", 32, "nvidia")
    assert gpu.confidence.startswith("placeholder")
    assert programs_per_unit(gpu, 128, 0, 4) == 4
    assert matrix.shortfall(["mma.sync"], FP8_WORK, Config(BLOCK_M=64), gpu) == matrix.NOT_JUDGED
    with_device(tmp_path, monkeypatch, "sm_999")
    assert device.of_arch("sm_999").name == "own_gpu"


@pytest.mark.parametrize("name", ["rtx_5090", "rtx_4090", "r9700", "mi250x", "a100"])
def test_emulated_fp8_product_is_best_nowhere(name):
    emitted = ["mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32"]
    assert matrix.shortfall(emitted, FP8_WORK, Config(BLOCK_M=128), device.named(name))


@pytest.mark.parametrize(
    ("given", "hint"),
    [
        ("mi355", "did you mean 'mi355x'?"),
        ("b300a", "did you mean 'b300'? If it is none of these, to add it: `autotune devices add b300a"),
        ("sm90a", "did you mean 'sm_90'?"),
        ("mi100", "autotune devices add mi100 --like RECORD"),
        ("gh200", "autotune devices add gh200 --like RECORD"),
        ("sm_999", "to add sm_999, give it a record"),
    ],
)
def test_hints_name_same_gpu_or_say_how_to_add_one(given, hint, capsys):
    assert main(["compile", "norm/rms_norm", "--target", given]) == 2
    said = capsys.readouterr().err
    assert hint in said
    assert ("did you mean" in said) == ("did you mean" in hint)


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("MI300X", "mi300x"),
        ("B200", "b200"),
        ("GB200", "gb200"),
        ("NVIDIA H100 80GB HBM3", "h100"),
        ("AMD_Instinct_MI355X", "mi355x"),
        ("rtx-pro-6000", "rtx_pro_6000"),
    ],
)
def test_every_spelling_names_device(given, name):
    assert device.named(given).name == device.target(given).name == name
    assert main(["explain", "norm/rms_norm", "rows=64,cols=7168", "--device", given]) == 0


@pytest.mark.parametrize(("given", "arch"), [("gfx950", "gfx950"), ("SM90", "sm_90"), ("sm_103", "sm_103")])
def test_arch_is_target_of_compiler(given, arch):
    assert device.target(given) == device.of_arch(arch)


def test_arch_given_for_device_is_answered_with_its_devices():
    with pytest.raises(DeviceError, match="of these devices: mi350x, mi355x"):
        device.named("gfx950")


def test_two_devices_of_one_arch_are_two_rows(capsys):
    assert main(["compile", "norm/rms_norm", "--target", "MI300X,mi308x,GFX942", "--json"]) == 0
    assert [row["target"] for row in json.loads(capsys.readouterr().out)] == ["mi300x", "mi308x", "gfx942"]
