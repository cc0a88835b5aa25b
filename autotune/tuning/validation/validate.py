"""Proves one config on one problem against the float64 reference, in Triton's corrected and sanitized interpreter.

The process must have set TRITON_INTERPRET=1 before Triton was imported.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache, partial
from typing import Any

import torch
from torch import Tensor

from autotune.config import Config, P, describe
from autotune.device import Device
from autotune.errors import WrongResult
from autotune.inputs import distribution
from autotune.kernel import Expected, Kernel
from autotune.tuning.interpreter.addresses import check_addresses
from autotune.tuning.interpreter.alignment import products_of
from autotune.tuning.interpreter.divisions import Divisions
from autotune.tuning.interpreter.fills import Fills
from autotune.tuning.interpreter.index_bounds import Bound
from autotune.tuning.interpreter.sanitizer import ProgramOrder, Sanitizer, sanitized, tensors
from autotune.tuning.validation.cases import NORMAL, Case
from autotune.tuning.validation.error_budget import INDEPENDENT, spent
from autotune.tuning.validation.negative_divisions import check_divisions
from autotune.tuning.validation.undefined_lanes import check_fills, same_outputs


def validate(kernel: Kernel[P], problem: P, config: Config, device: Device, cases: Sequence[Case] = (NORMAL,)) -> float:
    """The largest share of its error budget that any output used, at most 1. Raises WrongResult."""
    return max(prove(kernel, problem, config, device, case)[0] for case in cases)


def prove(kernel: Kernel[P], problem: P, config: Config, device: Device, case: Case) -> tuple[float, Any]:
    """Share of the budget used with the inputs of `case`, and what the launcher returned. Raises WrongResult."""
    run = partial(_run, kernel, problem, config, device, case)
    try:
        outputs, sanitizer = run()
        expected = _expected(kernel.reference, problem, case, device)
        decoded = kernel.decode(problem, outputs)
        try:
            share = _share(expected, decoded, case)
        except WrongResult:
            check_divisions(
                sanitizer.divisions.differing,
                lambda places: _share(expected, kernel.decode(problem, run(divisions=Divisions(places))[0]), case),
            )
            raise
        if sanitizer.atomics:
            turned, backwards = run(order=reversed)
            if kernel.any_order:
                share = max(share, _share(expected, kernel.decode(problem, turned), case))
            elif not same_bits(outputs, turned):
                sanitizer.check_same_atomics(backwards)
                raise WrongResult("programs that run in the opposite order give other bits: the order of atomics shows")
        if sanitizer.fills.undefined and case == NORMAL:
            check_fills(
                sanitizer.fills.undefined,
                partial(same_outputs, expected, decoded, lambda fills: kernel.decode(problem, run(fills=fills)[0])),
            )
        return share, outputs
    except WrongResult as wrong:
        where = f"{kernel.name} {describe(problem)} with {config}, inputs {case.distribution}, seed {case.seed}"
        wrong.args = (f"{where}: {wrong}",)
        raise


def validate_addresses(kernel: Kernel[P], problem: P, config: Config, device: Device, bound: Bound) -> None:
    """Check the address arithmetic of one call, at sizes of any magnitude. Raises WrongResult, SpaceError."""
    inputs = [value.to("meta") if isinstance(value, Tensor) else value for value in problem.inputs(0, "meta")]
    try:
        check_addresses(lambda: kernel.launch(*inputs, config=config, device=device), bound)
    except WrongResult as wrong:
        wrong.args = (f"{kernel.name} {describe(problem)} with {config}, shapes alone: {wrong}",)
        raise


def _share(expected: Sequence[Expected], decoded: Sequence[Tensor], case: Case) -> float:
    independent = case.distribution in INDEPENDENT
    return max(spent(want, got, independent=independent) for want, got in zip(expected, decoded, strict=True))


def _run(  # noqa: PLR0913 - one call, and how it is run
    kernel: Kernel[P],
    problem: P,
    config: Config,
    device: Device,
    case: Case,
    *,
    order: ProgramOrder = iter,
    fills: Fills | None = None,
    divisions: Divisions | None = None,
) -> tuple[Any, Sanitizer]:
    with distribution(case.distribution):
        inputs = problem.inputs(case.seed, "cpu")
    with (
        products_of(device.architecture),
        sanitized(order, fills=fills, divisions=divisions, any_order=kernel.any_order) as sanitizer,
    ):
        outputs = kernel.launch(*inputs, config=config, device=device)
        sanitizer.check_written(outputs)
    return outputs, sanitizer


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
