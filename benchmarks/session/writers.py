"""Many writers of one table at once, some of them killed; and imports into the table of a session that runs.

    python -m benchmarks.session.writers                        # 32 writers, 200 rounds, 8 kills a round
    python -m benchmarks.session.writers --writers 8 --rounds 3 --kills 2 --imports 4

Each writer puts its own rows into the table, one update a row, and tells when an update has returned: from then on the
row must be there. A reader loads the table all the while. Then a session without a GPU tunes two problems while imports
put rows beside them. Prints one JSON object; exit code 1 where a row was lost, a file was torn, or an import failed.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import json
import multiprocessing
import random
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from multiprocessing.connection import Connection
from multiprocessing.connection import wait as ready
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune import registry, table
from autotune.cli import main as command
from autotune.config import Problem, build, describe_key, key
from autotune.errors import TableError
from autotune.files import LOCK
from autotune.table import Row, Table
from autotune.tuning.search.stopping import Budget
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.session import Session
from autotune.tuning.workers.worker import Limits

KERNEL, DEVICE = registry.load("norm/rms_norm_quant"), devices.named("h100")
HEAD = Table(KERNEL.name, DEVICE.arch, DEVICE.name, KERNEL.identity.kernel, ())
FORK = multiprocessing.get_context("fork")


def arguments(words: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--writers", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=200)
    parser.add_argument("--updates", type=int, default=2, help="of each writer in a round")
    parser.add_argument("--kills", type=int, default=8, help="in each round")
    parser.add_argument("--imports", type=int, default=40, help="at least so many, beside a session; 0: no session")
    parser.add_argument("--seed", type=int, default=0)
    return parser.parse_args(words)


def problem(rows: int, cols: int = 1536) -> Problem:
    made: Problem = build(KERNEL.problem, {"rows": rows, "cols": cols}, "writers")
    return made


def row(number: int, turn: int) -> Row:
    """The row of one writer's update; `turn` tells the rounds apart."""
    config = KERNEL.default(problem(number), DEVICE)
    return Row(key(problem(number)), config, "modeled", {"round": turn}, "triton 3.9.0", "code")


def write(path: Path, numbers: range, turn: int, told: Connection) -> None:
    for number in numbers:
        table.update(path, partial(joined, row(number, turn)))
        told.send(number)


def joined(mine: Row, now: Table | None) -> Table:
    return (now or HEAD).merged([mine])


def read_all_the_while(path: Path, told: Connection) -> None:
    """Loads the table until the pipe is closed; sends the loads and those that found no whole table."""
    loads = torn = 0
    while not told.poll():
        try:
            torn += not path.exists() or not table.load(path).rows
        except TableError:
            torn += 1
        loads += 1
    told.send((loads, torn))


def begin(target: Any, *given: Any) -> tuple[BaseProcess, Connection]:  # noqa: ANN401
    """A forked process and our end of its pipe."""
    ours, theirs = FORK.Pipe()
    process = FORK.Process(target=target, args=(*given, theirs))
    process.start()
    theirs.close()
    return process, ours


def one_round(path: Path, given: argparse.Namespace, turn: int, chance: random.Random) -> tuple[set[int], int]:
    """Runs all writers once; the numbers of rows whose update returned, and the kills that met a live writer."""
    spans = [range(1 + i * given.updates, 1 + (i + 1) * given.updates) for i in range(given.writers)]
    writers = [begin(write, path, span, turn) for span in spans]
    doomed = {writers[i][0]: chance.uniform(0, 0.5) for i in chance.sample(range(given.writers), given.kills)}
    began, kills, acknowledged = time.monotonic(), 0, set[int]()
    open_pipes = {pipe: process for process, pipe in writers}
    while open_pipes:
        ready(list(open_pipes), timeout=0.005)
        for pipe in [one for one in open_pipes if one.poll()]:
            try:
                acknowledged.add(pipe.recv())
            except (EOFError, OSError):
                open_pipes.pop(pipe).join()
        for process in [one for one, at in doomed.items() if time.monotonic() - began > at]:
            del doomed[process]
            kills += process.is_alive()
            process.kill()
    return acknowledged, kills


def soak(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Rounds of writers; counts what was lost."""
    path = table.path_of(folder, DEVICE.arch, DEVICE.name, KERNEL.name)
    table.update(path, lambda now: HEAD.merged([row(1, -1)]))
    chance, lost, updates, kills = random.Random(given.seed), 0, 0, 0
    reader, pipe = begin(read_all_the_while, path)
    for turn in range(given.rounds):
        acknowledged, killed = one_round(path, given, turn, chance)
        there = {dict(one.problem)["rows"]: one.evidence["round"] for one in table.load(path).rows}
        lost += sum(there.get(number) != turn for number in acknowledged)
        updates += len(acknowledged)
        kills += killed
    pipe.send("end")
    loads, torn = pipe.recv()
    reader.join()
    left = [one.name for one in path.parent.iterdir() if one.name not in (path.name, LOCK)]
    return {
        "writers": given.writers,
        "rounds": given.rounds,
        "updates that returned": updates,
        "writers killed": kills,
        "rows lost": lost,
        "loads meanwhile": loads,
        "files torn": torn,
        "temporary files of killed writers": len(left),
    }


def file_of(folder: Path, number: int) -> Path:
    """One result of another tuner, in Kernel Tuner's format T4."""
    config = dict(KERNEL.default(problem(number), DEVICE))
    result = {
        "configuration": {**dict(key(problem(number))), **config},
        "times": {"runtimes": [0.01]},
        "invalidity": "correct",
        "correctness": 1,
        "measurements": [{"name": "time", "value": 0.01, "unit": "ms"}],
        "objectives": ["time"],
    }
    path = folder / f"{number}.json"
    path.write_text(json.dumps({"schema_version": "1.0.0", "metadata": {}, "results": [result]}))
    return path


def tune(folder: Path, told: Connection) -> None:
    plan = Plan(folder / "tables", folder / "state", Budget(trials=4), limits=Limits(processes=1))
    Session(KERNEL, DEVICE, plan, lambda status: None).run({problem(16, 256): 1, problem(32, 256): 1})
    told.send("ended")


def imports_until(folder: Path, fewest: int, session: BaseProcess) -> Iterator[tuple[int, int]]:
    """Imports one row after another while the session runs, and `fewest` at least: (number, exit code)."""
    numbers = iter(range(1, 1 << 20))
    for number in numbers:
        if number > fewest and not session.is_alive():
            return
        words = ["import", "t4", str(file_of(folder, number)), "--kernel", KERNEL.name, "--device", DEVICE.name]
        with contextlib.redirect_stdout(io.StringIO()):
            yield number, command([*words, "--tables", str(folder / "tables")])
        time.sleep(0.05)


def beside_a_session(given: argparse.Namespace, folder: Path) -> dict[str, Any]:
    """Imports while a session runs: every row of both must be in the table at the end."""
    session, pipe = begin(tune, folder)
    codes = dict(imports_until(folder, given.imports, session))
    with suppress(EOFError):
        pipe.recv()
    session.join()
    rows = table.load(table.path_of(folder / "tables", DEVICE.arch, DEVICE.name, KERNEL.name)).rows
    found = {describe_key(one.problem) for one in rows}
    imported = {describe_key(key(problem(number))) for number in codes}
    tuned = [one for one in rows if one.tier == "modeled"]
    return {
        "imports beside a session": len(codes),
        "imports that failed": sum(map(bool, codes.values())),
        "imported rows lost": len(imported - found),
        "rows of the session": len(tuned),
        "session exit code": session.exitcode,
    }


def main(words: list[str] | None = None) -> int:
    given = arguments(words)
    with tempfile.TemporaryDirectory() as name:
        began = time.monotonic()
        result = soak(given, Path(name) / "soak")
        seconds = time.monotonic() - began
        beside = beside_a_session(given, Path(name)) if given.imports else {}
    fine = not (result["rows lost"] or result["files torn"])
    if beside:
        fine = fine and not (
            beside["imports that failed"] or beside["imported rows lost"] or beside["session exit code"]
        )
        fine = fine and beside["rows of the session"] > 0
    print(json.dumps({**result, **beside, "seconds of writers": round(seconds, 1), "fine": fine}, indent=1))
    return 0 if fine else 1


if __name__ == "__main__":
    sys.exit(main())
