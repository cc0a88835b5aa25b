"""Proves one config on one problem against the float64 reference, in Triton's corrected and sanitized interpreter.

The process must have set TRITON_INTERPRET=1 before Triton was imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any

import torch

from autotune.config import Config, P, describe
from autotune.device import Device
from autotune.errors import WrongResult
from autotune.inputs import distribution
from autotune.kernel import Expected, Kernel
from autotune.tuning.interpreter.alignment import products_of
from autotune.tuning.interpreter.sanitizer import ProgramOrder, sanitized, tensors
from autotune.tuning.validation.cases import NORMAL, Case
from autotune.tuning.validation.error_budget import INDEPENDENT, spent


def validate(kernel: Kernel[P], problem: P, config: Config, device: Device, cases: Sequence[Case] = (NORMAL,)) -> float:
    """The largest share of its error budget that any output used, at most 1. Raises WrongResult."""
    return max(prove(kernel, problem, config, device, case)[0] for case in cases)


def prove(kernel: Kernel[P], problem: P, config: Config, device: Device, case: Case) -> tuple[float, Any]:
    """Share of the budget used with the inputs of `case`, and what the launcher returned. Raises WrongResult."""
    try:
        outputs, atomics = _run(kernel, problem, config, device, case)
        independent = case.distribution in INDEPENDENT
        pairs = zip(_expected(kernel.reference, problem, case, device), kernel.decode(problem, outputs), strict=True)
        share = max(spent(want, got, independent=independent) for want, got in pairs)
        if atomics and not same_bits(outputs, _run(kernel, problem, config, device, case, reversed)[0]):
            raise WrongResult("programs that run in the opposite order give other bits")
        return share, outputs
    except WrongResult as wrong:
        where = f"{kernel.name} {describe(problem)} with {config}, inputs {case.distribution}, seed {case.seed}"
        wrong.args = (f"{where}: {wrong}",)
        raise


def _run(
    kernel: Kernel[P], problem: P, config: Config, device: Device, case: Case, order: ProgramOrder = iter
) -> tuple[Any, bool]:
    with distribution(case.distribution):
        inputs = problem.inputs(case.seed, "cpu")
    with products_of(device.architecture), sanitized(order) as sanitizer:
        outputs = kernel.launch(*inputs, config=config, device=device)
        sanitizer.check_written(outputs)
    return outputs, sanitizer.atomics


@lru_cache(maxsize=32)
def _expected(
    reference: Callable[..., tuple[Expected, ...]],
    problem: Any,  # noqa: ANN401
    case: Case,
    device: Device,
) -> tuple[Expected, ...]:
    # Drawn again: a launcher may write into its arguments (caches, states), and returns those.
    with distribution(case.distribution):
        expected = reference(problem, *problem.inputs(case.seed, "cpu"))
    return tuple(want.on(device, independent=case.distribution in INDEPENDENT) for want in expected)


def same_bits(left: Any, right: Any) -> bool:  # noqa: ANN401
    """True if two results of a launcher are equal bit for bit."""
    pairs = zip(tensors(left), tensors(right), strict=True)
    return all(torch.equal(a.contiguous().view(torch.uint8), b.contiguous().view(torch.uint8)) for a, b in pairs)
