"""Two builds of one call on an NPU, compared by the plans of their launches.

Both sides are one compiler's exact text, so every difference is named, however small. Nobody ran either: a loss of
speed is at most `likely`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

from autotune.check.triage import KINDS, Pair, Verdict, triage
from autotune.tuning.compilation.npu.planning import LaunchPlan

_STAGE = "plan"


def triage_plans(pair: Pair) -> tuple[Verdict, ...]:
    """Verdicts on a call whose builds hold plans, worst first, at least one."""
    before, after = pair.before, pair.after
    if before.failed or after.failed:
        return triage(pair)
    sides = list(zip(before.plans, after.plans, strict=True))
    if all(was.plan and now.plan and was.plan.code == now.plan.code for was, now in sides):
        return (Verdict("same plan", _STAGE, "", "", "certain"),)
    found = [*_sizes(sides), *(verdict for was, now in sides for verdict in _differences(was, now))]
    if not found:
        return (Verdict("alike", _STAGE, "", "", "likely", "other NPU IR"),)
    return tuple(sorted(found, key=lambda verdict: KINDS.index(verdict.kind)))


def _differences(was: LaunchPlan, now: LaunchPlan) -> Iterator[Verdict]:
    assert was.plan and now.plan
    old, new, name = was.plan, now.plan, now.function
    if old.matrix_operations != new.matrix_operations:
        kind = "matrix" if old.matrix_operations and not new.matrix_operations else "grown"
        yield Verdict(kind, _STAGE, _operations(was), f"{_operations(now)} matrix operations", "likely", name)
    if old.cores != new.cores:
        yield Verdict("grown", _STAGE, old.cores, f"{new.cores} cores", "possible", name)
    for memory in sorted(set(old.double_buffered) ^ set(new.double_buffered)):
        lost = memory in old.double_buffered
        texts = ("two", f"one buffer in {memory}") if lost else ("one", f"two buffers in {memory}")
        yield Verdict("single buffer" if lost else "better", _STAGE, *texts, "likely", name)
    yield from _loops(was, now)


def _sizes(sides: list[tuple[LaunchPlan, LaunchPlan]]) -> Iterator[Verdict]:
    """All changed bytes and counts of a call in one verdict, since a report shows the worst verdict of each; more syncs
    are no loss by themselves, nor are fewer a gain."""
    before, after = [], []
    for place, (was, now) in enumerate(sides):
        assert was.plan and now.plan
        old, new = was.plan.amounts, now.plan.amounts
        changed = [unit for unit in {**old, **new} if old.get(unit, 0) != new.get(unit, 0)]
        if changed:
            name = f"{now.function}: " if place else ""
            before.append(name + ", ".join(f"{old.get(unit, 0)} {unit}" for unit in changed))
            after.append(name + ", ".join(f"{new.get(unit, 0)} {unit}" for unit in changed))
    if before:
        yield Verdict("plan", _STAGE, "; ".join(before), "; ".join(after), "possible")


def _loops(was: LaunchPlan, now: LaunchPlan) -> Iterator[Verdict]:
    old, new = (Counter(map(str, side.loops)) for side in (was, now))
    for loop, count in (new - old).items():
        kind = "element by element" if loop.endswith("element by element") else "grown"
        yield Verdict(kind, _STAGE, f"{old[loop]}", f"{old[loop] + count} loops: {loop}", "likely", now.function)
    for loop, count in (old - new).items():
        yield Verdict("better", _STAGE, f"{old[loop]}", f"{old[loop] - count} loops: {loop}", "likely", now.function)


def _operations(launch: LaunchPlan) -> str:
    counts = launch.plan.matrix_operations if launch.plan else ()
    return ", ".join(f"{count} {name}" for name, count in counts) or "no"
