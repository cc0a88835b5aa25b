"""The options that choose a workload: a model, how it is served, and on how many GPUs."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING, Any

from autotune import workload
from autotune.config import Problem
from autotune.device import Device
from autotune.errors import UsageError

if TYPE_CHECKING:
    from autotune.kernel import Kernel

_MOST_REQUESTS = 1_000_000


def add_workload(parser: argparse.ArgumentParser, model: str | None = "deepseek-v4-pro") -> None:
    """Adds --model, --scenario, --tp, --ep and --dp-attention; `model` is the one taken where none is named."""
    parser.add_argument("--model", default=model, help=f"the model whose calls are meant (default: {model or 'none'})")
    parser.add_argument("--scenario", default="8k1k", help="prompt and answer lengths (default: 8k1k)")
    parser.add_argument("--tp", type=int, default=8, help="tensor parallelism (default: 8)")
    parser.add_argument("--ep", type=int, default=1, help="expert parallelism (default: 1, experts are split by width)")
    parser.add_argument("--dp-attention", action="store_true", help="attention is data-parallel over the --tp ranks")


def add_concurrency(parser: argparse.ArgumentParser) -> None:
    """Adds --concurrency."""
    parser.add_argument("--concurrency", metavar="N,N", help="requests in flight (default: those of the scenario)")


def concurrencies(
    arguments: argparse.Namespace, scenario: workload.Scenario, parallelism: workload.Parallelism
) -> tuple[int, ...]:
    """Return the concurrencies that were asked for, in their order. Raises UsageError unless all are positive."""
    text = arguments.concurrency
    if text is None:
        return scenario.data_concurrency if parallelism.data_attention else scenario.concurrency
    parts = listed(text)
    if not parts or not all(part.isdecimal() and 0 < int(part) <= _MOST_REQUESTS for part in parts):
        raise UsageError(
            f"--concurrency must list positive integers up to {_MOST_REQUESTS}, such as 16,64; got {text!r}"
        )
    return tuple(dict.fromkeys(map(int, parts)))


def listed(text: str | None) -> list[str]:
    """Return the parts of `text` between commas, none for None."""
    return [part.strip() for part in text.split(",") if part.strip()] if text else []


def workload_problems(arguments: argparse.Namespace, kernel: Kernel[Any], device: Device) -> dict[Problem, int]:
    """The distinct problems of `kernel` in the chosen workload, with launches a step as weights. Raises UsageError.

    No model here calls a kernel outside this package: its search space names its sizes, under `compile`.
    """
    if not kernel.origin.is_shipped:
        from autotune.tuning import space

        return dict.fromkeys(space.load(kernel, device).compile, 1)
    return workload.problems(
        kernel,
        workload.models.named(arguments.model),
        workload.scenario.named(arguments.scenario),
        workload.Parallelism(arguments.tp, arguments.ep, arguments.dp_attention),
        device,
    )
