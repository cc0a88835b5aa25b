"""Two builds of one call, compared: what became worse, how sure that is, and what is only worth knowing."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from autotune.check.artifact import Build
from autotune.device import Device
from autotune.tuning.compilation.resources import Resources

REGRESSIONS = {
    "compile": "does not compile",
    "fit": "does not fit the device",
    "numerics": "computes something else",
    "refused": "the kernel's rules refuse it",
    "record": "is not the code that was proved",
    "matrix": "lost its native matrix instruction",
    "spills": "spills registers",
    "occupancy": "fewer programs share a compute unit",
    "element by element": "moves a tensor element by element on an NPU",
    "single buffer": "loads into one buffer where an NPU had two",
    "slower": "is slower, and still the best that is known",
    "swap": "is beaten by another known config",
    "compile time": "takes far longer to compile",
}
NOTICES = {
    "stale": "the kernel changed after tuning",
    "unproved": "could not be proved again",
    "grown": "uses more of something",
    "plan": "uses other amounts of memory or syncs on an NPU",
}
FINE = {
    "faster": "is faster",
    "better": "became better",
    "alike": "other code, same resources",
    "same": "same machine code",
    "same plan": "same planned NPU IR",
}
KINDS = [*REGRESSIONS, *NOTICES, *FINE]
"""Worst first."""

_SCRATCH_GROWTH = 1.1
"""Spilling code that spills up to a tenth more is no news."""
_GROWTH = 1.25
_OTHER_SIZE = 0.05
"""Machine code whose size changed by less keeps its loops, as far as anybody need know: nothing is disassembled."""
_NONE = (0, 0, 0)
"""Strength of a binary without matrix instructions."""
_SLOW_COMPILE_S, _SLOW_COMPILE = 10.0, 5.0


@dataclass(frozen=True)
class Verdict:
    """`stage` says which evidence was enough; `confidence` is of a loss of speed or of function: see `triage`."""

    kind: str
    stage: str
    before: str
    after: str
    confidence: str
    reason: str = ""

    @property
    def is_regression(self) -> bool:
        return self.kind in REGRESSIONS

    def __str__(self) -> str:
        about = {**REGRESSIONS, **NOTICES, **FINE}[self.kind]
        change = f": {self.before} -> {self.after}" if self.before or self.after else ""
        return about + change + (f" ({self.reason})" if self.reason else "")


@dataclass(frozen=True)
class Pair:
    """Both builds of one call of `programs` programs on `device`."""

    before: Build
    after: Build
    device: Device
    programs: int

    @property
    def needs_loops(self) -> bool:
        """True if only the instructions can decide. AMD's are at hand as text anyway."""
        was, now = self.before.resources, self.after.resources
        if not (was and now) or was.code == now.code:
            return False
        if self.device.is_amd or scratch_bytes(was) != scratch_bytes(now):
            return True
        alike = (was.matrix_instructions, was.programs_per_unit) == (now.matrix_instructions, now.programs_per_unit)
        return not alike or abs(now.code_bytes / was.code_bytes - 1) > _OTHER_SIZE


def triage(pair: Pair) -> tuple[Verdict, ...]:
    """Worst first, at least one. Confidence is `certain` for failures, and for speed, which nobody measured,
    `likely` or `possible`."""
    before, after = pair.before, pair.after
    if after.failed:
        return (_failure(before, after),)
    if before.failed:
        return (Verdict("better", before.stage, before.failed, "compiles", "certain"),)
    assert before.resources and after.resources
    if before.resources.code == after.resources.code:
        return (Verdict("same", "machine code", "", "", "certain"),)
    found = [verdict for rule in _RULES for verdict in rule(pair, before.resources, after.resources)]
    if not found:
        registers = f"{before.resources.registers} -> {after.resources.registers} registers"
        return (Verdict("alike", "resources", "", "", "likely", registers),)
    return tuple(sorted(found, key=lambda verdict: KINDS.index(verdict.kind)))


def _failure(before: Build, after: Build) -> Verdict:
    if before.failed:
        return Verdict("alike", after.stage, before.failed, after.failed, "certain", "fails with both")
    if after.late:
        return Verdict("compile time", "compile", f"{before.seconds:.1f} s", after.failed, "certain")
    return Verdict(after.stage, after.stage, "compiles", after.failed, "certain")


def _matrix(pair: Pair, before: Resources, after: Resources) -> Iterator[Verdict]:
    names = _instructions(before), _instructions(after)
    old, new = _counts(before), _counts(after)
    was, now = max(old, default=_NONE), max(new, default=_NONE)
    weaker_appear = any(new[kind] > old[kind] for kind in new if kind < was)
    if now < was:
        yield Verdict("matrix", "matrix instructions", *names, "likely")
    elif weaker_appear and new[was] < old[was] and now == was:
        yield Verdict("matrix", "matrix instructions", *names, "likely", "some of them")
    elif now > was:
        yield Verdict("better", "matrix instructions", *names, "possible" if weaker_appear else "likely")
    elif names[0] != names[1]:
        yield Verdict("grown", "matrix instructions", *names, "possible", "as strong, in other numbers")


def _spills(pair: Pair, before: Resources, after: Resources) -> Iterator[Verdict]:
    was, now = scratch_bytes(before), scratch_bytes(after)
    texts = f"{was} B a thread", f"{now} B a thread"
    in_loop = pair.after.loop_mix.get("spill", 0) > pair.before.loop_mix.get("spill", 0)
    if now > was * _SCRATCH_GROWTH:
        known = pair.before.loop is not None and pair.after.loop is not None
        where = "in the hot loop" if in_loop else "outside the hot loop" if known else ""
        yield Verdict("spills", "resources", *texts, "likely" if in_loop else "possible", where)
    elif now * _SCRATCH_GROWTH < was:
        yield Verdict("better", "resources", *texts, "likely", "spills less")


def _occupancy(pair: Pair, before: Resources, after: Resources) -> Iterator[Verdict]:
    was, now = before.programs_per_unit, after.programs_per_unit
    wanted = math.ceil(pair.programs / pair.device.compute_units)
    texts = f"{was} a unit", f"{now} a unit"
    cause = f"registers {before.registers} -> {after.registers}, shared {before.shared_bytes} -> {after.shared_bytes} B"
    if min(now, wanted) < min(was, wanted):
        # More shared memory may be a deeper pipeline, which pays for itself; more registers buy nothing that is known.
        by_registers = after.shared_bytes <= before.shared_bytes
        yield Verdict("occupancy", "resources", *texts, "likely" if by_registers else "possible", cause)
    elif now < was:
        yield Verdict("grown", "resources", *texts, "possible", f"{cause}; this call has but {wanted} for a unit")
    elif min(now, wanted) > min(was, wanted):
        yield Verdict("better", "resources", *texts, "likely", cause)


def _growth(pair: Pair, before: Resources, after: Resources) -> Iterator[Verdict]:
    sizes = [
        ("B shared memory", before.shared_bytes, after.shared_bytes),
        ("B code", before.code_bytes, after.code_bytes),
        ("instructions in the hot loop", len(pair.before.loop or ()), len(pair.after.loop or ())),
    ]
    for what, was, now in sizes:
        if now > was * _GROWTH and was:
            yield Verdict("grown", "resources", f"{was}", f"{now} {what}", "possible")


def _compile_time(pair: Pair, before: Resources, after: Resources) -> Iterator[Verdict]:
    was, now = pair.before.seconds, pair.after.seconds
    if now > _SLOW_COMPILE_S and now > was * _SLOW_COMPILE:
        yield Verdict("compile time", "compile", f"{was:.1f} s", f"{now:.1f} s", "certain")


_RULES: tuple[Callable[[Pair, Resources, Resources], Iterator[Verdict]], ...] = (
    _growth,
    _matrix,
    _spills,
    _occupancy,
    _compile_time,
)


def scratch_bytes(resources: Resources) -> int:
    """Stack and spilled registers of a thread; AMD reports spilled registers, NVIDIA their bytes as stack."""
    return max(resources.stack_bytes, 4 * resources.spills if resources.spills != resources.stack_bytes else 0)


def strength(instruction: str) -> tuple[int, int, int]:
    """(generation, narrowness of operands, depth): a larger one multiplies faster on its own arch.

    Depth is M*K/16 of AMD's MxNxK: 16x16x128 and 32x32x64 run at one rate, 16x16x32 of the same width at a quarter.
    """
    generation = 3 if instruction.startswith("tcgen05") else 2 if instruction.startswith("wgmma") else 1
    if re.search(r"mxf4|e2m1", instruction):
        narrow = 3
    else:
        narrow = 2 if re.search(r"f8|fp8|e4m3|e5m2|i8", instruction) else 1 if re.search(r"f16", instruction) else 0
    shape = re.search(r"_(\d+)x\d+x(\d+)", instruction)
    return generation, narrow, int(shape[1]) * int(shape[2]) // 16 if shape else 0


def _counts(resources: Resources) -> Counter[tuple[int, int, int]]:
    counts: Counter[tuple[int, int, int]] = Counter()
    for name, count in resources.matrix_instructions:
        counts[strength(name)] += count
    return counts


def _instructions(resources: Resources) -> str:
    return ", ".join(f"{count} {name}" for name, count in resources.matrix_instructions) or "none"
