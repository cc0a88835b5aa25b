"""The command line as a whole: its help, its usage errors, and what `show` prints."""

import csv
import io
import json

import pytest

from autotune import device, table
from autotune.cli import main
from autotune.cli.output import print_json
from autotune.config import Config
from autotune.table import Row, Table

KERNEL = "norm/rms_norm"
PROBLEM = (("rows", 1), ("cols", 1536), ("residual", False))


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    return tmp_path / "tables"


def save_rows(root, *rows):
    gpu = device.named("h200")
    table.save(Table(KERNEL, gpu.arch, gpu.name, "source", rows), table.path_of(root, gpu.arch, gpu.name, KERNEL))


def row(rows, tier, evidence):
    problem = (("rows", rows), *PROBLEM[1:])
    return Row(problem, Config(ROWS=1, num_warps=4), tier, evidence, "unknown", "")


def show(capsys, *options):
    assert main(["show", "--device", "h200", *options]) == 0
    return capsys.readouterr().out


def test_show_prints_rows_that_were_only_imported(tables, capsys):
    save_rows(tables, row(1, "imported", {"from": "vllm"}))
    assert "imported" in show(capsys)


def test_show_prints_strict_json_for_unlike_rows(tables, capsys):
    save_rows(tables, row(1, "imported", {"from": "vllm"}), row(2, "modeled", {"trials": 12}))
    rows = json.loads(show(capsys, "--json"), parse_constant=pytest.fail)
    assert [(r["tier"], r.get("from"), r.get("trials")) for r in rows] == [
        ("imported", "vllm", None),
        ("modeled", None, 12),
    ]


def test_show_prints_csv_with_column_for_all_evidence(tables, capsys):
    save_rows(tables, row(1, "imported", {"from": "vllm"}), row(2, "modeled", {"proved_on": ["rows=1"], "trials": 12}))
    first, second = csv.DictReader(io.StringIO(show(capsys, "--csv")))
    assert (first["from"], first["proved_on"], first["problem"]) == ("vllm", "", "rows=1,cols=1536,residual=False")
    assert json.loads(second["proved_on"]) == ["rows=1"]


def test_show_calls_no_modeled_time_measured(tables, capsys):
    save_rows(tables, row(1, "modeled", {"modeled_us_range": [1.5, 3.0]}), row(2, "measured", {"us": 2.25}))
    lines = show(capsys).splitlines()
    assert any("modeled 1.5 to 3" in line for line in lines)
    assert any("measured" in line and "2.25" in line for line in lines)


def test_json_has_no_number_that_json_lacks(capsys):
    print_json({"a": [float("inf"), (1.5, float("nan"))], "b": Config(ROWS=1)})
    assert json.loads(capsys.readouterr().out, parse_constant=pytest.fail) == {
        "a": [None, [1.5, None]],
        "b": {"ROWS": 1},
    }


def test_no_command_shows_where_to_begin(capsys):
    assert main([]) == 2
    told = capsys.readouterr()
    assert "where to begin" in told.err
    assert not told.out


@pytest.mark.parametrize(
    ("words", "remedy"),
    [
        (["tun"], "`autotune --help`"),
        (["tune", "--trails", "3"], "`autotune tune --help`"),
        (["show"], "`autotune show --help`"),
    ],
)
def test_usage_errors_name_help_to_read(words, remedy, capsys):
    with pytest.raises(SystemExit) as leaving:
        main(words)
    assert leaving.value.code == 2
    assert remedy in capsys.readouterr().err
