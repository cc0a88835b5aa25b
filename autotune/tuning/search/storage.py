"""Where trials are kept: Optuna's journal file on one machine, a database for many; one session a study at a time."""

from __future__ import annotations

import fcntl
import hashlib
import io
import itertools
import json
import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage, RDBStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.storages.journal._storage import JournalStorageReplayResult

from autotune import files, packages
from autotune.errors import UsageError

_LONGEST_NAME = 512
"""Characters of a study's name that Optuna's database schema holds; a captured load of 384 experts alone has 768."""
_FULL_NAME = "name"
"""Attribute of a study whose name a database could not hold."""
_MAPPINGS = ("user_attr", "user_attrs", "system_attr", "system_attrs", "params", "distributions")
"""Fields of a journal's lines that Optuna stores as they come and takes for mappings later."""


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
    """Open the journal at `path`, mended after a kill. The caller holds `exclusive`, so any lock found there is dead.

    Of a journal that a disk damaged, the lines before the damage are kept, the whole file is set aside, and a warning
    says where: later lines count trials from those before them, so that none can be told without all the others.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    Path(f"{path}.lock").unlink(missing_ok=True)
    if path.exists():
        text = path.read_bytes()
        whole = text.rfind(b"\n") + 1
        if whole < len(text):
            os.truncate(path, whole)  # a torn line would make every later one unreadable
    try:
        return JournalStorage(_OneWriter(path))
    except OSError:
        raise
    except Exception:  # Optuna raises whatever a damaged line makes of it
        _set_aside(path)
        return JournalStorage(_OneWriter(path))


def _set_aside(path: Path) -> None:
    """Keep the lines of a damaged journal that can be replayed up to the first that cannot, and the whole beside it."""
    text = path.read_bytes()
    replay, end, reason = JournalStorageReplayResult(""), 0, ""
    for line in io.BytesIO(text):
        try:
            replay.apply_logs([_log(line)])
        except Exception as error:
            reason = f"{type(error).__name__}: {error}"
            break
        end += len(line)
    numbered = itertools.chain((".damaged",), (f".damaged-{number}" for number in itertools.count(2)))
    aside = next(other for ending in numbered if not (other := Path(f"{path}{ending}")).exists())
    files.write(aside, text)
    files.write(path, text[:end], durable=True)
    logging.getLogger(__name__).warning(
        "%s: line %d is damaged (%s); the %d lines before it are kept, the trials after it are made again, and the "
        "file as it was lies in %s: remove it once you need it no longer",
        *(path, text[:end].count(b"\n") + 1, reason, text[:end].count(b"\n"), aside),
    )


def _log(line: bytes) -> dict[str, Any]:
    """Parse one operation. Raises ValueError for a line that is none, or whose outcome is none."""
    log = json.loads(line)
    if not isinstance(log, dict):
        raise ValueError("a line must be an object")
    if wrong := [name for name in _MAPPINGS if not isinstance(log.get(name, {}), dict)]:
        raise ValueError(f"{wrong[0]} must be an object")
    outcome = log.get("user_attr", {}).get("outcome", "{}")
    if not isinstance(json.loads(outcome), dict):
        raise ValueError("an outcome must be an object")
    return log


class _OneWriter(BaseJournalBackend):
    """Optuna's format in one file, for a writer that `exclusive` keeps alone: no lock a line, and the disk is waited
    for where a trial ends. A lock and an fsync for each line took 110 ms a trial, 30 times as long."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._path.touch()
        self._ends = [0]
        """Offset in bytes after each line."""

    def read_logs(self, log_number_from: int) -> Iterator[dict[str, Any]]:
        """Yield the operations from that line on. Raises ValueError at a damaged one, also at the last."""
        with self._path.open("rb") as file:
            file.seek(self._ends[log_number_from])
            del self._ends[log_number_from + 1 :]
            for line in file:
                log = _log(line)
                self._ends.append(self._ends[-1] + len(line))
                yield log

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


def study_called(name: str, held: BaseStorage) -> optuna.Study:
    """The study called `name`, new or resumed. A database gets a shorter name where it must, and keeps the full one."""
    stored = database_name(name) if isinstance(held, RDBStorage) else name
    study = optuna.create_study(storage=held, study_name=stored, load_if_exists=True)
    if stored != name and _FULL_NAME not in study.user_attrs:
        study.set_user_attr(_FULL_NAME, name)
    return study


def full_name(study: optuna.Study) -> str:
    """The name by which `study_called` opens `study`."""
    name: str = study.user_attrs.get(_FULL_NAME, study.study_name)
    return name


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
        raise UsageError(f"--storage {shown}: its driver is not installed; {packages.remedy('postgresql')}") from error
    except SQLAlchemyError as error:
        reason = str(error.__cause__ or error).strip().splitlines()[0]
        raise UsageError(f"--storage {shown}: {reason}; start the server or correct the URL") from None
