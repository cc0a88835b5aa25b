"""One process in its own group that answers calls, and is killed whole when it must be. Imports no Triton."""

from __future__ import annotations

import fcntl
import multiprocessing
import os
import resource
import signal
import sys
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any
from unittest import mock

_START_S = 300.0
"""Importing torch has taken 8 s on two busy cores; a start is no part of a call's time."""
_STARTING = Lock()


class Lost(Exception):
    """A call without an answer. `kind` is hang, crash or memory; the text is a reason for people."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(kind, reason)  # all of them: it is pickled by its arguments
        self.kind, self.reason = kind, reason

    def __str__(self) -> str:
        return self.reason


class LastAnswer(Exception):
    """Raised by a task whose process must not be used again, such as one that lost its GPU context."""

    def __init__(self, answer: Any) -> None:  # noqa: ANN401
        super().__init__("the process ends after this answer")
        self.answer = answer


@dataclass(frozen=True)
class Start:
    """How processes begin. Forked ones find torch and Triton imported: 0.1 s, not the 2 to 8 s of an import."""

    environment: Mapping[str, str]
    memory_gb: float
    forked: bool = True


class Isolated:
    """Begins with the first call, and again after each death."""

    def __init__(self, start: Start) -> None:
        self._start = start
        self._process: multiprocessing.process.BaseProcess | None = None
        self._line: Connection | None = None
        self._lifeline: Connection | None = None

    def call(self, task: Callable[[Any], Any], argument: Any, timeout_s: float) -> Any:  # noqa: ANN401
        """What `task` returns or raises there. Raises Lost where the process hung, died or ran out of memory, and
        ValueError for a task that no process could import."""
        if task.__module__ == "__main__":
            raise ValueError(f"{task} is of the main module, which workers do not import; define it elsewhere")
        line = self._line or self._begin()
        try:
            line.send((task, argument))
            if not line.poll(timeout_s):
                self.close()
                raise Lost("hang", f"took longer than {timeout_s:g} s and was killed")
            kind, answer = line.recv()
        except (EOFError, ConnectionError):
            raise Lost("crash", f"the worker process died ({_exit(self._reap())})") from None
        if kind in ("last", "memory"):
            self.close()
        if kind == "memory":
            raise Lost("memory", f"needed more than {self._start.memory_gb:g} GB")
        if kind == "raised":
            raise answer
        return answer

    def kill(self) -> None:
        """The whole group, from any thread: compilers that the process started die too."""
        process = self._process
        if process is not None and process.pid is not None:
            for kill in (os.killpg, os.kill):
                with suppress(ProcessLookupError, PermissionError):
                    kill(process.pid, signal.SIGKILL)

    def close(self) -> None:
        self.kill()
        self._reap()

    def _begin(self) -> Connection:
        context = _forkserver() if self._start.forked else multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        hold, self._lifeline = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(theirs, hold, self._start), daemon=True)
        # Unpickling a task may import Triton, which reads its mode then: the environment has to be inherited.
        with _STARTING, _nameless_main(), mock.patch.dict(os.environ, self._start.environment, clear=True):
            self._process.start()
        theirs.close()
        hold.close()
        if not self._line.poll(_START_S):
            self.close()
            raise Lost("hang", f"the worker process did not begin within {_START_S:g} s")
        self._line.recv()
        return self._line

    def _reap(self) -> int | None:
        code = None
        if self._process is not None:
            self._process.join(10)
            code = self._process.exitcode
        for end in (self._line, self._lifeline):
            if end is not None:
                end.close()
        self._process = self._line = self._lifeline = None
        return code


def _nameless_main() -> AbstractContextManager[Any]:
    """Processes begun meanwhile do not import the caller's main module again: 2 to 7 s at each respawn, and every
    script would need a guard. So nothing that is sent to a process may be defined in a main module."""
    return mock.patch.multiple(sys.modules["__main__"], create=True, __spec__=None, __file__=None)


def _forkserver() -> Any:  # noqa: ANN401 - the context's type is private
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "triton"])
    return context


def _serve(line: Connection, lifeline: Connection, start: Start) -> None:
    os.setpgid(0, 0)
    _die_with(lifeline)
    # The fork server keeps the environment of its first user.
    os.environ.clear()
    os.environ.update(start.environment)
    limit = int(start.memory_gb * 2**30)
    # RLIMIT_DATA, not RLIMIT_AS: torch and LLVM map far more address space than they touch.
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        line.send(("ready", None))
    except ConnectionError:
        return  # the caller died before we could die with it
    while True:
        try:
            task, argument = line.recv()
        except EOFError:
            return
        line.send(_answer(task, argument))


def _answer(task: Callable[[Any], Any], argument: Any) -> tuple[str, Any]:  # noqa: ANN401
    try:
        return "answer", task(argument)
    except LastAnswer as last:
        return "last", last.answer
    except MemoryError:
        return "memory", None
    except Exception as error:  # travels to the caller and is raised there
        return "raised", error


def _die_with(lifeline: Connection) -> None:
    """The kernel kills this group when the caller's end closes, however the caller ends and whatever hangs here."""
    descriptor = lifeline.fileno()
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
