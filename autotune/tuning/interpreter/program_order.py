"""The order that atomics make between programs of one launch: who has announced which stores, and who knows of them.

A program that releases at an address announces all that it stored before its last barrier, and what it knew itself;
one that acquires at that address afterwards knows of it. Reads of anything else that another program stored are races.
Only atomics of one address count: lanes of wider ones order their own stores alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

_ACQUIRES = ("ACQUIRE", "ACQUIRE_RELEASE")
_RELEASES = ("RELEASE", "ACQUIRE_RELEASE")


class Announcements:
    """Periods between barriers, counted over all programs, up to which stores of programs are known of."""

    def __init__(self) -> None:
        self._known: dict[int, int] = {}
        """By program, the period before which the running program knows of all stores."""
        self._announced: dict[int, dict[int, int]] = {}
        """By address, what those who acquire there come to know."""

    def enter(self) -> None:
        """A program starts, and knows of nothing."""
        self._known = {}

    def atomic(self, address: int, semantics: str, program: int, period: int) -> None:
        """The running program passes an atomic of `semantics`, Triton's name of it, in its period `period`."""
        there = self._announced.setdefault(address, {})
        before = dict(there)
        if semantics in _RELEASES:
            _raise(there, {**self._known, program: period})
        if semantics in _ACQUIRES:
            _raise(self._known, before)

    def known(self, writers: Any, periods: Any) -> Any:  # noqa: ANN401
        """`writers` where the running program knows of their stores in `periods`, 0 elsewhere; None without any."""
        if not self._known:
            return None
        heard = np.zeros(1 + max(int(writers.max(initial=0)), *self._known), dtype=np.int64)
        heard[list(self._known)] = list(self._known.values())
        return np.where(periods < heard[writers], writers, 0)


def _raise(to: dict[int, int], by: Mapping[int, int]) -> None:
    for program, period in by.items():
        to[program] = max(period, to.get(program, 0))
