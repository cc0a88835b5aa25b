"""One order of reduction for all problems that may serve one another: which, what it costs, and that it is kept.

What engines call batch-invariant: a request's logits do not depend on what it was batched with. The runtime serves any
size of a family from its nearest row, so all rows of a family add in one order.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from autotune.config import Config, Key, Problem, build, describe, key
from autotune.errors import UsageError, WrongResult
from autotune.table import Row
from autotune.tuning.cost_model.prior import predicted_times
from autotune.tuning.search.study import Outcomes
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.progress import geometric_mean
from autotune.tuning.session.promotion import served
from autotune.tuning.session.prover import Prover
from autotune.tuning.session.selection import TIE, Searched
from autotune.tuning.space import Space, feasible
from autotune.tuning.validation.reduction_order import Order, describe_order, order

_SHORTLIST = 3
"""Orders that are searched beside that of the free winners: the model's best."""


@dataclass(frozen=True)
class OrderChoice:
    """How a family adds; `over_free` is each problem's time against the free choice, 1.0 where it costs nothing."""

    order: Order
    over_free: Mapping[Problem, float]


ByProblem = Mapping[Problem, Outcomes]
Found = Mapping[Order, ByProblem]
"""Outcomes of the searches within each order."""


@dataclass(frozen=True)
class OneOrder:
    """Keeps a session of one kernel on one device to one reduction order per family of problems."""

    subject: Subject
    space: Space

    def of(self, config: Config) -> Order:
        return order(config, self.space.reduction, self.subject.device)

    def families(self, problems: Iterable[Problem]) -> list[tuple[Problem, ...]]:
        """Group problems as the runtime's lookup groups rows: by every field along which no row serves another."""
        found: dict[Key, list[Problem]] = {}
        for problem in problems:
            found.setdefault(self._fixed(key(served(problem, self.subject.device)), problem), []).append(problem)
        return [tuple(some) for some in found.values()]

    def decide(
        self, free: Sequence[Searched], staying: Sequence[Row], search: Callable[[Mapping[Problem, Order]], ByProblem]
    ) -> tuple[list[OrderChoice], list[Searched]]:
        """Each family's choice, and its problems with the trials of that order alone; `search` runs one order each."""
        by_problem = {search.problem: search for search in free}
        families = [[by_problem[problem] for problem in some] for some in self.families(by_problem)]
        lists = [self.shortlist(some, staying) for some in families]
        found: list[dict[Order, ByProblem]] = [{} for _ in families]
        for turn in range(max(map(len, lists))):
            now = [
                (some, orders[turn], by)
                for some, orders, by in zip(families, lists, found, strict=True)
                if turn < len(orders)
            ]
            outcomes = search({search.problem: wanted for some, wanted, _ in now for search in some})
            for some, wanted, by in now:
                by[wanted] = {search.problem: outcomes[search.problem] for search in some}
        choices = [self.choose(some, by) for some, by in zip(families, found, strict=True)]
        kept = [
            replace(search, outcomes=by[choice.order][search.problem], others=search.outcomes)
            for some, by, choice in zip(families, found, choices, strict=True)
            for search in some
        ]
        return choices, kept

    def shortlist(self, free: Sequence[Searched], staying: Sequence[Row]) -> list[Order]:
        """Orders to search for a family: that of the rows that stay in the table, else the most promising.

        Raises UsageError where no order is allowed for all of it.
        """
        held = {self.of(row.config) for row in self._kin(free[0].problem, staying)}
        totals = self._modeled(free)
        if held:
            totals = {order: total for order, total in totals.items() if order in held}
        if not totals:
            kept = f" that the table's other rows have ({'; '.join(map(describe_order, held))})" if held else ""
            these = "; ".join(describe(search.problem) for search in free)
            raise UsageError(
                f"{self.subject.kernel.name} on {self.subject.device.name}: no order of reduction{kept} is allowed for "
                f"all of {these}; leave some out, or give --tables of their own"
            )
        ranked = sorted(totals, key=lambda order: (totals[order], str(order)))
        won: Counter[Order] = Counter()
        for search in free:
            won.update({self.of(config): search.weight for config in search.good[:1]})
        popular = sorted(won.keys() & totals.keys(), key=lambda order: (-won[order], str(order)))
        return list(dict.fromkeys([*ranked[:_SHORTLIST], *popular[:1]]))

    def choose(self, free: Sequence[Searched], found: Found) -> OrderChoice:
        """The order with the least weighted total of best times; the incumbents' stays within a tie.

        Raises UsageError where none serves all problems.
        """
        totals = {order: total for order, by in found.items() if (total := _total(free, by)) < math.inf}
        if not totals:
            raise UsageError(
                f"{self.subject.kernel.name} on {self.subject.device.name}: in none of {len(found)} orders of "
                f"reduction has every problem a config that works; give more --trials, or leave problems out"
            )
        best = min(totals, key=lambda order: (totals[order], str(order)))
        incumbents = {self.of(search.incumbent) for search in free if search.incumbent is not None}
        stay = [
            order for order in sorted(incumbents, key=str) if totals.get(order, math.inf) <= totals[best] * (1 + TIE)
        ]
        chosen = stay[0] if stay else best
        return OrderChoice(chosen, {search.problem: _over_free(search, found, chosen) for search in free})

    def staying(self, old: Iterable[Row], problems: Iterable[Problem], rank: int) -> list[Row]:
        """Old rows that those of a session over `problems`, of the tier with this rank, will not replace."""
        tuned = {key(served(problem, self.subject.device)) for problem in problems}
        return [row for row in old if row.problem not in tuned or row.rank < rank]

    def prove(self, rows: Sequence[Row], staying: Sequence[Row], prover: Prover) -> dict[Row, int]:
        """Batches that were compared bit for bit, by row; all configs of a family against one another.

        A row that adds something up and could be compared in no batch is left out: it must not be served as proved.
        Raises WrongResult where bits differ.
        """
        compared: dict[Row, int] = {}
        for problem, some in self._by_family(rows).items():
            kin = [*some, *self._kin(problem, staying)]
            configs = tuple(sorted({row.config for row in kin}, key=str))
            answers = prover.rows(problem, configs)
            wrong = [answer["failed"] for answer in answers if "failed" in answer]
            if wrong:
                raise WrongResult(
                    f"not batch-invariant: {wrong[0]}; name the parameter that differs under reduction in "
                    f"search_spaces/{self.subject.kernel.name}.yaml"
                )
            if all("batches" in answer for answer in answers) or not self.space.reduction:
                compared |= dict.fromkeys(some, sum(answer.get("batches", 0) for answer in answers))
        return compared

    def stamped(self, rows: Iterable[Row], choices: Iterable[OrderChoice], compared: Mapping[Row, int]) -> list[Row]:
        """The `rows` that were proved, and say so: their order, its price, and how many batches were compared."""
        device = self.subject.device
        over = {key(served(p, device)): share for choice in choices for p, share in choice.over_free.items()}
        return [
            replace(
                row,
                evidence={
                    **row.evidence,
                    "deterministic": {
                        "order": describe_order(self.of(row.config)),
                        "over_free": round(over[row.problem], 4),
                        "batches": compared[row],
                    },
                },
            )
            for row in rows
            if row in compared
        ]

    def _modeled(self, free: Sequence[Searched]) -> dict[Order, float]:
        """Weighted totals, by the model, of the orders that every problem allows."""
        kernel, device = self.subject.kernel, self.subject.device
        totals: dict[Order, float] | None = None
        for search in free:
            allowed = feasible(self.space, kernel, search.problem, device)
            best: dict[Order, float] = {}
            for config, us in zip(allowed, predicted_times(kernel, search.problem, allowed, device)[0], strict=True):
                mine = self.of(config)
                best[mine] = min(best.get(mine, math.inf), search.weight * us)
            before = dict.fromkeys(best, 0.0) if totals is None else totals
            totals = {mine: total + best[mine] for mine, total in before.items() if mine in best}
        return totals or {}

    def _by_family(self, rows: Iterable[Row]) -> dict[Problem, list[Row]]:
        """Rows by the first problem of their family."""
        kernel = self.subject.kernel
        problems = {build(kernel.problem, dict(row.problem), kernel.name): row for row in rows}
        return {some[0]: [problems[problem] for problem in some] for some in self.families(problems)}

    def _kin(self, problem: Problem, rows: Iterable[Row]) -> list[Row]:
        mine = self._fixed(key(served(problem, self.subject.device)), problem)
        return [row for row in rows if self._fixed(row.problem, problem) == mine]

    def _fixed(self, fields: Key, problem: Problem) -> Key:
        return tuple(item for item in fields if item[0] not in problem.VARYING)


def price(choices: Iterable[OrderChoice], weights: Mapping[Problem, int]) -> float:
    """Time against the free choice, geometric mean over calls of a step."""
    return geometric_mean((over, weights[p]) for choice in choices for p, over in choice.over_free.items())


def _total(free: Iterable[Searched], by: ByProblem) -> float:
    return sum(search.weight * _best(by[search.problem]) for search in free)


def _over_free(search: Searched, found: Found, chosen: Order) -> float:
    """The free choice has the trials of every order too."""
    freely = min(_best(search.outcomes), *(_best(by[search.problem]) for by in found.values()))
    return _best(found[chosen][search.problem]) / freely


def _best(outcomes: Outcomes) -> float:
    return min((outcome["us"] for outcome in outcomes.values() if "us" in outcome), default=math.inf)
