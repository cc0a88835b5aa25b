"""The reference pages say what the code does: the command line, the table schema, the environment."""

import argparse
import json
import re

import jsonschema
import pytest
from markdown_blocks import PAGES, ROOT

from autotune import cli, table
from tools import write_cli_reference

SCHEMA = json.loads((ROOT / "docs/reference/table.schema.json").read_text(encoding="utf-8"))
COMMITTED = sorted((ROOT / "tuned_configs").glob("*/*/*/*.json"))


GENERATED = write_cli_reference.pages()


@pytest.mark.parametrize("path", GENERATED, ids=lambda path: path.stem)
def test_command_line_page_is_what_the_parsers_say(path):
    assert path.read_text(encoding="utf-8") == GENERATED[path], "run `python -m tools.write_cli_reference`"


def test_folder_of_command_pages_holds_no_others():
    pages = set((write_cli_reference.REFERENCE / "commands").iterdir())
    assert pages <= GENERATED.keys()


def test_every_argument_has_help():
    (commands,) = (a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction))
    silent = [
        f"{name} {action.dest}"
        for name, parser in commands.choices.items()
        for action in parser._actions
        if not action.help
    ]
    assert not silent


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: "/".join(path.parts[-4:]))
def test_committed_tables_obey_the_schema(path):
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(path.read_text(encoding="utf-8")))


def entry(data, section):
    return next(iter(data[section].values()))


def broken(change):
    data = json.loads(COMMITTED[0].read_text(encoding="utf-8"))
    change(data)
    return data


@pytest.mark.parametrize(
    "change",
    [
        lambda data: data.pop("kernel"),
        lambda data: data.update(format=9),
        lambda data: data.update(speed=1),
        lambda data: entry(data, "sessions").update(tier="guessed"),
        lambda data: entry(data, "sessions").pop("toolchain"),
        lambda data: entry(data, "sessions").update(figures=[1]),
        lambda data: entry(data, "sessions").update(note="x"),
        lambda data: entry(data, "evidence").pop("code"),
        lambda data: entry(data, "evidence").update(figures="us"),
        lambda data: entry(data, "evidence").update(proof=None),
        lambda data: entry(data, "proofs").update(proved_on=[1]),
        lambda data: entry(data, "finalists").append(7),
        lambda data: entry(data, "shapes").clear(),
        lambda data: data.update(shapes=[]),
        lambda data: data["rows"][0].update(note="x"),
        lambda data: data["rows"][0].update(problem={}),
        lambda data: data["rows"][0].update(config={"BLOCK": 1.5}),
        lambda data: data["rows"][0].update(serves={"rows": [1]}),
        lambda data: data["rows"][0].update(evidence=[]),
        lambda data: data["rows"][0].update(shape=None),
    ],
)
def test_schema_refuses_what_the_reader_refuses(change):
    data = broken(change)
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(data, SCHEMA)
    with pytest.raises(table.TableError):
        table.loads(json.dumps(data), "here")


def test_example_of_the_page_on_tables_is_a_table():
    page = (ROOT / "docs/reference/tables.md").read_text(encoding="utf-8")
    (example,) = re.findall(r"```json\n(.*?)```", page, re.DOTALL)
    head = {"format": table.FORMAT, "kernel": "gemm/x", "arch": "gfx950", "device": "mi355x", "source": "0"}
    text = json.dumps(head)[:-1] + f", {example}}}"
    jsonschema.validate(json.loads(text), SCHEMA)
    (row,) = table.loads(text, "here").rows
    assert row.evidence["modeled_us_range"] == [3.47, 7.81]
    assert row.evidence["proved_on"] == ["m=1,n=200,k=1024,dtype=e4m3fn", "m=64,n=7168,k=384,dtype=e4m3fn"]


def test_environment_page_names_every_variable_of_the_package():
    page = (ROOT / "docs/reference/environment.md").read_text(encoding="utf-8")
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "autotune").rglob("*.py"))
    read = set(re.findall(r"\bAUTOTUNE_[A-Z]+\b", sources))
    assert read
    assert not [name for name in sorted(read) if f"`{name}`" not in page]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_page_is_short(page):
    words = len(page.read_text(encoding="utf-8").split())
    assert words <= 1500


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_table_cell_holds_no_escaped_bar(page):
    """Within code the site shows the backslash too."""
    assert "\\|" not in page.read_text(encoding="utf-8")


def test_readme_is_short():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").splitlines()) <= 120


def test_no_page_names_a_folder_of_some_machine():
    strange = re.compile(r"/(?:work|tmp|home|root)/\S+")
    assert not [
        f"{page.name}: {found}" for page in PAGES for found in strange.findall(page.read_text(encoding="utf-8"))
    ]
