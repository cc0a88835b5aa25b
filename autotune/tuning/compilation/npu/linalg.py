"""Loops in which the adapter reads or writes a tensor element by element or row by row, found in its Linalg.

Where addresses follow no pattern that one DMA transfer can express, `triton-adapter-opt` writes a loop and marks it
`ExtractedLoadOrStore`. A loop over rows copies each by DMA, as a gather must; one over elements loads scalars.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Any

_MARK = "ExtractedLoadOrStore"
_VIEW = re.compile(r"(%[-\w#]+) = memref\.(?:reinterpret_cast|subview|cast) (%[-\w#]+)")
_ELEMENT = re.compile(r"memref\.(load|store) [^\n]*?(%[-\w#]+)\[")
_COPY = re.compile(r"memref\.copy (%[-\w#]+), (%[-\w#]+) ")
_PLACED = re.compile(r"materialize_in_destination %[-\w#]+ in (?:\w+ )*(%[-\w#]+)")
_ARGUMENT = re.compile(r"%arg(\d+)")
_PARAMETER = re.compile(r"%(\w+): ")
_HIDDEN = 2
"""Arguments that the adapter puts before those of the kernel: a lock and the workspace."""


@dataclass(frozen=True)
class DiscreteLoop:
    """A loop that moves a tensor in pieces: `piece` is element or row, `argument` the kernel's name of the pointer."""

    argument: str
    piece: str
    writes: bool

    def __str__(self) -> str:
        return f"{self.argument} is {'written' if self.writes else 'read'} {self.piece} by {self.piece}"

    def as_json(self) -> dict[str, Any]:
        return asdict(self)


def parameters(ttir: str) -> tuple[str, ...]:
    """The names of the kernel's run-time arguments, in order."""
    head = next((line for line in ttir.splitlines() if "tt.func public" in line), "")
    return tuple(_PARAMETER.findall(head))


def discrete_loops(linalg: str, names: tuple[str, ...]) -> tuple[DiscreteLoop, ...]:
    """The innermost marked loops, in order; `names` are the kernel's run-time arguments."""
    return tuple(loop for body, views in _marked(linalg) for loop in _loops(body, views, names))


def _marked(linalg: str) -> Iterator[tuple[str, dict[str, str]]]:
    """The bodies of marked loops that hold no other marked loop, and the views that they may name: the last of a name,
    since sibling regions use names again."""
    opened: list[tuple[int, bool]] = []
    """Line of each open region, and whether a marked loop has ended in it."""
    lines = linalg.splitlines()
    for number, line in enumerate(lines):
        text = line.strip()
        if text.startswith("}") and opened:
            start, holds_marked = opened.pop()
            is_marked = _MARK in text
            if is_marked and not holds_marked:
                yield "\n".join(lines[start + 1 : number]), dict(_VIEW.findall("\n".join(lines[:number])))
            if opened and (is_marked or holds_marked):
                opened[-1] = (opened[-1][0], True)
        if text.endswith("{"):
            opened.append((number, False))


def _loops(body: str, views: dict[str, str], names: tuple[str, ...]) -> list[DiscreteLoop]:
    """Return the transfers between arguments and the core; elements of something where none is recognized."""
    moves = [(place, "element", access == "store") for access, place in _ELEMENT.findall(body)]
    for source, target in _COPY.findall(body):
        moves += [(source, "row", False), (target, "row", True)]
    moves += [(target, "row", True) for target in _PLACED.findall(body)]
    found = [(_name(place, views, names), piece, writes) for place, piece, writes in moves]
    loops = {DiscreteLoop(name, piece, writes) for name, piece, writes in found if name}
    return sorted(loops, key=str) or [DiscreteLoop("a tensor", "element", writes=False)]


def _name(value: str, views: dict[str, str], names: tuple[str, ...]) -> str:
    """The argument behind a view; empty where it is none, as for a buffer of the core."""
    while value in views:
        value = views[value]
    argument = _ARGUMENT.fullmatch(value)
    index = int(argument[1]) - _HIDDEN if argument else -1
    return names[index] if 0 <= index < len(names) else ""
