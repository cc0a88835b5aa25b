"""The progress of a long command on stderr: a bar on a terminal, a line for each tenth elsewhere."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Update(Protocol):
    def __call__(self, stage: str, done: int, total: int, detail: str = "", /) -> None:
        """Shows that `done` of `total` steps of `stage` are done; `detail` is what else is worth seeing."""


@contextmanager
def progress_bar() -> Iterator[Update]:
    """One bar, which stays on a terminal when it ends; a log file gets one line for each stage and tenth of it."""
    from rich.console import Console
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    console = Console(stderr=True)
    columns = (TextColumn("{task.description:<52}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    logged = ""
    with Progress(*columns, console=console, transient=not console.is_terminal) as bar:
        task = bar.add_task("")

        def update(stage: str, done: int, total: int, detail: str = "", /) -> None:
            nonlocal logged
            more = f", {detail}" if detail else ""
            bar.update(task, description=stage + more, completed=done, total=total)
            tenth = f"{stage}: {10 * done // max(total, 1) * 10} %"
            if tenth != logged and not console.is_terminal:
                print(f"{tenth} ({done}/{total}){more}", file=sys.stderr, flush=True)
                logged = tenth

        yield update
