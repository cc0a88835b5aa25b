"""Writes docs/reference/command_line.md and the pages of docs/reference/commands/ from the parsers.

python -m tools.write_cli_reference

`tests/docs/test_reference.py` fails where a page is not what this would write.
"""

from __future__ import annotations

import argparse
import re
from collections.abc import Iterator
from pathlib import Path

from autotune import cli

REFERENCE = Path(__file__).parents[1] / "docs/reference"

GROUPS = {
    "looking": ("Commands that look", ("doctor", "list", "devices", "explain", "show", "completion")),
    "tuning": ("Commands that tune and learn", ("new", "adopt", "tune", "learn", "compare-model")),
    "modeling": ("Commands that model", ("predict", "estimate", "report", "compile")),
    "tables": ("Commands for tables", ("lint", "merge", "import", "export", "bundle")),
    "proving": ("Commands that prove and check", ("validate", "check", "bisect")),
}
"""Title and commands of each page of `commands/`. Every command is on one page."""

_INTRODUCTION = """# Command line

Generated from the parsers by `python -m tools.write_cli_reference`; `autotune COMMAND --help` says the same.

| command | what it does |
|---|---|
{commands}

Results go to stdout; progress and errors go to stderr. Every command takes `--json`, which prints all that a table
shows and more, `-q` for no progress, `-v` for all progress, all reasons, and the place where an error was raised, and
`--devices FOLDER`, which reads [device records](../guides/add_gpu.md#then) of one's own from there.
`NO_COLOR=1` turns colours off. `autotune --version` prints the version.

| exit code | meaning |
|---|---|
| 0 | fine |
| 1 | the command worked and found something wrong, such as a regression; or it found nothing |
| 2 | the command, a file or the machine is at fault; the message says what to do |
| 130 | interrupted; finished trials are on disk, and the same command resumes |

## Shell completion
Commands, options, kernels, devices and models are completed. For bash, add to `~/.bashrc` (for zsh, to `~/.zshrc`):

```bash
eval "$(autotune completion bash)"
```
For fish:

```bash
mkdir -p ~/.config/fish/completions
autotune completion fish > ~/.config/fish/completions/autotune.fish
```

## Writing a problem
A problem is written as `name=value` pairs joined by commas, such as `m=64,n=2048,k=7168`. Fields with a default may be
left out, and `dtype` is the device's own FP8 where it is. `autotune list --wide` shows the fields of each kernel.
"""

_ABOUT_PAGES = """Generated from the parsers. What all commands share, such as `--json` and exit codes, is on
[Command line](../command_line.md).
"""

_EVERYWHERE = {"help", "json", "quiet", "verbose", "devices"}
"""Arguments that the first page describes for all commands."""

_RUN = {"list": "run", "explain": "run", "show": "run", "predict": "thorough", "new": "thorough"}
"""Tests of the examples of a command; those of the others need a GPU, files or minutes, and must parse."""


def pages() -> dict[Path, str]:
    """Return the text of each page. Raises ValueError where `GROUPS` and the commands differ."""
    (parsers,) = (a for a in cli._parser()._actions if isinstance(a, argparse._SubParsersAction))
    grouped = [name for _, names in GROUPS.values() for name in names]
    if sorted(grouped) != sorted(parsers.choices):
        differ = ", ".join(sorted(set(grouped) ^ set(parsers.choices))) or "a command stands twice"
        raise ValueError(f"GROUPS must name each command once: {differ}")
    rows = [
        f"| [`{name}`](commands/{page}.md#autotune-{name}) | {_in_short(parsers.choices[name])} |"
        for page, (_, names) in GROUPS.items()
        for name in names
    ]
    written = {REFERENCE / "command_line.md": _INTRODUCTION.replace("{commands}", "\n".join(rows))}
    for page, (title, names) in GROUPS.items():
        parts = [f"# {title}\n\n{_ABOUT_PAGES}", *(_command(name, parsers.choices[name]) for name in names)]
        written[REFERENCE / "commands" / f"{page}.md"] = "\n".join(parts)
    return written


def _about(parser: argparse.ArgumentParser) -> str:
    about = parser.description or ""
    return f"{about[0].upper()}{about[1:].rstrip('.')}."


def _in_short(parser: argparse.ArgumentParser) -> str:
    return re.split("[;:]", _about(parser))[0].rstrip(".")


def _command(name: str, parser: argparse.ArgumentParser) -> str:
    rows = [_row(action) for action in parser._actions if action.dest not in _EVERYWHERE]
    lines = [f"## autotune {name}", _about(parser), ""]
    if rows:
        lines += ["| argument | meaning |", "|---|---|", *rows, ""]
    examples = (parser.epilog or "").removeprefix("examples:\n").rstrip()
    how = _RUN.get(name, "parse, examples of the help")
    lines += [f"<!-- test: {how} -->", "```bash", *_dedented(examples), "```", ""]
    return "\n".join(lines)


def _row(action: argparse.Action) -> str:
    value = action.metavar or (
        "{" + ", ".join(map(str, action.choices)) + "}" if action.choices else action.dest.upper()
    )
    takes_value = action.nargs != 0
    if not action.option_strings:
        names = f"`{value}`" if action.nargs is None else f"`[{value} ...]`" if action.nargs == "*" else f"`[{value}]`"
        names = f"`{value} ...`" if action.nargs == "+" else names
    else:
        names = ", ".join(f"`{option} {value}`" if takes_value else f"`{option}`" for option in action.option_strings)
    required = " (required)" if action.required and action.option_strings else ""
    return f"| {names} | {_text(action)}{required} |"


def _text(action: argparse.Action) -> str:
    # Defaults that depend on this machine, such as its number of cores, are said in words by the help.
    return re.sub(r"\s+", " ", (action.help or "").replace("%%", "%")).replace("|", "\\|")


def _dedented(examples: str) -> Iterator[str]:
    for line in examples.splitlines():
        # Columns of remarks after a command, as the help has them, become comments.
        command, gap, remark = re.sub(r"^ {2}", "", line).partition("     ")
        yield f"{command}  # {remark.strip(' #')}" if gap and remark.strip() and not command.isspace() else line[2:]


if __name__ == "__main__":
    for path, text in pages().items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(text, encoding="utf-8")
