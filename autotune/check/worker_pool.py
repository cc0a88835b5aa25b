"""The parent's side of the protocol: a few processes of one toolchain that survive what they are asked."""

from __future__ import annotations

import json
import os
import queue
import shutil
import signal
import subprocess
import tempfile
import threading
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from autotune.check.call import CheckedCall
from autotune.check.compilers import Toolchain
from autotune.errors import UsageError
from autotune.toolchain import remedy
from autotune.tuning.workers.worker import Limits

_CHILD = Path(__file__).with_name("worker_main.py")
_STARTING_S = 300.0

T = TypeVar("T")
Answer = dict[str, Any]


class Processes:
    """Start with the first call; an answer is a dict, `{"failed": why}` where the process gave none."""

    def __init__(self, toolchain: Toolchain, limits: Limits, *, interpret: bool = False) -> None:
        self._toolchain, self._limits, self._interpret = toolchain, limits, interpret
        self._folder = Path(tempfile.mkdtemp(prefix="autotune-check-"))
        self._idle: queue.SimpleQueue[_Child | None] = queue.SimpleQueue()
        for _ in range(limits.processes):
            self._idle.put(None)

    def run(
        self, action: str, calls: Mapping[str, CheckedCall], then: Callable[[CheckedCall, Answer], T]
    ) -> Iterator[tuple[str, T]]:
        """Each call's name with `then` of its answer, as they come; `then` runs in parallel. Raises UsageError."""
        with ThreadPoolExecutor(self._limits.processes) as pool:
            waiting = {pool.submit(lambda c: then(c, self._ask(action, c)), call): name for name, call in calls.items()}
            try:
                for future in as_completed(waiting):
                    yield waiting[future], future.result()
            finally:
                pool.shutdown(wait=False, cancel_futures=True)

    def _ask(self, action: str, call: CheckedCall) -> Answer:
        child = self._idle.get()
        try:
            if child is not None and not child.alive:
                child.stop()  # the compilers that it had started may live
                child = None
            if child is None:
                child = _Child(self._toolchain, self._environment(), self._limits)
            return child.ask(call.request(action), self._limits.timeout_s)
        finally:
            self._idle.put(child)

    def _environment(self) -> dict[str, str]:
        more = {"TRITON_CACHE_DIR": str(self._folder), **({"TRITON_INTERPRET": "1"} if self._interpret else {})}
        return self._toolchain.process_environment() | more

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for _ in range(self._limits.processes):
            child = self._idle.get()
            if child is not None:
                child.stop()
        shutil.rmtree(self._folder, ignore_errors=True)


class _Child:
    def __init__(self, toolchain: Toolchain, environment: dict[str, str], limits: Limits) -> None:
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed by stop()
        self._process = subprocess.Popen(
            [toolchain.python, "-P", str(_CHILD), str(limits.memory_gb), toolchain.npu_release],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._errors,
            text=True,
            env=environment,
            start_new_session=True,
        )
        first = self._answer(_STARTING_S)
        if "ready" not in first:
            self.stop()
            why = first.get("unfit") or first["failed"]
            raise UsageError(f"{toolchain.name} cannot be checked ({why}); {remedy()}")

    @property
    def alive(self) -> bool:
        return self._process.poll() is None

    def ask(self, request: dict[str, Any], timeout_s: float) -> Answer:
        assert self._process.stdin
        try:
            print(json.dumps(request), file=self._process.stdin, flush=True)
        except BrokenPipeError:
            return {"failed": self._last_words()}
        return self._answer(timeout_s)

    def _answer(self, timeout_s: float) -> Answer:
        assert self._process.stdout
        late = threading.Event()

        def kill() -> None:
            late.set()
            self._kill()

        timer = threading.Timer(timeout_s, kill)
        timer.start()
        line = self._process.stdout.readline()
        timer.cancel()
        if line:
            found: Answer = json.loads(line)
            return found
        if late.is_set():
            return {"failed": f"took longer than {timeout_s:.0f} s and was killed", "late": True}
        return {"failed": self._last_words()}

    def _last_words(self) -> str:
        code = self._process.wait()
        self._errors.seek(0)
        lines = self._errors.read().strip().splitlines()
        return f"the process died (exit code {code}){': ' + lines[-1][:300] if lines else ''}"

    def _kill(self) -> None:
        """Kills the whole group: the compilers that the process started die too, though it may have died before."""
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self._process.pid, signal.SIGKILL)

    def stop(self) -> None:
        self._kill()
        self._process.wait()
        self._errors.close()
