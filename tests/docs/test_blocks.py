"""Every command and Python block of README and docs/ is run, or at least parsed where it needs what is not here."""

from __future__ import annotations

import contextlib
import io
import os
import re
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
FINDS = re.compile(r"autotune (lint|check|compile)\b")
"""Commands that end with 1 where they find something, such as a kernel that cannot be planned: that is as good."""
IN_PROCESS = ("autotune list", "autotune show", "autotune explain", "autotune devices", "autotune lint", "autotune --")


def of(*ways: str) -> list[Block]:
    return [block for block in BLOCKS if block.how in ways]


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder to run in, with tables of three machines, a home folder and a state folder of its own."""
    tables = tmp_path / "run/tuned_configs"
    shutil.copytree(ROOT / "tuned_configs", tables)
    for machine, gpu in (("machine1", "gfx950/mi355x"), ("machine2", "sm_100/b200")):
        shutil.copytree(tables / gpu / "norm", tmp_path / "run" / machine / gpu / "norm")
    monkeypatch.chdir(tmp_path / "run")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tables))
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.delenv("TRITON_INTERPRET", raising=False)
    runtime.forget()
    yield tmp_path
    runtime.forget()


def said_by(command: str) -> str:
    """Standard output of a command that must end well; light commands run in this process, which takes no second."""
    allowed = (0, 1) if FINDS.match(command) else (0,)
    if command.startswith(IN_PROCESS) and not set("|>&;$") & set(command):
        with contextlib.redirect_stdout(io.StringIO()) as stdout:
            assert cli.main(shlex.split(command, comments=True)[1:]) in allowed, command
        return stdout.getvalue()
    ended = subprocess.run(["bash", "-ec", command], capture_output=True, text=True, check=False)
    assert ended.returncode in allowed, f"{command}\n{ended.stdout}{ended.stderr}"
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


@pytest.mark.slow
@pytest.mark.parametrize("block", of("slow"), ids=lambda block: block.name)
def test_slow_block_runs_as_its_page_says(block, place, monkeypatch):
    monkeypatch.delenv("AUTOTUNE_STATE")  # the pages speak of ~/.cache/autotune
    run(block)


@pytest.mark.gpu
@pytest.mark.parametrize("block", of("gpu"), ids=lambda block: block.name)
def test_block_for_a_gpu_runs_as_its_page_says(block, place):
    run(block)


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: block.name)
def test_block_is_valid(block):
    assert block.how in ("run", "thorough", "slow", "gpu", "parse", "output varies")
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
