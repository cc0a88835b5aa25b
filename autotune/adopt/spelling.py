"""How values and lists are spelled in Python source."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

_WIDTH = 118


def quoted(value: object) -> str:
    """Return a literal, strings in double quotes."""
    return f'"{value}"' if isinstance(value, str) else repr(value)


def tuple_of(parts: Iterable[str]) -> str:
    """Return a tuple of expressions."""
    every = list(parts)
    return f"({', '.join(every)}{',' if len(every) == 1 else ''})"


def wrapped(before: str, items: Sequence[str], after: str) -> str:
    """Return `before`, the items and `after`: in one line, or where that is too long each item in its own."""
    line = f"{before}{', '.join(items)}{after}"
    if len(line) <= _WIDTH:
        return line
    indent = before[: len(before) - len(before.lstrip())]
    return before + "".join(f"\n{indent}    {item}," for item in items) + f"\n{indent}{after}"


def joined(lines: Iterable[str]) -> str:
    """Return lines with their ends."""
    return "".join(f"{line}\n" for line in lines)
