"""Findings of a plan, in words: what does not fit and by how much, what is moved in pieces, what a core lacks."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Mapping

from autotune.config import Scalar
from autotune.tuning.compilation.npu.hivm import MEMORIES
from autotune.tuning.compilation.npu.planning import LaunchPlan

EVIDENCE = "planned NPU IR; no machine code, never run"
"""The grounds of a plan, as every report states them."""

_OVERFLOW = re.compile(r"(ub|cbuf|cc) overflow, requires (\d+) bits while (\d+) bits available")
_NO_FP8 = re.compile(r"type fp8\w+ not supported")
_IN_WORDS = {
    "tt.addptr has multiple users": "the adapter fails on a pointer that several accesses share",
    "Casting pointers with unmatched bitwidth": "the adapter cannot read bytes as another type through a cast pointer",
}
"""Parts of what the compilers say, and what it means for a kernel."""


def verdict(launches: list[LaunchPlan]) -> str:
    """One of `planned`, `planned, element by element` and `not planned (STAGE)`, of all launches of a call."""
    stopped = next((launch for launch in launches if launch.plan is None), None)
    if stopped:
        return f"not planned ({stopped.stage})"
    scalar = any(loop.piece == "element" for launch in launches for loop in launch.loops)
    return "planned, element by element" if scalar else "planned"


def findings(launches: list[LaunchPlan], config: Mapping[str, Scalar], arch: str) -> list[str]:
    """Sentences about a call on `arch`, those about other launches than the kernel's own with their names."""
    said = [(launch, text) for launch in launches for text in _of(launch, config, arch)]
    return [text if launch is launches[0] else f"{launch.function}: {text}" for launch, text in said]


def _of(launch: LaunchPlan, config: Mapping[str, Scalar], arch: str) -> list[str]:
    stopped = [] if launch.plan else [stop(launch.why, config, arch)]
    loops = Counter(map(str, launch.loops))
    return [*stopped, *launch.notes] + [
        f"{text}: {count} loop{'s' if count > 1 else ''}" for text, count in loops.items()
    ]


def facts(launches: Iterable[LaunchPlan]) -> dict[str, str | int]:
    """Resources that each launch was planned to use, by names that begin with the launch's."""
    told: dict[str, str | int] = {}
    for launch in launches:
        if plan := launch.plan:
            words = {
                "cores": plan.cores,
                "two buffers": ", ".join(plan.double_buffered),
                "matrix operations": ", ".join(f"{count} {name}" for name, count in plan.matrix_operations),
                "loops": "; ".join(map(str, launch.loops)),
            }
            told |= {f"{launch.function}, {name}": value for name, value in words.items()}
            told |= {f"{launch.function}, {unit}": value for unit, value in plan.amounts.items()}
    return told


def stop(why: str, config: Mapping[str, Scalar], arch: str) -> str:
    """Why a launch has no plan, from what a compiler said of it."""
    if overflow := _OVERFLOW.search(why):
        memory, needed, available = MEMORIES[overflow[1]], int(overflow[2]), int(overflow[3])
        tile = ", ".join(f"{name}={value}" for name, value in config.items() if name.startswith(("BLOCK", "ROWS")))
        over, whole = ((bits / 8 / 1024) for bits in (needed - available, available))
        return f"{memory} overflow by {over:.4g} KiB of {whole:.4g} KiB" + (f" at {tile}" if tile else "")
    if _NO_FP8.search(why):
        return f"needs FP8, which {arch} does not have"
    return next((words for part, words in _IN_WORDS.items() if part in why), why)
