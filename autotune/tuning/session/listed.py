"""Configs that somebody wants tried: a JSON list of objects, or one object a line, held against the search space."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autotune.config import Config
from autotune.errors import UsageError, did_you_mean
from autotune.files import parse_json, read_text, scalars
from autotune.tuning.space import Lists


def read(path: Path, kernel: str, lists: Lists) -> tuple[Config, ...]:
    """The configs of `path` in its order, each once; `lists` are the values that the space of `kernel` tries.

    Raises UsageError with file, line and remedy for what is no config of that space.
    """
    found = dict.fromkeys(_config(entry, place, kernel, lists) for place, entry in _entries(read_text(path), path))
    if not found:
        raise UsageError(f"{path}: names no config; write a JSON object a line, or a list of them")
    return tuple(found)


def _entries(text: str, path: Path) -> Iterator[tuple[str, Any]]:
    """Each object with the place where it begins."""
    if not text.lstrip().startswith("["):
        for number, words in enumerate(text.splitlines(), 1):
            if words.strip():
                yield f"{path}: line {number}", parse_json(words, f"{path}: line {number}")
        return
    parse_json(text, str(path))
    decoder, at, line = json.JSONDecoder(), text.index("[") + 1, 1 + text.count("\n", 0, text.index("["))
    while True:
        begin = at
        while text[at] in " \t\r\n,":
            at += 1
        line += text.count("\n", begin, at)
        if text[at] == "]":
            return
        entry, end = decoder.raw_decode(text, at)
        yield f"{path}: line {line}", entry
        line += text.count("\n", at, end)
        at = end


def _config(entry: Any, place: str, kernel: str, lists: Lists) -> Config:  # noqa: ANN401
    given = scalars(entry, place)
    for name in given:
        if name not in lists:
            raise UsageError(f"{place}: unknown parameter {name!r}{did_you_mean(name, lists)}")
    for name, values in lists.items():
        if name not in given:
            raise UsageError(f"{place}: lacks {name!r}; give it one of {', '.join(map(json.dumps, values))}")
        # 1 == True in Python, and a config keeps which of them it is.
        if not any(given[name] == value and type(given[name]) is type(value) for value in values):
            raise UsageError(
                f"{place}: {name} is {json.dumps(given[name])}, the space tries {', '.join(map(json.dumps, values))}; "
                f"add it to search_spaces/{kernel}.yaml, or correct the line"
            )
    return Config(given)
