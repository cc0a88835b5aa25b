"""How near a result must be to a reference in plain torch, for which nobody derived a bound."""

from __future__ import annotations

import torch
from torch import Tensor

from autotune.kernel import Expected

_ROUNDINGS = 4
"""Roundings to the narrowest format on the way to a result: operands, one value between, the result."""
_TF32 = 2.0**-11
"""Half a unit in the last place of the operands of `tl.dot` in float32, which NVIDIA's matrix units round to TF32."""


def near(
    name: str, value: Tensor, *formats: str, terms: int, dots: bool = False, tolerance: float | None = None
) -> Expected:
    """Expect `value`, each element within a share of its own size and of the output's root mean square.

    The share is `tolerance`, or follows from the floating `formats` of inputs and output (torch's names), and from
    `terms`, the longest sum: four roundings to the narrowest format, and one of float32 a term. `dots`: float32 goes
    through matrix products. Integers must be equal. Where `value` is no finite number, or may overflow the output's
    format, which is the last of `formats`, anything is right.
    """
    kinds = [getattr(torch, given) for given in formats]
    exact = value.double()
    if not kinds[-1].is_floating_point:
        return Expected(name, exact, torch.zeros_like(exact))
    widths = [torch.finfo(kind).eps / 2 for kind in kinds if kind.is_floating_point]
    derived = _ROUNDINGS * max(*widths, _TF32 if dots else 0.0) + terms * 2.0**-24
    share = derived if tolerance is None else tolerance
    finite = exact.isfinite()
    size = exact[finite].square().mean().sqrt() if finite.any() else exact.new_zeros(())
    bound = share * (exact.abs() + size)
    anything = ~finite | (exact.abs() + bound >= torch.finfo(kinds[-1]).max)
    return Expected(name, exact, torch.where(anything, torch.inf, bound))
