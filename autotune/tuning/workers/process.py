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

from autotune import own_parts
from autotune.errors import MachineError

_START_S = 300.0
"""Importing torch has taken 8 s on two busy cores; a start is no part of a call's time."""
_DEATH_S = 60.0
"""A driver may hold a killed process until its kernel ends; the next one must not be timed beside it."""
_PRINTED_BYTES = 1 << 24
"""How much is read of what a process printed: beside the reason, compilers print the whole kernel, 0.1 to 2 MB."""
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
        # What the process prints goes to a file in memory, so that standard output holds results only. A Connection,
        # because that is what travels to new processes; this side reads it after a crash.
        self._printed = Connection(os.memfd_create("printed"))

    def call(self, task: Callable[[Any], Any], argument: Any, timeout_s: float) -> Any:  # noqa: ANN401
        """Return the result of `task` in the process, or raise what it raised there.

        Raises Lost where the process hung, died or ran out of memory, MachineError where none can be started or the
        one that hung cannot be ended, and ValueError for a task that no process could import.
        """
        if task.__module__ == "__main__":
            raise ValueError(f"{task} is of the main module, which workers do not import; define it elsewhere")
        line = self._line or self._begin()
        try:
            line.send((own_parts.of_this_process(), task, argument))
            if not line.poll(timeout_s):
                self._end()
                raise Lost("hang", f"took longer than {timeout_s:g} s and was killed")
            kind, answer = line.recv()
        except (EOFError, ConnectionError):
            code = self._reap()
            # Nobody here has sent it: the kernel does when memory is short.
            kind = "memory" if code == -signal.SIGKILL else "crash"
            raise Lost(kind, _died(code, _text(self._printed))) from None
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

    def _end(self) -> None:
        """Kills the process and waits for its death. Raises MachineError where it does not die."""
        number = self._process.pid if self._process else None
        self.kill()
        if self._reap() is None:
            raise MachineError(
                f"process {number} hung and does not end {_DEATH_S:g} s after it was killed: a driver holds it; "
                "reset the GPU or restart the machine, then run the same command again"
            )

    def _begin(self) -> Connection:
        """A process that is ready for calls. Raises MachineError: no call is to blame for a start that fails."""
        try:
            return self._started()
        except OSError as error:
            self.close()
            raise MachineError.of(error, "a worker process cannot be started") from error

    def _started(self) -> Connection:
        context = _forkserver() if self._start.forked else multiprocessing.get_context("spawn")
        self._line, theirs = context.Pipe()
        hold, self._lifeline = context.Pipe(duplex=False)
        self._process = context.Process(target=_serve, args=(theirs, hold, self._printed, self._start), daemon=True)
        # Unpickling a task may import Triton, which reads its mode then: the environment has to be inherited.
        with _STARTING, _nameless_main(), mock.patch.dict(os.environ, self._start.environment, clear=True):
            self._process.start()
        theirs.close()
        hold.close()
        try:
            if not self._line.poll(_START_S):
                self.close()
                raise MachineError(f"a worker process did not begin within {_START_S:g} s; end other processes")
            self._line.recv()
        except EOFError:
            died = _died(self._reap(), _text(self._printed))
            raise MachineError(f"{died} before its first task; see that torch and triton can be imported") from None
        return self._line

    def _reap(self) -> int | None:
        code = None
        if self._process is not None:
            self._process.join(_DEATH_S)
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


def printed() -> str:
    """Return the output of this worker process and its children since its task began; empty elsewhere."""
    if _PRINTED is None:
        return ""
    sys.stdout.flush()
    sys.stderr.flush()
    return _text(_PRINTED)


_PRINTED: Connection | None = None


def _serve(line: Connection, lifeline: Connection, output: Connection, start: Start) -> None:
    global _PRINTED
    os.setpgid(0, 0)
    _die_with(lifeline)
    for stream in (1, 2):
        os.dup2(output.fileno(), stream)
    _PRINTED = output
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
            parts, task, argument = line.recv()
        except EOFError:
            return
        own_parts.know(parts)
        _forget_printed(output.fileno())
        line.send(_answer(task, argument))


def _answer(task: Callable[[Any], Any], argument: Any) -> tuple[str, Any]:  # noqa: ANN401
    try:
        return "answer", task(argument)
    except LastAnswer as last:
        return "last", last.answer
    except MemoryError:
        return "memory", None
    except OSError as error:  # nothing that a task is asked for is a reason to fail on a file
        return "raised", MachineError.of(error)
    except Exception as error:  # travels to the caller and is raised there
        return "raised", error


def _die_with(lifeline: Connection) -> None:
    """The kernel kills this group when the caller's end closes, however the caller ends and whatever hangs here."""
    descriptor = lifeline.fileno()
    fcntl.fcntl(descriptor, fcntl.F_SETOWN, -os.getpgrp())
    fcntl.fcntl(descriptor, fcntl.F_SETSIG, signal.SIGKILL)
    fcntl.fcntl(descriptor, fcntl.F_SETFL, fcntl.fcntl(descriptor, fcntl.F_GETFL) | os.O_ASYNC)


def _forget_printed(file: int) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os.ftruncate(file, 0)
    os.lseek(file, 0, os.SEEK_SET)  # the offset is shared by all who print


def _text(file: Connection) -> str:
    return os.pread(file.fileno(), _PRINTED_BYTES, 0).decode(errors="replace")


def _died(code: int | None, text: str) -> str:
    lines = [line for line in text.splitlines() if line.strip()]
    # LLVM says why it aborts, then follows a list of addresses.
    said = next((line for line in lines if "error" in line.lower()), lines[-1] if lines else "")
    return f"the worker process died ({_exit(code)})" + (f": {said.strip()[:300]}" if said else "")


def _exit(code: int | None) -> str:
    if code is not None and code < 0:
        return signal.Signals(-code).name
    return f"exit code {code}"
