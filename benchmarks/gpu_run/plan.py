"""The steps of one run in order of worth, and their shares of its time."""

from __future__ import annotations

from dataclasses import dataclass

SECONDS = 570.0
"""A whole run; what is left of ten minutes is for starting it and for fetching its results."""


@dataclass(frozen=True)
class RunStep:
    """One process with a limit of its own; `name` is also the module under `steps` that it runs."""

    name: str
    about: str
    seconds: float
    beside: bool = False
    """Runs on free cores while later steps use the GPU."""
    after: str = ""
    """A step beside that has to end before this one begins."""


STEPS = (
    RunStep("identify", "who is there: versions, properties, driver", 20),
    RunStep("doctor", "what this machine can do, and where the device record differs from the driver", 25),
    RunStep("precompile", "every default at check and model sizes, compiled on the free cores", 85, beside=True),
    RunStep("ceilings", "copy, read, write, L2, cuBLAS, a graph node, three ways to flush the cache", 35),
    RunStep("numerics", "bits that FP8 matrix units keep; errors by k and heads", 35),
    RunStep("validate", "every default on its check problems against float64", 70, after="precompile"),
    RunStep("noise", "smallest gain that this bench can tell", 25),
    RunStep("sizes", "every kernel at model sizes: right, time, spread, model, roofline", 75),
    RunStep("peers", "default, the model's best and the library in one race", 40),
    RunStep("serving", "captured graph equals eager, host time a call, torch.compile", 40),
    RunStep("spaces", "small search spaces measured whole", 80),
    RunStep("tests", "pytest -m gpu", 60),
    RunStep("tune", "a short tuning session", 60),
    RunStep("agreement", "the model against all trials of this run", 25),
    RunStep("profile", "counters of one launch of each kernel, by ncu", 40),
    RunStep("sanitize", "one launch of each kernel under compute-sanitizer", 40),
)
"""Shares sum to more than a run: steps that end early leave their time to those behind them."""


def chosen(only: tuple[str, ...]) -> tuple[RunStep, ...]:
    """The steps named in `only`, or all; order and shares stay."""
    return tuple(step for step in STEPS if not only or step.name in only)
