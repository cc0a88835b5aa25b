"""Captured kernels of others: adopted without an edit, proved at their author's first config, and compiled."""

from __future__ import annotations

import json
import multiprocessing
import os
import re
import resource
import subprocess
import sys
from collections.abc import Iterable, Sequence
from contextlib import suppress
from multiprocessing.connection import Connection
from pathlib import Path

from autotune import device, registry
from autotune.adopt import adopting, calls, foreign
from autotune.adopt.calls import Call
from autotune.adopt.choices import Choices
from autotune.adopt.foreign import ForeignKernel
from autotune.config import key
from autotune.errors import AutotuneError, UsageError
from autotune.state import state_root
from autotune.tuning import space
from autotune.tuning.jobs import compile_job
from autotune.tuning.workers.worker import Job, Limits, Workers
from benchmarks.adopt.made_calls import made_calls

ARCHS = ("sm_90", "sm_100", "sm_120", "gfx942", "gfx950")
MOST_CPU_S = 60
"""CPU seconds that the adoption of one kernel may take."""

_MOST_S = 30
"""Seconds that a compilation may take."""

PROVED = "proved"


def adopted(name: str, path: Path | None, folder: Path) -> str:
    """Adopt the kernel `module:function` into `folder`, in a process of its own: PROVED, or what stopped it.

    `path`: file of captured calls; None for calls that are made up from its text, until one is proved.
    """
    with suppress(UsageError):
        adopting.found(name)  # here, so that the next process need not import its package again
    context = multiprocessing.get_context("fork")
    here, there = context.Pipe(duplex=False)
    process = context.Process(target=_adopt, args=(name, path, folder, there))
    process.start()
    there.close()
    try:
        said: str = here.recv()
    except EOFError:
        said = f"not adopted: takes more than {MOST_CPU_S} CPU seconds, or ends its process"
    process.join()
    return said


def _adopt(name: str, path: Path | None, folder: Path, answer: Connection) -> None:
    resource.setrlimit(resource.RLIMIT_CPU, (MOST_CPU_S, MOST_CPU_S))
    reasons = []
    try:
        kernel = foreign.read(adopting.found(name), name=name)
        tries = (
            ((call,) for call in made_calls(kernel))
            if path is None
            else [adopting.calls_of(kernel, calls.read(path), path)]
        )
        for own in tries:
            reason = _refusal(kernel, own, folder)
            if reason is None:
                answer.send(PROVED)
                return
            reasons.append(reason)
    except Exception as error:  # anybody's kernel may raise anything
        reasons.append(f"not adopted: {error}")
    # The first guess is the likeliest, so what stopped it is the cause; one that was at least adopted says more.
    said = next((reason for reason in reasons if reason.startswith("not proved")), reasons[0])
    answer.send(said.replace(f"{name}: ", "").strip().splitlines()[0][:200])


def _refusal(kernel: ForeignKernel, own: Sequence[Call], folder: Path) -> str | None:
    """Reason why a kernel is not adopted from calls of its own, or not proved, or None."""
    try:
        tuned = adopting.tuned_by_user(kernel, (), own[0])
        written = adopting.adopt(tuned, own, Choices(launcher_of(kernel.name)), folder, device.named("b200"))
    except Exception as error:  # anybody's kernel may raise anything
        return f"not adopted: {error}"
    return None if written.failure is None else f"not proved: {_without_place(written.failure)}"


def _without_place(failure: str) -> str:
    """Return what went wrong, without the problem and the config in which it did."""
    return re.sub(r": \S+ \S+ with \S+, inputs \w+, seed \d+", "", failure)


def launcher_of(name: str) -> str:
    """Return a name of its own for each kernel: its module's and its function's, as one word."""
    return re.sub(r"\W+", "_", name).strip("_")


def compiled(folder: Path, kernels: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return by kernel and arch why its author's first config does not compile, or an empty text; empty where no file
    was written. It runs in a process without Triton's interpreter, in which nothing can be compiled."""
    words = [sys.executable, "-W", "ignore", "-m", "benchmarks.adopt.adopted", str(folder), *kernels]
    environment = {key: value for key, value in os.environ.items() if key != "TRITON_INTERPRET"}
    ended = subprocess.run(words, env=environment, stdout=subprocess.PIPE, text=True, check=True)
    found: dict[str, dict[str, str]] = json.loads(ended.stdout.splitlines()[-1])
    return found


def main() -> None:
    """Compile the kernels that are named, out of a folder, for every arch; prints JSON."""
    folder, *names = sys.argv[1:]
    found: dict[str, dict[str, str]] = {name: {} for name in names}
    jobs: dict[Job, tuple[str, str]] = {}
    for name in names:
        path = Path(folder) / f"{launcher_of(name)}.py"
        if not path.is_file():
            continue
        (known,) = registry.named(str(path))
        for arch in ARCHS:
            target = device.target(arch)
            try:
                kernel = registry.load(known)
                problem = space.load(kernel, target).compile[0]
                config = kernel.default(problem, target)
            except AutotuneError as error:
                found[name][arch] = str(error)
                continue
            refusal = kernel.reject(problem, config, target)
            if refusal is None:
                jobs[Job(known, key(problem), config, target.name)] = (name, arch)
            else:
                found[name][arch] = refusal
    with Workers(Limits(timeout_s=_MOST_S), state_root()) as workers:
        for job, result in workers.run(compile_job, jobs):
            name, arch = jobs[job]
            found[name][arch] = result if isinstance(result, str) else str(result.get("failed") or "")
    print(json.dumps(found))


if __name__ == "__main__":
    main()
