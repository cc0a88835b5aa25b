"""The problems of `autotune tune`: named one by one, missed by serving, or called by a model as it is served."""

from __future__ import annotations

import argparse
from collections import Counter
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import files, misses, workload
from autotune.check import lint
from autotune.cli.output import parse_problem
from autotune.cli.workload_options import workload_problems
from autotune.config import Problem, build, key
from autotune.device import Device
from autotune.errors import UsageError
from autotune.workload import day0

if TYPE_CHECKING:
    from autotune.kernel import Kernel

DEFAULT_MODEL = "deepseek-v4-pro"


def problems_to_tune(kernel: Kernel[Any], device: Device, arguments: argparse.Namespace) -> dict[Problem, int]:
    """Return the problems that the options name for `kernel`, with launches a step as weights. Raises UsageError."""
    if arguments.problem:
        found: dict[Problem, int] = {parse_problem(kernel, text, device): 1 for text in arguments.problem}
    elif arguments.from_misses:
        missed, _ = lint.missed(misses.read(arguments.from_misses))
        found = dict.fromkeys(missed.get(device.name, {}).get(kernel.name, ()), 1)
    elif arguments.day0:
        found = day0_problems(kernel, device, arguments)
    else:
        arguments.model = arguments.model or DEFAULT_MODEL
        found = workload_problems(arguments, kernel, device)
    drawn = dict(_drawn(kernel, text) for text in arguments.inputs)
    if not drawn:
        return found
    return {build(kernel.problem, dict(key(p)) | drawn, "--inputs"): weight for p, weight in found.items()}


def day0_problems(kernel: Kernel[Any], device: Device, arguments: argparse.Namespace) -> dict[Problem, int]:
    """The distinct problems of everything that is served on `device`, with their launches added up."""
    from autotune.tuning.session.promotion import served

    models = [workload.models.named(arguments.model)] if arguments.model else list(workload.models.MODELS.values())
    first: dict[Problem, Problem] = {}
    weights: Counter[Problem] = Counter()
    for each in day0.deployments(device.name, workload.scenario.named(arguments.scenario), models):
        for problem, weight in workload.problems(kernel, each.model, each.scenario, each.parallelism, device).items():
            # Layouts may draw the same problem's inputs in other ways, which no lookup can tell apart.
            weights[first.setdefault(served(problem, device), problem)] += weight
    return dict(weights)


def _drawn(kernel: Kernel[Any], text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    drawn = [field.name for field in fields(kernel.problem) if field.name in getattr(kernel.problem, "DRAWN", ())]
    if not equals or name not in drawn:
        known = f"can draw {', '.join(drawn)} another way" if drawn else "draws its inputs in one way only"
        raise UsageError(f"--inputs {text!r}: write FIELD=VALUE; {kernel.name} {known}")
    kind, _, file = value.partition(":")
    return name, _captured(Path(file)) if kind == "captured" and file.endswith(".json") else value


def _captured(path: Path) -> str:
    from autotune.inputs import captured

    counts = files.read_json(path)
    if not isinstance(counts, list) or not all(type(count) is int for count in counts):
        raise UsageError(f"{path}: must be a list of integers, the tokens that each expert got; got {str(counts)[:80]}")
    try:
        return captured(counts)
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from error
