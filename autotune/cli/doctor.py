"""`autotune doctor`: what this machine can do, and what is missing."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
from collections.abc import Iterator

from autotune import device as devices
from autotune import registry, runtime, table
from autotune.cli.output import Commands, command, show_rows
from autotune.errors import AutotuneError
from autotune.tuning.cache import state_root
from autotune.tuning.toolchain import toolchain

Finding = tuple[str, bool, str]


def add(commands: Commands) -> None:
    parser = command(commands, "doctor", "what this machine can do, and what is missing", "  autotune doctor")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    rows = [{"check": name, "ok": "yes" if fine else "NO", "detail": detail} for name, fine, detail in _findings()]
    show_rows(rows, arguments.json)
    # A machine with no GPU tunes to the model: worth saying, no failure.
    return 1 if any(row["ok"] == "NO" and row["check"] != "measure on a GPU" for row in rows) else 0


def _findings() -> Iterator[Finding]:
    versions = {name: importlib.metadata.version(name) for name in ("torch", "triton", "optuna")}
    yield "packages", True, ", ".join(f"{name} {version}" for name, version in versions.items())
    yield "compile for NVIDIA", *_attempt(lambda: toolchain("sm_100"))
    yield "compile for AMD", *_attempt(lambda: toolchain("gfx950"))
    release = tuple(int(part) for part in versions["triton"].split(".")[:2])
    known = (3, 8) <= release <= (3, 9)
    yield (
        "validate on CPU",
        known,
        "corrected interpreter" if known else "needs triton 3.8 or 3.9: pip install triton==3.9.0",
    )
    yield "measure on a GPU", *_attempt(lambda: devices.current().name)
    yield "kernels", True, ", ".join(registry.names())
    yield "tables", *_attempt(_tables)
    state = state_root()
    state.mkdir(parents=True, exist_ok=True)
    free_gb = shutil.disk_usage(state).free / 1e9
    writable = os.access(state, os.W_OK) and free_gb > 1
    yield "state folder", writable, f"{state}, {free_gb:.0f} GB free (AUTOTUNE_STATE names another)"


def _tables() -> str:
    paths = sorted(runtime.tables_root().glob("*/*/*/*.json"))
    rows = sum(len(table.load(path).rows) for path in paths)
    return f"{len(paths)} tables with {rows} rows under {runtime.tables_root()}"


def _attempt(question: object) -> tuple[bool, str]:
    assert callable(question)
    try:
        return True, question()
    except (AutotuneError, OSError) as error:
        return False, str(error)
