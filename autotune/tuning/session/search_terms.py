"""The terms of a modeled search: all that its rows follow from. They stand in the table beside the rows, so that a
session finds out that a row is the result of the search that it is asked for, and does nothing.

What a GPU measured follows from more than anybody can name: measured searches have no terms.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from autotune.config import Problem, Scalar, describe, describe_key, key
from autotune.device import Device
from autotune.identity import meaning
from autotune.table import Row
from autotune.tuning.cost_model.model import model_name
from autotune.tuning.cost_model.prior import has_prior
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.opening import Opener
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.promotion import drawn, served
from autotune.tuning.space import Space

Changes = Mapping[Problem, list[str]]
"""Names of what was another when the row of each problem was found; empty for a row that is up to date."""

_CODE = ("../search/*.py", "opening.py", "portfolio.py", "scheduler.py", "selection.py", "shared_configs.py")
"""Files that decide what is tried and what wins, from this folder; the cost model's are in its name."""


@dataclass(frozen=True)
class SearchTerms:
    """`fields` are equal in all rows of a session; another toolchain is another search too."""

    fields: Mapping[str, Scalar]
    toolchain: str

    def stamped(self, row: Row) -> Row:
        """Return `row` with the terms that it was found under, and a digest of what was found."""
        return replace(row, evidence={**row.evidence, "searched": dict(self.fields), "found": _found(row)})

    def differences(self, row: Row, problem: Problem) -> list[str]:
        """Return the names of what was another when `row` was found; none where `row` is this search's result."""
        evidence = row.evidence
        then = evidence.get("searched")
        if not isinstance(then, Mapping) or evidence.get("found") != _found(row):
            return ["search"]  # of another kind, or edited since
        names = [name for name in {**self.fields, **then} if self.fields.get(name) != then.get(name)]
        if evidence.get("inputs") != drawn(problem).get("inputs"):
            names.append("inputs")
        return [*names, *(["toolchain"] if row.toolchain != self.toolchain else [])]


def terms(subject: Subject, space: Space, opener: Opener, plan: Plan, problem: Problem) -> SearchTerms:
    """Return the terms of a session of `plan` over problems like `problem`."""
    kernel, device, identity = subject.kernel, subject.device, subject.identity
    fields: dict[str, Scalar] = {
        "kernel": identity.kernel,
        "proof": identity.proof,
        "work": identity.work,
        "space": _digest(repr(space.lists), repr(space.reduction), *map(describe, space.check)),
        "model": model_name(device),
        "code": _code(),
        "seed": plan.seed,
        "sampler": plan.sampler,
    }
    if has_prior(kernel, problem, device):
        fields["prior"] = _digest(opener.believed.read_text(encoding="utf-8"))
    if opener.tries_all:
        fields |= {"mode": opener.mode, "listed": opener.digest}
    else:
        fields["trials"] = plan.budget.trials
        if plan.budget.until_gain is not None:
            fields["until_gain"] = str(plan.budget.until_gain)
    if plan.portfolio is not None:
        fields["portfolio"] = str(plan.portfolio)
    if plan.deterministic:
        fields["deterministic"] = True
    return SearchTerms(fields, subject.toolchain)


def changes(asked: SearchTerms, rows: Iterable[Row], problems: Iterable[Problem], device: Device) -> Changes:
    """Return for each problem what `differences` says of its row; `no row` where `rows` have none that was modeled."""
    modeled = {row.problem: row for row in rows if row.tier == "modeled"}
    found = {problem: modeled.get(key(served(problem, device))) for problem in problems}
    return {problem: asked.differences(row, problem) if row else ["no row"] for problem, row in found.items()}


@cache
def _code() -> str:
    here = Path(__file__).parent
    paths = sorted(path.resolve() for pattern in _CODE for path in here.glob(pattern))
    return _digest(*(meaning(ast.parse(path.read_bytes())) for path in paths))


def _found(row: Row) -> str:
    return _digest(describe_key(row.problem), str(row.config))


def _digest(*parts: str) -> str:
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:8]
