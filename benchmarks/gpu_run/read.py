"""Turns the results of a run into one page: `python -m benchmarks.gpu_run.read DIR` writes DIR/page.md."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from autotune.errors import AutotuneError, told
from autotune.files import write
from benchmarks.gpu_run.page import page
from benchmarks.gpu_run.results import load


def written(folder: Path) -> Path:
    """Writes the page and says where it lies. Raises UsageError where `folder` holds no run."""
    path = folder / "page.md"
    write(path, page(load(folder)))
    return path


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, metavar="DIR")
    try:
        print(written(parser.parse_args().folder))
    except AutotuneError as error:
        print(told(error), file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
