"""Every command and Python block of README and docs/ is run, or at least parsed where it needs what is not here."""

from __future__ import annotations

import contextlib
import io
import os
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from markdown_blocks import PAGES, ROOT, Block, blocks, without_numbers

from autotune import cli, registry, runtime
from autotune import device as devices

BLOCKS = [block for page in PAGES for block in blocks(page)]
IN_PROCESS = ("autotune list", "autotune show", "autotune explain", "autotune devices", "autotune lint", "autotune --")


def of(*ways: str) -> list[Block]:
    return [block for block in BLOCKS if block.how in ways]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """An empty folder to run in, a state folder of its own, and a copy of the committed tables."""
    tables = tmp_path / "tables"
    shutil.copytree(ROOT / "tuned_configs", tables)
    (tmp_path / "run").mkdir()
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tables))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    runtime.forget()
    yield tmp_path
    runtime.forget()


def said_by(command: str) -> str:
    """Standard output of a command that must end well; light commands run in this process, which takes no second."""
    if command.startswith(IN_PROCESS) and not set("|>&;$") & set(command):
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            assert cli.main(shlex.split(command, comments=True)[1:]) == 0, command
        return stdout.getvalue()
    ended = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=False)
    assert ended.returncode == 0, f"{command}\n{ended.stdout}{ended.stderr}"
    return ended.stdout


def run(block: Block) -> None:
    if block.language == "python":
        exec(compile(block.text, block.name, "exec"), {"__name__": "__main__"})
        return
    for command, output in block.steps:
        said = said_by(command)
        if output and block.how != "output varies":
            assert without_numbers(said) == without_numbers(output), command


@pytest.mark.parametrize("block", of("run", "output varies"), ids=lambda block: block.name)
def test_block_runs_as_its_page_says(block, place):
    run(block)


@pytest.mark.thorough
@pytest.mark.parametrize("block", of("thorough"), ids=lambda block: block.name)
def test_thorough_block_runs_as_its_page_says(block, place):
    run(block)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_block_is_valid(block):
    assert block.how in ("run", "thorough", "parse", "output varies")
    if block.language == "python":
        compile(block.text, block.name, "exec")
        return
    assert block.steps, "a console block's commands begin with `$ `"
    for command, _ in block.steps:
        subprocess.run(["bash", "-nc", command], check=True)
        words = shlex.split(command, comments=True)
        if "autotune" in words[:2] and not words[0].startswith("pip"):
            check_command(words[words.index("autotune") + 1 :])


def check_command(words: list[str]) -> None:
    """The parsers accept the words up to a pipe; kernels and devices exist, unless they are CAPITAL placeholders."""
    ends = [index for index, word in enumerate(words) if word in ("|", ">", ">>", "&&", "||", ";")]
    try:
        arguments = cli._parser().parse_args(words[: min(ends, default=len(words))])
    except SystemExit as leaving:
        assert leaving.code == 0, words
        return
    named = [*(getattr(arguments, "kernels", None) or []), getattr(arguments, "kernel", None)]
    for name in filter(None, named):
        assert (
            name.isupper()
            or name.startswith(("own", "mine/", "adopted", "examples.", "their_package."))
            or name in registry.names()
        ), name
    given = getattr(arguments, "device", None) or []
    for name in [given] if isinstance(given, str) else given:
        assert name.isupper() or name.partition(".")[0] in devices.names(), name


def test_pages_have_blocks_of_every_kind():
    assert {block.language for block in BLOCKS} == {"console", "bash", "python"}
    assert len(BLOCKS) > 30
