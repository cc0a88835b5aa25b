"""The command line as a whole: its help, its usage errors, and what `show` prints."""

import argparse
import csv
import io
import json
import os
import subprocess
import sys

import pytest

from autotune import device, table
from autotune.cli import main, tune
from autotune.cli.effort import EFFORTS
from autotune.cli.output import print_json, show_rows
from autotune.cli.progress import progress_bar
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


def test_start_screen_is_short_and_names_the_full_help(capsys):
    main([])
    said = capsys.readouterr().err
    assert len(said.splitlines()) < 10
    assert "autotune --help" in said


@pytest.mark.parametrize(
    "words",
    [["list"], ["list", "--hot-paths"], ["devices"], ["show", "--device", "mi355x"], ["show", "--device", "b200"]],
)
def test_tables_for_people_fit_100_columns(words, capsys):
    assert main(words) == 0
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) > 10
    assert max(map(len, lines)) <= 100
    assert not [line for line in lines if line != line.rstrip()]


def test_wide_rows_of_show_take_one_line_each(tables, capsys):
    save_rows(tables, row(1, "modeled", {"modeled_us_range": [1.5, 3.0]}), row(2, "measured", {"us": 2.25}))
    lines = show(capsys, "--wide").splitlines()
    assert sum("rows=" in line and "num_warps=4" in line for line in lines) == 2


def test_show_says_once_what_all_rows_share(tables, capsys):
    save_rows(
        tables, row(1, "modeled", {"modeled_us_range": [1.5, 3.0]}), row(8, "modeled", {"modeled_us_range": [2, 4]})
    )
    said = show(capsys)
    assert "no time was measured" in said
    assert said.count("cols=1536") == said.count("num_warps=4") == 1
    assert "1.5-3" in said


def test_hot_paths_are_listed_by_name(capsys):
    assert main(["list", "--hot-paths", "--csv"]) == 0
    by_name = {row["what"]: row for row in csv.DictReader(io.StringIO(capsys.readouterr().out))}
    assert by_name["FP8 block-scaled GEMM"]["hot path"] == "K6"
    assert "gemm/fp8_block_scaled" in by_name["FP8 block-scaled GEMM"]["kernels"]


def test_brief_list_imports_no_kernel():
    code = "import sys; from autotune.cli import main; main(['list']); sys.exit('torch' in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True, capture_output=True)


def test_empty_columns_are_left_out_and_markup_is_text(capsys):
    show_rows([{"a": "[bold]x", "b": None}, {"a": "y", "b": None}], as_json=False)
    said = capsys.readouterr().out
    assert "[bold]x" in said
    assert " b" not in said


@pytest.mark.parametrize(("wanted", "coloured"), [({}, True), ({"NO_COLOR": "1"}, False)])
def test_no_color_turns_colours_off(wanted, coloured):
    code = """
import argparse
from autotune.cli.progress import progress_bar
with progress_bar(argparse.Namespace(quiet=False, verbose=False)) as update:
    update("search", 1, 2)
"""
    environment = {name: value for name, value in os.environ.items() if name != "NO_COLOR"} | wanted
    environment |= {"FORCE_COLOR": "1", "TERM": "xterm-256color"}
    ended = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert "search" in ended.stderr
    assert ("\x1b[3" in ended.stderr) is coloured


def test_bar_shows_numbers_beside_long_words():
    code = """
import argparse
from autotune.cli.progress import progress_bar
with progress_bar(argparse.Namespace(quiet=False, verbose=False)) as update:
    for done in range(10):
        update("moe/mxfp4_grouped_gemm on mi355x: search", done, 9, "best 1.49x, failed: 3")
"""
    wanted = {"NO_COLOR": "1", "FORCE_COLOR": "1", "TERM": "xterm-256color", "COLUMNS": "100"}
    ended = subprocess.run(
        [sys.executable, "-c", code], env={**os.environ, **wanted}, capture_output=True, text=True, check=True
    )
    (shown, *_) = [line for line in ended.stderr.splitlines() if "9/9" in line]
    assert "/s" in shown and "search, best 1.49x, failed: 3" in shown


@pytest.mark.parametrize("name", EFFORTS)
def test_effort_sets_the_budget_and_options_go_before_it(name, monkeypatch):
    plans = []
    monkeypatch.setattr(tune, "run_all", lambda asked, arguments: plans.extend(each.plan for each in asked) or 0)
    words = ["tune", KERNEL, "--device", "mi355x", "--bench", "none", "--effort", name]
    main(words)
    main([*words, "--trials", "7", "--until-gain", "3"])
    preset, given = (plan.budget for plan in plans)
    gain = EFFORTS[name].until_gain
    assert (preset.trials, preset.until_gain) == (EFFORTS[name].trials, gain and gain / 100)
    assert (given.trials, given.until_gain) == (7, 0.03)


def test_effort_does_not_go_with_exhaustive(capsys):
    assert main(["tune", KERNEL, "--device", "mi355x", "--exhaustive", "--effort", "quick"]) == 2
    assert "--effort" in capsys.readouterr().err


def logged(capsys, *, quiet=False, verbose=False):
    """Lines of a stage of ten steps of 100 seconds, in a log."""
    seconds = iter(range(0, 10000, 100))
    with progress_bar(argparse.Namespace(quiet=quiet, verbose=verbose), clock=lambda: next(seconds)) as update:
        for done in range(10):
            update("search", done + 1, 10, "best so far")
    return capsys.readouterr().err.splitlines()


def test_progress_in_a_log_says_rate_and_time_left(capsys):
    lines = logged(capsys)
    assert "search: 5/10, 0.6/min, 8 min left, best so far" in lines
    assert lines[-1] == "search: 10/10, 17 min, best so far"


def test_progress_in_a_log_is_rare_unless_it_is_asked_for(capsys, monkeypatch):
    monkeypatch.setattr("autotune.cli.progress._SECONDS_BETWEEN_LINES", 400)
    assert len(logged(capsys)) == 3
    assert len(logged(capsys, verbose=True)) == 10
    assert logged(capsys, quiet=True) == []


def test_verbose_says_where_an_error_was_raised(capsys):
    assert main(["show", "--device", "no_such_device"]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert main(["show", "--device", "no_such_device", "-v"]) == 2
    assert "Traceback" in capsys.readouterr().err


def test_version_is_printed(capsys):
    with pytest.raises(SystemExit) as leaving:
        main(["--version"])
    assert leaving.value.code == 0
    assert capsys.readouterr().out.startswith("autotune ")


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_code_for_the_shell(shell, capsys):
    assert main(["completion", shell]) == 0
    assert "autotune" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("line", "completions"),
    [
        ("autotune dev", ["devices"]),
        ("autotune tune gemm/fp8_b", ["gemm/fp8_block_scaled"]),
        ("autotune show --device mi355", ["mi355x"]),
        ("autotune tune --effort th", ["thorough"]),
    ],
)
def test_shell_is_told_commands_kernels_devices_and_choices(line, completions, tmp_path):
    """The shell reads completions from a file that it names."""
    answer = tmp_path / "completions"
    asked = {"_ARGCOMPLETE": "1", "COMP_LINE": line, "COMP_POINT": str(len(line)), "_ARGCOMPLETE_IFS": "\n"}
    asked["_ARGCOMPLETE_STDOUT_FILENAME"] = str(answer)
    subprocess.run([sys.executable, "-m", "autotune"], env={**os.environ, **asked}, check=True)
    assert [name.strip() for name in answer.read_text().splitlines()] == completions
