"""Format 2 of a tuned table: a row a line, and what rows share once, each entry a line too.

An entry is named by the first digits of its content's hash, so that one more renames no other. A row names its shape,
all of the problem but the first field, which is its number of tokens, and its evidence; evidence names its session,
its proof and the finalists of its search. A reader takes any names.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

from autotune.config import Config, Key
from autotune.errors import TableError
from autotune.evidence import SESSION, Evidence, Parts, split
from autotune.table_checks import (
    Place,
    check_fields,
    check_head,
    check_object,
    check_scalars,
    check_text,
    check_tier,
    intervals,
    sort_key,
)
from autotune.table_record import Row, Table

FORMAT = 2

SECTIONS = ("shapes", "evidence", "finalists", "proofs", "sessions")
"""Fields of a table that hold what rows share, by name of the entry."""
_SECTION_NAMES = frozenset(SECTIONS)

_DIGITS = 8
"""Hexadecimal digits of an entry's name; more where two entries begin alike."""

_ROW = frozenset({"problem", "config", "evidence"})
_ROW_KNOWN = _ROW | {"shape", "serves"}
_EVIDENCE = frozenset({"session", "code", "figures"})
_EVIDENCE_KNOWN = _EVIDENCE | {"proof", "finalists"}
_SESSION = frozenset({"tier", "toolchain"})
_SESSION_KNOWN = _SESSION | {"figures", *SESSION}
_PROOF_KNOWN = frozenset({"proved_on", "error_over_bound"})

_T = TypeVar("_T")


def dumps(table: Table) -> str:
    head: dict[str, Any] = {"format": FORMAT, "kernel": table.kernel, "arch": table.arch, "device": table.device}
    head["source"] = table.source
    if table.proof:
        head["proof"] = table.proof
    if table.deterministic:
        head["deterministic"] = True
    shared = {name: _Section() for name in SECTIONS}
    rows = [_line(_plain(row, shared)) for row in sorted(table.rows, key=lambda row: sort_key(row.problem))]
    blocks = [f"  {_text(name)}: {_text(value)}" for name, value in head.items()]
    blocks += shared["shapes"].lines("shapes")
    blocks.append('  "rows": [\n' + ",\n".join(f"    {row}" for row in rows) + "\n  ]")
    for name in SECTIONS[1:]:
        blocks += shared[name].lines(name)
    return "{\n" + ",\n".join(blocks) + "\n}\n"


@dataclass
class _Section:
    """Entries of one kind, by name."""

    entries: dict[str, str] = field(default_factory=dict)

    def add(self, value: Any) -> str:  # noqa: ANN401
        """Return the name of the entry `value`."""
        text = _text(value)
        digest = hashlib.sha256(text.encode()).hexdigest()
        names = (digest[:digits] for digits in range(_DIGITS, len(digest) + 1))
        return next(name for name in names if self.entries.setdefault(name, text) == text)

    def lines(self, title: str) -> list[str]:
        """Return the section as text: one string, or none where it has no entries."""
        if not self.entries:
            return []
        entries = ",\n".join(f"    {_text(name)}: {text}" for name, text in sorted(self.entries.items()))
        return [f"  {_text(title)}: {{\n{entries}\n  }}"]


def _plain(row: Row, shared: Mapping[str, _Section]) -> dict[str, Any]:
    size, *others = row.problem
    return {
        "problem": dict([size]),
        **({"shape": shared["shapes"].add(dict(others))} if others else {}),
        **({"serves": {name: [low, high] for name, low, high in row.serves}} if row.serves else {}),
        "config": dict(row.config),
        "evidence": shared["evidence"].add(_plain_evidence(row, shared)),
    }


def _plain_evidence(row: Row, shared: Mapping[str, _Section]) -> dict[str, Any]:
    parts = split(row.evidence, row.problem, row.config)
    session = {"tier": row.tier, "toolchain": row.toolchain, **parts.session}
    figures: Any = parts.figures
    if row.tier == "imported":  # facts of a foreign entry, which no two rows need have in common
        figures = dict(zip(parts.names, parts.figures, strict=True))
    else:
        session["figures"] = parts.names
    return {
        "session": shared["sessions"].add(session),
        "code": row.code,
        "figures": figures,
        **({"proof": shared["proofs"].add(parts.proof)} if parts.proof else {}),
        **({"finalists": shared["finalists"].add(parts.finalists)} if parts.finalists is not None else {}),
    }


def _line(row: dict[str, Any]) -> str:
    """Return a row as text; without spaces behind colons, the longest has 296 characters in place of 314."""
    return json.dumps(row, allow_nan=False, separators=(", ", ":"))


def _text(value: Any) -> str:  # noqa: ANN401
    return json.dumps(value, allow_nan=False)


def read(data: Any, place: Place) -> Table:  # noqa: ANN401
    """Return the table of a file of this format, parsed. Raises TableError."""
    try:
        check_head(data, _SECTION_NAMES)
        for name in SECTIONS:
            check_object(data.get(name, {}), name)
    except TableError as error:
        raise TableError(f"{place.file}: {error}") from None
    shapes = _entries("shapes", data, place, _shape)
    sessions = _entries("sessions", data, place, _session)
    proofs = _entries("proofs", data, place, _proof)
    finalists = _entries("finalists", data, place, _finalists)
    evidence = _entries("evidence", data, place, lambda entry: _evidence(entry, sessions, proofs, finalists))
    rows = []
    for index, row in enumerate(data["rows"]):
        try:
            rows.append(_row(row, shapes, evidence))
        except TableError as error:
            raise TableError(f"{place.row(index)}: {error}") from None
    names = (data["kernel"], data["arch"], data["device"], data["source"])
    return Table(*names, tuple(rows), "deterministic" in data, data.get("proof", ""))


class _Session(NamedTuple):
    """An entry of `sessions`: what its rows share beside the names of their figures."""

    tier: str
    toolchain: str
    names: Sequence[str]
    fields: Mapping[str, Any]


class _Provenance(NamedTuple):
    """An entry of `evidence`, with what it names in place of the names."""

    session: _Session
    code: str
    parts: Parts


def _entries(section: str, data: Mapping[str, Any], place: Place, read_entry: Callable[[Any], _T]) -> dict[str, _T]:
    """Return the entries of a section by name, each as `read_entry` gives it."""
    entries = {}
    for name, entry in data.get(section, {}).items():
        try:
            entries[name] = read_entry(entry)
        except TableError as error:
            raise TableError(f"{place.entry(section, name)}: {error}") from None
    return entries


def _shape(entry: Any) -> Key:  # noqa: ANN401
    check_scalars(entry, "shape")
    return tuple(entry.items())


def _session(entry: Any) -> _Session:  # noqa: ANN401
    check_fields(entry, _SESSION, _SESSION_KNOWN)
    check_tier(entry["tier"])
    check_text(entry["toolchain"], "toolchain")
    names = entry.get("figures", [])
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        raise TableError(f"figures must list the names of figures, got {names!r}")
    fields = {name: entry[name] for name in SESSION if name in entry}
    return _Session(entry["tier"], entry["toolchain"], names, fields)


def _proof(entry: Any) -> Mapping[str, Any]:  # noqa: ANN401
    check_fields(entry, frozenset(), _PROOF_KNOWN)
    problems = entry.get("proved_on", [])
    if not isinstance(problems, list) or not all(text is None or isinstance(text, str) for text in problems):
        raise TableError(f"proved_on must list problems, or null for the row's own, got {problems!r}")
    return dict(entry)


def _finalists(entry: Any) -> list[Any]:  # noqa: ANN401
    for finalist in entry if isinstance(entry, list) else [None]:
        if not isinstance(finalist, dict) and not (isinstance(finalist, list) and len(finalist) == 1):
            raise TableError(f"must list the parameters in which each config differs from the row's, got {entry!r}")
    return list(entry)


def _evidence(
    entry: Any,  # noqa: ANN401
    sessions: Mapping[str, _Session],
    proofs: Mapping[str, Mapping[str, Any]],
    finalists: Mapping[str, list[Any]],
) -> _Provenance:
    check_fields(entry, _EVIDENCE, _EVIDENCE_KNOWN)
    check_text(entry["code"], "code")
    session = _named(entry["session"], sessions, "sessions")
    names, figures = session.names, entry["figures"]
    if isinstance(figures, dict):
        names, figures = list(figures), list(figures.values())
    elif not isinstance(figures, list) or len(figures) != len(names):
        raise TableError(f"figures must list {', '.join(names) or 'nothing'}, as its session says, got {figures!r}")
    proof = _named(entry["proof"], proofs, "proofs") if "proof" in entry else {}
    others = _named(entry["finalists"], finalists, "finalists") if "finalists" in entry else None
    return _Provenance(session, entry["code"], Parts(session.fields, names, figures, proof, others))


def _named(name: Any, entries: Mapping[str, _T], section: str) -> _T:  # noqa: ANN401
    """Return the entry that is called `name`."""
    if type(name) is not str or name not in entries:
        raise TableError(f"there is no {name!r} in {section}; restore the file or tune again")
    return entries[name]


def _row(data: Any, shapes: Mapping[str, Key], evidence: Mapping[str, _Provenance]) -> Row:  # noqa: ANN401
    check_fields(data, _ROW, _ROW_KNOWN)
    check_scalars(data["problem"], "problem")
    check_scalars(data["config"], "config")
    problem: Key = tuple(data["problem"].items())
    if "shape" in data:
        problem += _named(data["shape"], shapes, "shapes")
    fields = dict(problem)
    if len(fields) != len(problem):
        raise TableError("problem and shape have a field in common; delete it from the problem")
    serves = intervals(data["serves"], fields) if "serves" in data else ()
    config = Config(data["config"])
    session, code, parts = _named(data["evidence"], evidence, "evidence")
    known = Evidence(parts, problem, config)
    return Row(problem, config, session.tier, known, session.toolchain, code, serves)
