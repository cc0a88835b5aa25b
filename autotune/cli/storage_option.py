"""The option `--storage` of commands that read trials, and the database that it names."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from optuna.storages import BaseStorage


def add_storage(parser: argparse.ArgumentParser) -> None:
    """Add `--storage`, a database whose trials are read beside those of the state folder."""
    parser.add_argument(
        "--storage", metavar="URL", help="read the trials of this database too, as `tune --storage` does"
    )


def database(arguments: argparse.Namespace) -> BaseStorage | None:
    """Return the database of `--storage`, None where it was not given. Raises UsageError."""
    from autotune.tuning.search import storage

    return storage.database(arguments.storage) if arguments.storage else None
