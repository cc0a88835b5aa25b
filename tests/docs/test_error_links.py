"""Every error names the part of the troubleshooting page that explains it, and that part exists."""

import errno
import os
import re
from importlib import import_module

import pytest
from markdown_blocks import ROOT, anchors

from autotune import cli
from autotune.errors import TROUBLESHOOTING, AutotuneError, Defect, TableError

# Modules of errors that are raised beside the work that fails; test_no_class_is_missed finds one that is not here.
for name in ("tuning.measurement.bench", "tuning.validation.row_batches"):
    import_module(f"autotune.{name}")


def classes(parent=AutotuneError):
    return [parent, *(below for child in parent.__subclasses__() for below in classes(child))]


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: kind.__name__)
def test_error_class_has_a_section_of_the_page(kind):
    assert kind.section in anchors(ROOT / TROUBLESHOOTING)


def test_no_error_class_is_missed():
    sources = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "autotune").rglob("*.py"))
    known = {kind.__name__ for kind in classes()}
    derived = {name for name, parent in re.findall(r"^class (\w+)\((\w+)\):", sources, re.MULTILINE) if parent in known}
    assert derived <= known


@pytest.mark.parametrize(
    ("words", "section"),
    [
        (["explain", "no/kernel", "m=1", "--device", "mi355x"], "commands-and-names"),
        (["explain", "gemm/fp8_block_scaled", "m=1,n=2048,k=7168", "--device", "mi9"], "devices"),
        (["lint", "--tables", "/dev/null/x"], "commands-and-names"),
    ],
)
def test_command_line_ends_an_error_with_its_page(words, section, capsys):
    assert cli.main(words) == 2
    message, page = capsys.readouterr().err.splitlines()
    assert message.startswith("error: ")
    assert page == f"See {TROUBLESHOOTING}#{section}"


def test_uncaught_error_has_its_page_as_a_note():
    assert TableError("x").__notes__ == [f"See {TROUBLESHOOTING}#tables"]
    assert Defect("out of bounds", "k.py:1", (0,), "x", 0, "").__notes__ == [f"See {TROUBLESHOOTING}#configs-that-fail"]


def fixed_parts(cell):
    """The words of the messages in a cell that stay the same: between placeholders, which are … and single capitals."""
    for message in re.findall(r"`([^`]+)`", cell):
        for part in re.split(r"…|\b[NM]\b|;", message):
            if len(part.strip(" ,()")) > 3:
                yield part.strip(" ,()")


def test_messages_of_the_page_are_those_of_the_code():
    folders = (ROOT / "autotune", ROOT / "kernels")
    sources = "".join(path.read_text(encoding="utf-8") for folder in folders for path in folder.rglob("*.py"))
    joined = re.sub(r'"\s*\n\s*f?"', "", sources) + os.strerror(errno.ENOSPC)
    sections = (ROOT / TROUBLESHOOTING).read_text(encoding="utf-8").partition("## Results that surprise")[0]
    cells = [line.split("|")[1] for line in sections.splitlines() if line.startswith("| `")]
    assert len(cells) > 20
    assert not [part for cell in cells for part in fixed_parts(cell) if part not in joined]
