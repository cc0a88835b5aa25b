"""Where the real data of a benchmark lies: in the folder that its --data names, or nowhere."""

from __future__ import annotations

from pathlib import Path


def required(folder: Path, name: str) -> Path:
    """`folder/name`; where it is absent the script says so and ends well, as nothing was there to be measured."""
    path = folder / name
    if not path.exists():
        print(f"skipped: {path} is absent; give its folder with --data")
        raise SystemExit(0)
    return path
