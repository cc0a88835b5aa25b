"""Starts the steps one after the other, those beside on free cores, and ends what outlives its limit."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from autotune.errors import UsageError
from autotune.files import read_json, write
from benchmarks.gpu_run import lines
from benchmarks.gpu_run.plan import RunStep

_GRACE_S = 8.0
"""A step ends by itself when its time is over; after this much more it is killed."""
_LEAST_S = 5.0
"""A step that has less is not begun: its imports alone take as long."""
CLOCKS = ("clocks.sm", "clocks.mem", "power.draw", "temperature.gpu", "clocks_throttle_reasons.active", "timestamp")
"""Fields of `nvidia-smi --query-gpu`: MHz, MHz, W, degrees C, a mask of bits in hexadecimal."""
CLOCKS_FILE = "clocks.csv"


@dataclass(frozen=True)
class Run:
    """Settings that all steps of a folder of results share."""

    folder: Path
    bench: str
    device: str
    kernels: tuple[str, ...]
    """None: all."""


@dataclass
class Running:
    step: RunStep
    process: subprocess.Popen[bytes]
    ends: float

    def over(self) -> bool:
        """Return True once the process has ended; past its deadline it is killed."""
        if self.process.poll() is None and time.monotonic() > self.ends:
            self.kill()
        return self.process.poll() is not None

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()


def run(plan: Sequence[RunStep], asked: Run, seconds: float, again: bool) -> None:
    """All steps of `plan` within `seconds`; those that an earlier run finished are left out unless `again`."""
    _claim(asked)
    ends = time.monotonic() + seconds
    beside: dict[str, Running] = {}
    try:
        with _clocks(asked.folder):
            for step in plan:
                if not again and _finished(asked.folder, step):
                    print(f"{step.name}: finished before", flush=True)
                    continue
                if step.after in beside:
                    _ended(asked.folder, beside.pop(step.after), beside)
                share = min(step.seconds, ends - time.monotonic() - _GRACE_S)
                if share < _LEAST_S:
                    _note(asked.folder, step, "not reached", "the time of the whole run was over")
                    continue
                begun = _begin(step, asked, share, again)
                if step.beside:
                    beside[step.name] = begun
                else:
                    _ended(asked.folder, begun, beside)
            while beside:
                _ended(asked.folder, beside.popitem()[1], beside)
    finally:
        for running in beside.values():
            running.kill()


def _begin(step: RunStep, asked: Run, share: float, again: bool) -> Running:
    began = time.monotonic()
    command = [sys.executable, "-m", "benchmarks.gpu_run.step", step.name, f"--out={asked.folder}"]
    command += [f"--bench={asked.bench}", f"--device={asked.device}", f"--began={began}", f"--seconds={share:.1f}"]
    command += [*(["--again"] if again else []), "--kernels", *asked.kernels]
    _note(asked.folder, step, "begun", "")
    with (asked.folder / f"{step.name}.log").open("ab") as log:
        process = subprocess.Popen(
            command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, env=_environment(asked), start_new_session=True
        )
    return Running(step, process, began + share + _GRACE_S)


def _environment(asked: Run) -> dict[str, str]:
    state = Path(os.environ.get("AUTOTUNE_STATE") or asked.folder / "state").resolve()
    return {
        **os.environ,
        "AUTOTUNE_STATE": str(state),
        "AUTOTUNE_TABLES": str((asked.folder / "tables").resolve()),  # rows of a trial run are nobody's defaults
        "TRITON_CACHE_DIR": str(state / "triton"),  # where worker processes keep what they compile
        "PYTHONUNBUFFERED": "1",
        **({"TRITON_INTERPRET": "1"} if asked.bench == "stand-in" else {}),
    }


def _ended(folder: Path, running: Running, beside: dict[str, Running]) -> None:
    """Waits for a step, and ends those beside it that outlive their limits meanwhile."""
    try:
        while not running.over():
            for other in beside.values():
                other.over()
            time.sleep(0.05)
    except BaseException:
        running.kill()
        raise
    name, code = running.step.name, running.process.returncode
    told = lines.read(folder / "steps.jsonl")[name]
    if told["state"] == "begun":
        why = "killed at its limit" if code == -signal.SIGKILL else f"its process ended with {code}; see {name}.log"
        _note(folder, running.step, "killed" if code == -signal.SIGKILL else "failed", why)
        told = lines.read(folder / "steps.jsonl")[name]
    print(f"{name}: {told['state']}{told['why'] and ', '}{told['why']} ({told.get('seconds', '?')} s)", flush=True)


def _note(folder: Path, step: RunStep, state: str, why: str) -> None:
    lines.append(folder / "steps.jsonl", {"unit": step.name, "state": state, "why": why})


def _finished(folder: Path, step: RunStep) -> bool:
    """True if no unit of the step is left to run: failed units, and failed steps, are run again."""
    told = lines.read(folder / "steps.jsonl").get(step.name, {})
    failed = any("failed" in line for line in lines.read(folder / f"{step.name}.jsonl").values())
    return told.get("state") in ("done", "skipped") and not failed


def _claim(asked: Run) -> None:
    """Raises UsageError where the folder holds results of another bench or device, which one page must not mix."""
    path, run = asked.folder / "run.json", {"bench": asked.bench, "device": asked.device}
    if path.is_file():
        if (before := read_json(path)) != run:
            raise UsageError(f"{asked.folder}: holds a run of {before}, not of {run}; name another folder with --out")
    else:
        write(path, f"{run}\n".replace("'", '"'))


@contextmanager
def _clocks(folder: Path) -> Iterator[None]:
    """nvidia-smi writes clocks, power and throttling twice a second, where it is installed."""
    if shutil.which("nvidia-smi") is None:
        yield
        return
    command = ["nvidia-smi", f"--query-gpu={','.join(CLOCKS)}", "--format=csv,noheader,nounits", "-lms", "500"]
    with (folder / CLOCKS_FILE).open("ab") as file, subprocess.Popen(command, stdout=file) as process:
        try:
            yield
        finally:
            process.kill()
