"""Evidence of rows in parts: what rows of one session, of one proof or of one search share is kept once in a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from autotune.config import Config, Key, describe_key

SESSION = ("trials", "search", "searched", "prior", "inputs", "bench", "date", "spills", "matrix", "proved_against")
"""Fields of evidence that are equal in most rows of a session."""


class Parts(NamedTuple):
    """The parts of one row's evidence, each in words that suit other rows as well."""

    session: Mapping[str, Any]
    names: Sequence[str]
    """Names of `figures`."""
    figures: Sequence[Any]
    """Values of this row alone, such as its times."""
    proof: Mapping[str, Any]
    """`proved_on`, problems in which None stands for the row's own, and `error_over_bound`."""
    finalists: Sequence[Any] | None
    """The next best configs, each as the parameters in which it differs from the row's; None where there are none.

    Whatever else a file had in place of a config stands alone in a list: `[7]`.
    """


def split(evidence: Mapping[str, Any], problem: Key, config: Config) -> Parts:
    """Return the parts of which `joined` makes `evidence`, that of a row with this problem and config."""
    session = {name: evidence[name] for name in SESSION if name in evidence}
    proof = {name: evidence[name] for name in ("proved_on", "error_over_bound") if name in evidence}
    proved_on = proof.get("proved_on")
    if isinstance(proved_on, list) and all(isinstance(text, str) for text in proved_on):
        own = describe_key(problem)
        proof["proved_on"] = [None if text == own else text for text in proved_on]
    else:
        proof.pop("proved_on", None)
    finalists = evidence.get("finalists")
    differing = [_differences(each, config) for each in finalists] if isinstance(finalists, list) else None
    shared = {*session, *proof, *(["finalists"] if differing is not None else [])}
    figures = {name: value for name, value in evidence.items() if name not in shared}
    return Parts(session, list(figures), list(figures.values()), proof, differing)


def joined(parts: Parts, problem: Key, config: Config) -> dict[str, Any]:
    """Return the evidence of a row with this problem and config."""
    evidence = {**dict(zip(parts.names, parts.figures, strict=True)), **parts.session, **parts.proof}
    if "proved_on" in parts.proof:
        own = describe_key(problem)
        evidence["proved_on"] = [own if text is None else text for text in parts.proof["proved_on"]]
    if parts.finalists is not None:
        evidence["finalists"] = [{**config, **each} if isinstance(each, dict) else each[0] for each in parts.finalists]
    return evidence


class Evidence(Mapping[str, Any]):
    """Evidence of a row that was read from a file, joined at the first look: a lookup of configs never looks."""

    __slots__ = ("_joined", "_of")

    def __init__(self, parts: Parts, problem: Key, config: Config) -> None:
        self._of = (parts, problem, config)
        self._joined: dict[str, Any] | None = None

    def __getitem__(self, name: str) -> Any:  # noqa: ANN401
        return self._whole()[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self._whole())

    def __len__(self) -> int:
        return len(self._whole())

    def __repr__(self) -> str:
        return repr(self._whole())

    def _whole(self) -> dict[str, Any]:
        if self._joined is None:
            self._joined = joined(*self._of)
        return self._joined


def _differences(finalist: Any, config: Config) -> Any:  # noqa: ANN401
    if not isinstance(finalist, dict) or finalist.keys() != config.keys():
        return [finalist]
    return {name: finalist[name] for name, value in config.items() if not _same(finalist[name], value)}


def _same(value: object, other: object) -> bool:
    """True for values that JSON writes alike: 1 is not true."""
    return type(value) is type(other) and value == other
