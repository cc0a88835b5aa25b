"""With which inputs a problem is proved: distributions and seeds, shared out over a kernel's check problems."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from autotune.config import Config, P, describe
from autotune.device import Device
from autotune.inputs import DISTRIBUTIONS
from autotune.kernel import Kernel
from autotune.tuning.counted_work import work_of

_SMALL_STEPS = 32
"""Programs x iterations of a launch that costs some 0.1 s in the interpreter."""


@dataclass(frozen=True)
class Case:
    """One drawing of inputs."""

    distribution: str
    seed: int


NORMAL = Case("normal", 0)
EVERY = tuple(Case(name, seed) for seed, name in enumerate(DISTRIBUTIONS))


def cases_of(kernel: Kernel[P], problem: P, config: Config, device: Device, checks: Sequence[P]) -> tuple[Case, ...]:
    """Normal values, and others in turn, so that a kernel's check problems together see all; small ones one more."""
    others = EVERY[1:]
    share = -(-len(others) // max(1, len(checks)))
    turn = checks.index(problem) if problem in checks else zlib.crc32(describe(problem).encode())
    first = turn * share % (-(-len(others) // share) * share)
    work = work_of(kernel, problem, config, device)
    more = 1 if work.programs * work.iterations <= _SMALL_STEPS else 0
    taken = [*others[first : first + share], *(others[(first + share) % len(others)],) * more]
    return (NORMAL, *dict.fromkeys(taken))
