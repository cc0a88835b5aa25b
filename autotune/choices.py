"""Rules of a kernel that lists its values itself: the first ones that may run are its default."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from autotune.config import Config, Problem, Scalar, describe
from autotune.device import Device
from autotune.errors import UsageError
from autotune.row_check import MOST_THREADS

Choices = Mapping[str, tuple[Scalar, ...]]
"""Values to try by parameter or launch option, the best guess first."""

Default = Callable[[Any, Device], Config]
Reject = Callable[[Any, Config, Device], str | None]


def first_allowed(choices: Choices, reject: Reject, launcher: str) -> Default:
    """Return a `default`: of the choices that `reject` lets through the first, the last parameter varying fastest."""

    def default(problem: Problem, device: Device) -> Config:
        reason = None
        for config in configs(choices):
            reason = reject(problem, config, device)
            if reason is None:
                return config
        raise UsageError(f"{launcher}: no choice may run {describe(problem)} on {device.name}: {reason}; list another")

    return default


def within_limits(reject: Reject | None) -> Reject:
    """Return a `reject` that also refuses more threads than a block may have."""

    def rejects(problem: Problem, config: Config, device: Device) -> str | None:
        threads = int(config.get("num_warps", 1)) * device.warp_size
        if threads > MOST_THREADS:
            return f"{threads} threads, a block has {MOST_THREADS} at most"
        return None if reject is None else reject(problem, config, device)

    return rejects


def configs(choices: Choices) -> Iterator[Config]:
    """Yield every config of the choices, in their order."""
    for values in itertools.product(*choices.values()):
        yield Config(dict(zip(choices, values, strict=True)))
