"""Files that are whole at every moment: a reader sees the old one or the new one, also when the writer is killed."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path


def write(path: Path, content: str | bytes, *, durable: bool = False) -> None:
    """Puts `content` in place of whatever `path` holds, and makes its folder; text is written as UTF-8.

    `durable`: waits until the disk has it. Raises OSError, and leaves no temporary file, where that cannot be done.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=".")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(content if isinstance(content, bytes) else content.encode())
            if durable:
                file.flush()
                os.fsync(file.fileno())
        Path(temporary).chmod(0o644)
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
