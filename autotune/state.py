"""Results of stages on disk, one small JSON file each, written atomically and keyed by everything they depend on."""

from __future__ import annotations

import hashlib
import json
import os
from pathlib import Path
from typing import Any

from autotune import files


def state_root() -> Path:
    """Where journals and caches lie: $AUTOTUNE_STATE, else `~/.cache/autotune`."""
    return Path(os.environ.get("AUTOTUNE_STATE") or Path.home() / ".cache" / "autotune")


class Cache:
    """A folder of results; `parts` of a key are joined and hashed."""

    def __init__(self, root: Path) -> None:
        self._root = root

    def get(self, *parts: str) -> dict[str, Any] | None:
        try:
            found = json.loads(self._path(parts).read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError, RecursionError):
            return None  # absent, damaged, or not ours: the stage runs again and overwrites it
        return found if isinstance(found, dict) else None

    def put(self, value: dict[str, Any], *parts: str) -> None:
        files.write(self._path(parts), json.dumps(value))

    def _path(self, parts: tuple[str, ...]) -> Path:
        digest = hashlib.sha256("\n".join(parts).encode()).hexdigest()
        return self._root / digest[:2] / f"{digest[2:34]}.json"
