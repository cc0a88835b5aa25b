"""The progress of a long command on stderr: a bar on a terminal, now and then a line elsewhere, nothing if quiet."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from rich.console import Console

_SECONDS_BETWEEN_LINES = 60


class Update(Protocol):
    def __call__(self, stage: str, done: int, total: int, detail: str = "", /) -> None:
        """Show that `done` of `total` steps of `stage` are done; `detail` is what else is worth seeing."""


@contextmanager
def progress_bar(arguments: argparse.Namespace, clock: Callable[[], float] = time.monotonic) -> Iterator[Update]:
    """Yield what shows progress, as loud as `arguments.quiet` and `arguments.verbose` ask.

    A terminal gets one bar with rate and time left. A log file gets a line at the end of each stage and one a minute;
    with `--verbose` one for each step. `clock` gives seconds.
    """
    from rich.console import Console

    console = Console(stderr=True)
    if arguments.quiet:
        yield _nothing
    elif console.is_terminal:
        with _bar(console) as update:
            yield update
    else:
        yield _Lines(clock, 0 if arguments.verbose else _SECONDS_BETWEEN_LINES).update


def _nothing(stage: str, done: int, total: int, detail: str = "", /) -> None:
    pass


@contextmanager
def _bar(console: Console) -> Iterator[Update]:
    from rich.progress import BarColumn, MofNCompleteColumn, Progress, ProgressColumn, Task, TextColumn
    from rich.progress import TimeRemainingColumn as TimeLeft
    from rich.table import Column
    from rich.text import Text

    class Rate(ProgressColumn):
        def render(self, task: Task) -> Text:
            return Text(_rate(task.finished_speed or task.speed or 0.0))

    # Numbers keep their width on a narrow terminal; the words after them are cut.
    columns = (
        BarColumn(12, table_column=Column(width=12)),
        MofNCompleteColumn(table_column=Column(no_wrap=True, min_width=5)),
        Rate(table_column=Column(no_wrap=True, min_width=8)),
        TimeLeft(compact=True, elapsed_when_finished=True, table_column=Column(no_wrap=True, min_width=5)),
        TextColumn("{task.description}{task.fields[detail]}", markup=False, table_column=Column(no_wrap=True, ratio=1)),
    )
    with Progress(*columns, console=console, expand=True) as bar:
        tasks = {}

        def update(stage: str, done: int, total: int, detail: str = "", /) -> None:
            if stage not in tasks:
                tasks[stage] = bar.add_task(stage, total=total, detail="")
            bar.update(tasks[stage], completed=done, total=total, detail=f", {detail}" if detail else "")

        yield update


class _Lines:
    """Lines for a log: at most one in `pause_s` seconds for each stage, and one when a stage is done."""

    def __init__(self, clock: Callable[[], float], pause_s: float) -> None:
        self._clock, self._pause_s = clock, pause_s
        self._updated = clock()
        self._began: dict[str, float] = {}
        self._printed: dict[str, tuple[float, int]] = {}

    def update(self, stage: str, done: int, total: int, detail: str = "", /) -> None:
        now = self._clock()
        began = self._began.setdefault(stage, self._updated)  # its first step is done, it began after what came before
        self._updated = now
        printed, shown = self._printed.get(stage, (began, 0))
        if done == shown or (done < total and now - printed < self._pause_s):
            return
        self._printed[stage] = now, done
        rate = done / max(now - began, 1e-9)
        left = f"{_rate(rate)}, {_duration((total - done) / rate)} left" if done < total else _duration(now - began)
        print(", ".join(filter(None, (f"{stage}: {done}/{total}", left, detail))), file=sys.stderr, flush=True)


def _rate(a_second: float) -> str:
    if a_second >= 1:
        return f"{a_second:.0f}/s"
    return f"{60 * a_second:.1f}/min" if a_second else ""


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
