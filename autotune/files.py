"""Files that anybody may have written: read with a limit on their size, parsed with nothing executed."""

from __future__ import annotations

import bz2
import codecs
import fcntl
import gzip
import json
import lzma
import os
import secrets
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from autotune.errors import UsageError

LIMIT_BYTES = 64 << 20
"""The largest shipped file is under 1 MB, a whole recorded space of 18,000 configs 10 MB."""

LOCK = ".lock"
"""Name of the empty file in a folder that whoever replaces a table there holds; no reader of tables looks at it."""

_OPEN: dict[bytes, Callable[..., Any]] = {b"\x1f\x8b": gzip.open, b"\xfd7zXZ\0": lzma.open, b"BZh": bz2.open}
"""By the first bytes: a name tells less, once a file was downloaded or renamed."""

_ENCODINGS = {codecs.BOM_UTF8: "utf-8-sig", codecs.BOM_UTF16_LE: "utf-16", codecs.BOM_UTF16_BE: "utf-16"}
"""By byte order mark; editors on Windows and its shell write them."""


def read_json(path: Path) -> Any:  # noqa: ANN401
    """Raises UsageError for anything that is not JSON of reasonable size, or has a key twice."""
    return parse_json(read_text(path), str(path))


def read_text(path: Path) -> str:
    """Unpacks gzip, xz and bzip2, and leaves out a byte order mark. Raises UsageError."""
    try:
        with path.open("rb") as file:
            head = file.read(8)
        opener = next((found for magic, found in _OPEN.items() if head.startswith(magic)), Path.open)
        with opener(path, "rb") as file:
            content: bytes = file.read(LIMIT_BYTES + 1)  # of what is unpacked: a small file can hold a very large one
        if len(content) > LIMIT_BYTES:
            raise UsageError(f"{path}: larger than {LIMIT_BYTES >> 20} MiB; that is no table of configs")
        encoding = next((name for mark, name in _ENCODINGS.items() if content.startswith(mark)), "utf-8")
        return content.decode(encoding)
    except (OSError, EOFError, lzma.LZMAError, zlib.error, UnicodeDecodeError, ValueError) as error:
        raise UsageError(f"{path}: cannot be read ({error})") from error


def parse_json(text: str, place: str) -> Any:  # noqa: ANN401
    """Raises UsageError for what is not JSON, numbers that JSON does not have, and a key that stands twice."""
    try:
        return json.loads(text, object_pairs_hook=once, parse_constant=_no_constant)
    except (ValueError, RecursionError) as error:
        raise UsageError(f"{place}: not JSON ({error})") from error


def scalars(data: Any, place: str) -> dict[str, Any]:  # noqa: ANN401
    """An object of plain values. Raises UsageError."""
    if not isinstance(data, dict) or not all(v is None or isinstance(v, int | str | bool) for v in data.values()):
        raise UsageError(f"{place}: must be an object of integers, strings and true/false, got {str(data)[:80]}")
    return data


def once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """The object of one JSON text. Raises ValueError for a key that stands twice."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a key stands twice in one object")
    return found


def _no_constant(name: str) -> float:
    raise ValueError(f"{name} is no JSON number")


def write(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Puts `content` in place of whatever `path` holds, and makes its folder; text is written as UTF-8.

    The file behind a link is replaced, never the link, and keeps its mode; a new file gets the umask's. `durable`:
    waits until the disk has it. Raises OSError, and leaves no temporary file, where that cannot be done.
    """
    path = Path(os.path.realpath(path))
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{secrets.token_hex(8)}")
    handle = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    try:
        with os.fdopen(handle, "wb") as file:
            with suppress(FileNotFoundError):
                os.fchmod(file.fileno(), path.stat().st_mode & 0o777)
            file.write(content if isinstance(content, bytes) else content.encode())
            if durable:
                file.flush()
                os.fsync(file.fileno())
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keeps other processes and threads that call it for `path` waiting, by an advisory lock on that empty file.

    The kernel frees the lock however its holder ends; the empty file stays, since removing it would let two in where
    a shared file system caches names. Raises OSError where the folder cannot be written, or its file system has no
    `flock`.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    try:
        handle = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    except PermissionError:  # another user's file; a local file system locks what can only be read, too
        handle = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX)
        except OSError as error:
            raise OSError(error.errno, f"cannot be locked: {error.strerror}", str(path)) from error
        yield
    finally:
        with suppress(OSError):
            fcntl.flock(handle, fcntl.LOCK_UN)  # closing alone would leave it to processes forked meanwhile
        os.close(handle)
