"""The best matrix instruction that an arch has for an operand type, and whether a binary uses it."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from autotune.config import Config
from autotune.device import Device

if TYPE_CHECKING:
    from autotune.kernel import Work

_SAME_TYPE = {"bf16": r"bf16|kind::f16", "fp8": r"fp8|f8f6f4|e4m3", "fp4": r"f8f6f4|mxf4|_f4"}
NOT_JUDGED = "not judged"
"""The verdict where the matrix instructions of an arch are not known."""


def shortfall(instructions: Iterable[str], work: Work, config: Config, device: Device) -> str | None:
    """Why the instructions are not the best for `work` on `device`: None where they are, NOT_JUDGED where the arch's
    are not known.

    wgmma and tcgen05 multiply 64 rows and more: for narrower tiles of bf16 mma.sync is the best.
    """
    dtype = work.dtype.removesuffix("_tensor")
    if dtype == "fp32":
        return None
    arch = device.architecture
    if arch.ladder is None:
        return NOT_JUDGED
    emitted = sorted(instructions)
    best = arch.ladder.get(dtype)
    if best is None:
        return f"{arch.name} has no {dtype} matrix instruction: it runs {', '.join(emitted) or 'none'}"
    other = _of_other_types(emitted, dtype)
    if other or not emitted:
        return f"{dtype} is emulated by {', '.join(other) or 'no matrix instruction'}"
    if arch.group_mma and dtype == "bf16" and _rows(config) < 64:
        return None
    if not any(re.search(best, name) for name in emitted):
        return f"{', '.join(emitted)} is not {best}"
    return None


def is_emulated(instructions: Iterable[str], work: Work) -> bool:
    """True if the products of `work` are made by matrix instructions of another operand type, or by none."""
    dtype, emitted = work.dtype.removesuffix("_tensor"), list(instructions)
    return dtype != "fp32" and (not emitted or bool(_of_other_types(emitted, dtype)))


def _of_other_types(instructions: Iterable[str], dtype: str) -> list[str]:
    return [name for name in instructions if not re.search(_SAME_TYPE[dtype], name)]


def _rows(config: Config) -> int:
    """Rows of a program's products, by the names that kernels give them."""
    return next(config.size(name) for name in ("BLOCK_M", "BLOCK_H", "BLOCK_N") if name in config)
