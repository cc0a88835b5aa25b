"""Records of one's own: written into the user's folder, read beside the shipped ones, and as good as these."""

import json
import shutil
import tomllib
from types import SimpleNamespace

import pytest

from autotune import device, device_record, runtime
from autotune.cli import main
from autotune.errors import DeviceError
from autotune.state import state_root

SLICE = ("devices", "add", "h100_half", "--like", "h100", "--set", "compute_units=66", "--set", "memory.gb=40")


@pytest.fixture(autouse=True)
def fresh_records(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_STATE", str(tmp_path / "state"))
    device.forget()
    yield
    device.give_folder(None)
    device.forget()


@pytest.mark.parametrize("name", device.names())
def test_record_is_what_is_written_of_it(name):
    written = tomllib.loads(device_record.dumps(device_record.content(device.named(name))))
    assert device_record.parse(name, written, name) == device.named(name)


def test_rates_of_added_device_follow_units_and_memory():
    assert main([*SLICE]) == 0
    whole, half = device.named("h100"), device.named("h100_half")
    assert half.rate("fp8") == pytest.approx(whole.rate("fp8") / 2)
    assert half.dram_tb_s == pytest.approx(whole.dram_tb_s / 2)
    assert dict(half.figures)["compute_units"] == "unconfirmed: given with --set"
    assert dict(half.figures)["tflops"] == "derived: from the record of h100"
    assert device.named("H100-Half") == half, "a spelling names it too"


def test_gpu_here_is_found_again_by_its_record(tmp_path, monkeypatch):
    properties = SimpleNamespace(
        name="NVIDIA H100 80GB HBM3 MIG 3g.40gb",
        major=9,
        minor=0,
        multi_processor_count=60,
        total_memory=42 * 10**9,
    )
    here = device._identify(properties, tmp_path)
    monkeypatch.setattr(device, "current", lambda: here)
    monkeypatch.setattr("torch.cuda.current_device", lambda: 0)
    monkeypatch.setattr("torch.cuda.get_device_properties", lambda number: properties)
    assert main(["devices", "add", "mig_half", "--from-this-gpu"]) == 0
    assert device._identify(properties, tmp_path).name == "mig_half"
    assert device.called("NVIDIA H100 80GB HBM3 MIG 3g.40gb") == "mig_half"


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["add", "other", "--like", "h100", "--set", "units=3"], "--set units: no such field; there are arch"),
        (["add", "other", "--like", "h100", "--set", "compute_units=some"], "compute_units=some: must be an integer"),
        (["add", "other", "--like", "h100", "--set", "memory.tb_s=9"], "memory.tb_s must be at most memory.peak_tb_s"),
        (["add", "other", "--like", "h100", "--set", "compute_units"], "must be FIELD=VALUE"),
        (["add", "other", "--like", "h100", "--set", "arch=sm_999"], "unknown arch 'sm_999'"),
        (["add", "other", "--like", "nothing"], "unknown device 'nothing'"),
        (["add", "h200", "--like", "h100"], "'h200' means h200, which has a record"),
        (["add", "../h2", "--like", "h100"], "a record's name has small letters"),
        (["add", "sm_90", "--like", "h100"], "and is no arch"),
        (["add", "other"], "needs one NAME, and --from-this-gpu or --like RECORD"),
        (["add", "other", "--from-this-gpu"], "no GPU is visible to torch"),
    ],
)
def test_refusal_says_field_and_remedy(words, remedy, capsys):
    assert main(["devices", *words]) == 2
    assert remedy in capsys.readouterr().err
    assert not list(device.own_folder().glob("*"))


def test_file_is_never_overwritten(capsys):
    assert main([*SLICE]) == 0
    assert main([*SLICE]) == 2
    assert "h100_half.toml is there already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("broken", "words"),
    [
        ("arch = ", "cannot be read as TOML"),
        ('arch = "sm_90"', "confidence must be a string, got None"),
        (("compute_units = 132", "compute_units = 0"), "compute_units must be a positive integer, got 0"),
        (("bf16 = 989", "bf16 = 'fast'"), "tflops.bf16 must be a positive number"),
        (("[memory]", "[memories]"), "memory.gb must be a positive number, got None"),
        (('arch = "sm_90"', 'arch = "sm_999"'), "unknown arch 'sm_999'; known"),
    ],
)
def test_broken_record_is_named_and_breaks_nothing_else(broken, words, caplog):
    shipped = (device.DEVICES / "h100.toml").read_text()
    text = broken if isinstance(broken, str) else shipped.replace(*broken)
    path = device.own_folder() / "mine.toml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert "mine" not in device.names() and "h100" in device.names()
    assert device.names() and len(caplog.messages) == 1, "said once"
    assert str(path) in caplog.text and words in caplog.text
    with pytest.raises(DeviceError) as refused:
        device.named("mine")
    assert str(path) in str(refused.value) and words in str(refused.value)
    assert device.target("sm_90").name == "h100"


def test_own_record_takes_place_of_shipped_one():
    device.own_folder().mkdir(parents=True)
    shutil.copy(device.DEVICES / "h100.toml", path := device.own_folder() / "h100.toml")
    path.write_text(path.read_text().replace("\ntb_s = 3 ", "\ntb_s = 2.5 "))
    assert device.named("h100").dram_tb_s == 2.5


def test_folder_of_records_is_read_for_one_command(tmp_path, capsys):
    assert main(["devices", "--devices", str(tmp_path / "absent")]) == 2
    assert "absent: no folder is there; name one with records" in capsys.readouterr().err
    (shared := tmp_path / "shared").mkdir()
    where = ["--devices", str(shared)]
    assert main([*SLICE, *where]) == 0
    assert [path.name for path in shared.iterdir()] == ["h100_half.toml"]
    assert main(["explain", "norm/rms_norm_quant", "rows=64,cols=7168", "--device", "h100_half", *where]) == 0
    assert main(["explain", "norm/rms_norm_quant", "rows=64,cols=7168", "--device", "h100_half"]) == 2
    assert "unknown device 'h100_half'" in capsys.readouterr().err


def test_record_of_given_folder_goes_before_users_own(tmp_path):
    assert main([*SLICE]) == 0
    path = device.own_folder() / "h100_half.toml"
    device.give_folder(tmp_path)
    (tmp_path / path.name).write_text(path.read_text().replace("compute_units = 66", "compute_units = 60"))
    assert device.named("h100_half").compute_units == 60
    device.give_folder(None)
    assert device.named("h100_half").compute_units == 66


@pytest.mark.slow
@pytest.mark.parametrize("given", [False, True], ids=["own folder", "given folder"])
def test_added_device_compiles_predicts_tunes_and_serves(given, tmp_path, capsys, monkeypatch):
    folder = tmp_path / "records" if given else state_root() / "devices"
    folder.mkdir(parents=True)
    own = ["--devices", str(folder)] if given else []
    assert main([*SLICE, *own]) == 0
    assert (folder / "h100_half.toml").exists()
    kernel, problem = "norm/rms_norm_quant", "rows=64,cols=7168"
    assert main(["compile", kernel, "--target", "h100_half", *own]) == 0
    assert main(["predict", kernel, problem, "--device", "h100_half", *own]) == 0
    tables = tmp_path / "tables"
    where = ["--device", "h100_half", "--tables", str(tables), *own]
    assert main(["tune", kernel, "--problem", problem, *where, "--bench", "simulated:3", "--trials", "6"]) == 0
    assert main(["tune", kernel, "--problem", problem, *where, "--trials", "4"]) == 0
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tables))
    runtime.forget()
    capsys.readouterr()
    assert main(["explain", kernel, problem, "--device", "h100_half", "--json", *own]) == 0
    assert "exact" in json.dumps(json.loads(capsys.readouterr().out))
    runtime.forget()
