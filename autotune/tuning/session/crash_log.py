"""Configs that hung, crashed or lied: append-only, shared between sessions, never tried again unless asked."""

from __future__ import annotations

import json
import os
from dataclasses import asdict, dataclass
from pathlib import Path

KINDS = ("hang", "crash", "sticky", "wrong")
"""Kinds of failures that are kept; running out of memory is not, since it may succeed another day."""


@dataclass(frozen=True)
class Crash:
    """One config's failure on one problem; `stage` is compile, measure or validate."""

    kernel: str
    source: str
    toolchain: str
    problem: str
    config: str
    stage: str
    kind: str
    reason: str

    @property
    def where(self) -> tuple[str, ...]:
        return (self.kernel, self.source, self.toolchain, self.problem, self.config)


class CrashLog:
    """One file a device. A line is one write in append mode, so that sessions share it and a kill tears none."""

    def __init__(self, state: Path, device: str) -> None:
        self._path = state / "crash_log" / f"{device}.jsonl"
        self.epoch = 0
        """How often everything was forgotten: searches of another epoch try again."""
        self._known: dict[tuple[str, ...], Crash] = {}
        self._read()

    def __len__(self) -> int:
        return len(self._known)

    def find(self, *where: str) -> Crash | None:
        """The crash of (kernel, source, toolchain, problem, config)."""
        return self._known.get(where)

    def add(self, crash: Crash) -> None:
        """On disk when this returns; a crash that is known already is not written again."""
        if crash.kind not in KINDS or crash.where in self._known:
            return
        self._known[crash.where] = crash
        self._append(asdict(crash))

    def forget(self) -> None:
        """All that is known is tried again, by this session and later ones."""
        self._append({"forget": True})
        self._known.clear()
        self.epoch += 1

    def _append(self, entry: dict[str, object]) -> None:
        self._path.parent.mkdir(parents=True, exist_ok=True)
        # It begins with a line break: after a torn line of a full disk, this one is still whole.
        line = "\n" + json.dumps(entry) + "\n"
        handle = os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o644)
        try:
            os.write(handle, line.encode())
        finally:
            os.close(handle)

    def _read(self) -> None:
        try:
            lines = self._path.read_text(encoding="utf-8", errors="replace").splitlines()
        except FileNotFoundError:
            return
        for line in filter(None, lines):
            try:
                entry = json.loads(line)
                if entry == {"forget": True}:
                    self._known.clear()
                    self.epoch += 1
                else:
                    crash = Crash(**entry)
                    self._known[crash.where] = crash
            except (ValueError, TypeError, RecursionError):
                continue  # torn, or of another release: the config is tried once more
