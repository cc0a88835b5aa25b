"""Trials that sessions leave behind: names of studies, and the trials of one kernel in a journal and in a database."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune.config import Config, Problem, parse
from autotune.errors import UsageError

if TYPE_CHECKING:
    from optuna.storages import BaseStorage
    from optuna.trial import FrozenTrial

    from autotune.kernel import Kernel

_NAME = re.compile(
    r"(?P<problem>\S+) trials=3 source=(?P<source>\S+) (?P<toolchain>.+?) seed=(?P<seed>\d+) bench=(?P<bench>\S+)"
    r"(?: epoch=(?P<epoch>\d+))?(?: order=(?P<order>\S+))?(?: listed=(?P<listed>\S+))?"
)
_LONGEST_LABEL = 200
"""Characters of a problem in a label, whose digest keeps problems apart beyond them: file systems take names of 255
bytes, and a captured load of 384 experts alone has 768."""


@dataclass(frozen=True)
class Study:
    """The trials of one problem under equal terms; those of another source, toolchain, seed or bench are others."""

    problem: str
    """The problem, spelled by `describe`."""
    source: str
    toolchain: str
    seed: int
    bench: str
    """Source of the times: the name of a bench, or `model:` and the version of the cost model."""
    epoch: int = 0
    """How often the crash log was forgotten."""
    order: str = ""
    """The order of reduction to which a deterministic session kept; empty: free."""
    listed: str = ""
    """Digest of the only configs that were tried; empty: chosen from the space."""

    @property
    def measured(self) -> bool:
        return not self.bench.startswith("model:")

    @property
    def tier(self) -> str:
        """The tier of rows from these trials, as in `table.TIERS`."""
        if not self.measured:
            return "modeled"
        return "simulated" if self.bench.startswith("simulated:") else "measured"

    @property
    def name(self) -> str:
        # Studies of the first release held other distributions, which Optuna does not mix.
        text = f"{self.problem} trials=3 source={self.source} {self.toolchain} seed={self.seed} bench={self.bench}"
        text += f" epoch={self.epoch}" if self.epoch else ""
        text += f" order={self.order}" if self.order else ""
        return text + (f" listed={self.listed}" if self.listed else "")

    @classmethod
    def named(cls, name: str) -> Study | None:
        """The inverse of `name`; None where it was not written by it."""
        match = _NAME.fullmatch(name)
        if match is None:
            return None
        seed, epoch = int(match["seed"]), int(match["epoch"] or 0)
        more = (match["bench"], epoch, match["order"] or "", match["listed"] or "")
        return cls(match["problem"], match["source"], match["toolchain"], seed, *more)


@dataclass(frozen=True)
class Trials:
    """How each config that was tried ended, in the order asked: with `us`, or `failed`, `kind` and `reason`."""

    kernel: str
    device: str
    """Name of the device, as tables are filed."""
    study: Study
    problem: Problem
    outcomes: tuple[tuple[Config, dict[str, Any]], ...]

    @property
    def label(self) -> str:
        """`h100/gemm/fp8_block_scaled/m=64,n=2048,k=7168-1f0c9a3b`, as the name of a file: unique among studies."""
        digest = hashlib.sha256(self.study.name.encode()).hexdigest()[:8]
        problem = re.sub(r"[^\w=,.]", "_", self.study.problem)[:_LONGEST_LABEL]
        return f"{self.device}/{self.kernel}/{problem}-{digest}"


def journal_path(state: Path, device: str, kernel: str) -> Path:
    return state / "journal" / device / f"{kernel}.log"


def lock_path(journal: Path) -> Path:
    """Whoever reads or writes `journal` holds this one."""
    return journal.with_suffix(".session")


def prefix(kernel: str, device: str) -> str:
    """The words before a study's name in a database, which holds all kernels and devices; a journal, those of one."""
    return f"{kernel} {device} "


def read(state: Path, device: str, kernel: Kernel[Any], database: BaseStorage | None = None) -> Iterator[Trials]:
    """All studies of `kernel` as its source is now, for `device`: those of the journal, then those of `database`.

    Trials of an earlier source are of another kernel, whose problems may have had another form. Raises UsageError where
    a session is writing the journal, and where a trial has no outcome.
    """
    yield from read_journal(state, device, kernel)
    if database is not None:
        yield from read_database(database, device, kernel)


def read_journal(state: Path, device: str, kernel: Kernel[Any]) -> Iterator[Trials]:
    """Yield what `read` finds in the journal under `state`. Raises UsageError."""
    from autotune.tuning.search import storage

    path = journal_path(state, device, kernel.name)
    if path.is_file():
        with storage.exclusive(lock_path(path)):
            yield from _studies(storage.journal(path), device, kernel, str(path), "")


def read_database(database: BaseStorage, device: str, kernel: Kernel[Any]) -> Iterator[Trials]:
    """Yield what `read` finds in a database, also while sessions write it. Raises UsageError."""
    yield from _studies(database, device, kernel, "--storage", prefix(kernel.name, device))


def _studies(held: BaseStorage, device: str, kernel: Kernel[Any], place: str, before: str) -> Iterator[Trials]:
    import optuna

    from autotune.tuning.search import storage

    for stored in sorted(name for name in optuna.get_all_study_names(held) if name.startswith(before)):
        opened = optuna.load_study(study_name=stored, storage=held)
        study = Study.named(storage.full_name(opened).removeprefix(before))
        if study is None or study.source != kernel.identity.kernel:
            continue
        trials = opened.get_trials(deepcopy=False)
        ended = tuple(_outcome(trial, place) for trial in trials if trial.state == optuna.trial.TrialState.COMPLETE)
        if ended:
            yield Trials(kernel.name, device, study, parse(kernel.problem, study.problem), ended)


def _outcome(trial: FrozenTrial, place: str) -> tuple[Config, dict[str, Any]]:
    try:
        outcome = json.loads(trial.user_attrs["outcome"])
    except (KeyError, ValueError) as error:
        raise UsageError(f"{place}: trial {trial.number} has no outcome ({error!r}); its study is damaged") from error
    return Config(trial.params), outcome
