"""Code blocks and headings of README and docs/, with what their pages say of testing them.

A comment in the line before a block changes how it is tested; the reason after the comma is for the reader:
    <!-- test: thorough -->         run among the thorough tests: `make test-all` and CI
    <!-- test: slow, WHY -->        run among the slow tests: `make test-slow`
    <!-- test: gpu -->              run among the tests of a GPU: `pytest -m gpu`
    <!-- test: parse, WHY -->       not run: commands must parse, Python must compile
    <!-- test: output varies -->    run, output not compared
A `console` block holds commands after `$ ` and their output. Output is compared with numbers and yes/no left out: times
and chosen configs change with the machine and the tables, words do not.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").rglob("*.md")])
RUNNABLE = ("console", "bash", "python")
_DIRECTIVE = re.compile(r"<!-- test: ([a-z ]+?)(?:, .*)? -->")
_FENCE = re.compile(
    r"^(?P<indent> *)```(?P<language>\w*)[^\n]*\n(?P<text>.*?)^(?P=indent)```", re.MULTILINE | re.DOTALL
)


@dataclass(frozen=True)
class Block:
    page: Path
    line: int
    language: str
    text: str
    how: str
    """`run`, `thorough`, `slow`, `gpu`, `parse` or `output varies`."""

    @property
    def name(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"

    @property
    def steps(self) -> list[tuple[str, str]]:
        """(command, expected output) in order; all lines of a `bash` block are commands without output."""
        if self.language == "bash":
            return [(command, "") for command in _joined(self.text.splitlines())]
        parts = re.split(r"^\$ ", self.text, flags=re.MULTILINE)[1:]
        commands = [re.match(r"(?:[^\n]*\\\n)*[^\n]*", part).group() for part in parts]
        outputs = [part[len(command) :].strip("\n") for part, command in zip(parts, commands, strict=True)]
        return [(command.replace("\\\n", " "), output) for command, output in zip(commands, outputs, strict=True)]


def blocks(page: Path) -> list[Block]:
    """Return the blocks of `page` that can be run, in order."""
    text = page.read_text(encoding="utf-8")
    found = []
    for match in _FENCE.finditer(text):
        before = text[: match.start()].rstrip("\n").rpartition("\n")[2].strip()
        directive = _DIRECTIVE.fullmatch(before)
        lines = [line.removeprefix(match["indent"]) for line in match["text"].splitlines()]
        line = text.count("\n", 0, match.start()) + 1
        how = directive[1] if directive else "run"
        found.append(Block(page, line, match["language"], "\n".join(lines) + "\n", how))
    # An included file, as `--8<--` writes it, is run by its own test.
    return [block for block in found if block.language in RUNNABLE and not block.text.startswith("--8<--")]


def anchors(page: Path) -> set[str]:
    """Return the anchors that the site and GitHub give to the headings of `page`."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def without_numbers(text: str) -> str:
    """Return `text` with numbers and yes/no replaced, and its white space and rules reduced to single blanks.

    The line of a session that says what took how long is left out: stages that took no time are not in it.
    """
    text = re.sub(r"^ +took .*$", "", text, flags=re.MULTILINE)
    text = re.sub(r"\b(True|False|yes|no)\b", "B", text)
    text = re.sub(r"\b[0-9a-f]{16}\b|\d+(?:[.,]\d+)*(?:e[+-]?\d+)?", "N", text)
    return " ".join(text.replace("─", "").split())


def _joined(lines: list[str]) -> list[str]:
    """Commands of a shell script: lines with their continuations, without comments and blank lines."""
    commands: list[str] = []
    continues = False
    for line in lines:
        if continues:
            commands[-1] += " " + line.rstrip("\\").strip()
        elif line.strip() and not line.lstrip().startswith("#"):
            commands.append(line.rstrip("\\").strip())
        continues = line.endswith("\\")
    return commands
