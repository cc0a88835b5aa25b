"""Where trials are kept: Optuna's journal file on one machine, a database for many; one session a study at a time."""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import JournalFileBackend

from autotune.errors import UsageError

_LONGEST_NAME = 512
"""Characters of a study's name that Optuna's database schema holds; a captured load of 384 experts alone has 768."""


@contextmanager
def exclusive(path: Path) -> Iterator[None]:
    """Holds the lock file `path`; the kernel frees it however this process ends. Raises UsageError where it is held."""
    path.parent.mkdir(parents=True, exist_ok=True)
    handle = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        os.truncate(handle, 0)
        os.pwrite(handle, str(os.getpid()).encode(), 0)
        yield
    except BlockingIOError:
        holder = os.pread(handle, 20, 0).decode() or "unknown"
        raise UsageError(
            f"{path}: another session (process {holder}) tunes this kernel for this device; wait for it, or end it"
        ) from None
    finally:
        os.close(handle)


def journal(path: Path) -> BaseStorage:
    """The journal at `path`, mended after a kill. The caller holds `exclusive`, so whatever lock lies there is dead."""
    path.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{path}.lock").unlink(missing_ok=True)
    if path.exists():
        text = path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            os.truncate(path, whole)  # a torn line would make every later one unreadable
    return JournalStorage(_OneWriter(str(path)))


class _OneWriter(JournalFileBackend):
    """Optuna's file and format, for a writer that `exclusive` keeps alone: no lock a line, and the disk is waited for
    where a trial ends. A lock and an fsync for each line took 110 ms a trial, 30 times as long."""

    def __init__(self, path: str) -> None:
        super().__init__(path)
        self._path = Path(path)

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with self._path.open("ab") as file:
            file.write("".join(json.dumps(log, separators=(",", ":")) + "\n" for log in logs).encode())
            if any("datetime_complete" in log for log in logs):
                file.flush()
                os.fsync(file.fileno())


@contextmanager
def alone(shared: BaseStorage, name: str) -> Iterator[None]:
    """Holds `name` among all machines that use this database, until the connection ends, however it does. Raises
    UsageError where another session holds it. Only PostgreSQL has such locks; elsewhere `exclusive` is all."""
    if not isinstance(shared, RDBStorage) or shared.engine.dialect.name != "postgresql":
        yield
        return
    lock = int.from_bytes(hashlib.sha256(name.encode()).digest()[:8], "big", signed=True)
    with shared.engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        if not connection.exec_driver_sql(f"SELECT pg_try_advisory_lock({lock})").scalar():
            raise UsageError(f"--storage: another session, perhaps on another machine, tunes {name}; wait for it")
        try:
            yield
        finally:
            connection.exec_driver_sql(f"SELECT pg_advisory_unlock({lock})")  # the pool keeps the connection


def database_name(name: str) -> str:
    """`name` as a database takes it: where that is too long, a digest stands for its end."""
    if len(name) <= _LONGEST_NAME:
        return name
    digest = hashlib.sha256(name.encode()).hexdigest()
    return f"{name[: _LONGEST_NAME - len(digest) - 1]} {digest}"


def database(url: str) -> BaseStorage:
    """`postgresql://user@host/name`. Raises UsageError where its driver or the server is missing."""
    from sqlalchemy.engine import make_url
    from sqlalchemy.exc import SQLAlchemyError

    try:
        parsed = make_url(url)
        shown = parsed.render_as_string(hide_password=True)
    except SQLAlchemyError as error:
        raise UsageError(f"--storage: not a database URL ({error}); write postgresql://user@host/database") from None
    if parsed.drivername == "postgresql":
        parsed = parsed.set(drivername="postgresql+psycopg")  # SQLAlchemy's own choice changed with 2.1
    try:
        return RDBStorage(parsed.render_as_string(hide_password=False), engine_kwargs={"pool_pre_ping": True})
    except ImportError as error:
        raise UsageError(
            f"--storage {shown}: its driver is not installed; pip install 'deepseek-autotune[postgresql]'"
        ) from error
    except SQLAlchemyError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UsageError(f"--storage {shown}: {reason}; start the server or correct the URL") from None
