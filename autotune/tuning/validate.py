"""Proves one config on one problem against the float64 reference, in Triton's corrected interpreter.

The process must have set TRITON_INTERPRET=1 before Triton was imported.
"""

from __future__ import annotations

import torch

from autotune.config import Config, P, describe
from autotune.device import Device
from autotune.errors import WrongResult
from autotune.kernel import Kernel
from autotune.tuning.sanitize import sanitized


def validate(kernel: Kernel[P], problem: P, config: Config, device: Device, seed: int = 0) -> float:
    """The worst error as a fraction of its bound, at most 1. Raises WrongResult."""
    inputs = problem.inputs(seed, "cpu")
    with sanitized() as sanitizer:
        outputs = kernel.launch(*inputs, config=config, device=device)
        sanitizer.check_written(outputs)
    worst = 0.0
    # Drawn again: a launcher may write into its arguments (caches, states), and returns those.
    expected = kernel.reference(problem, *problem.inputs(seed, "cpu"))
    for want, got in zip(expected, kernel.decode(problem, outputs), strict=True):
        error = (got - want.value).abs()
        wrong = ~(error <= want.bound)  # NaN is never within a bound
        if wrong.any():
            at = tuple(wrong.nonzero()[0].tolist())
            raise WrongResult(
                f"{kernel.name} {describe(problem)} with {config}: {want.name}{list(at)} is {got[at].item():.6g}, "
                f"must be {want.value[at].item():.6g} within {want.bound[at].item():.3g}; "
                f"{int(wrong.sum())} of {wrong.numel()} are wrong"
            )
        ratio = torch.where(want.bound > 0, error / want.bound, torch.zeros_like(error))
        worst = max(worst, ratio.max().item())
    return worst
