"""Judgement of a served row's binary from what its table says, without compiling: native matrix instruction or not."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotune.config import Config
from autotune.device import Device
from autotune.tuning.compilation import matrix

if TYPE_CHECKING:
    from autotune.kernel import Work

NATIVE = "native"
SLOWER = "slower instruction"
"""An instruction of the operands' own type, but not the best that the arch has."""
EMULATED = "emulated"
NO_PRODUCTS = "no products"
UNKNOWN = "unknown"
_BF16_BYTES = 2


@dataclass(frozen=True)
class MatrixUse:
    """How products are made: one of the constants of this module, and why in words."""

    kind: str
    reason: str


def matrix_use(work: Work, config: Config, device: Device, evidence: Mapping[str, Any]) -> MatrixUse:
    """Judge by the work and by `evidence["matrix"]`, the instructions of the proved binary.

    Without those it is known only where the kernel widens both operands, or the arch has no instruction for their type.
    """
    if work.dtype == "fp32":
        return MatrixUse(NO_PRODUCTS, "nothing is multiplied on matrix units")
    if work.dtype == "bf16" and work.loaded_bytes and max(work.loaded_bytes) < _BF16_BYTES:
        return MatrixUse(EMULATED, "operands of fewer bits are widened to bf16, as the kernel does on this device")
    emitted = evidence.get("matrix")
    if not isinstance(emitted, list) or not all(isinstance(name, str) for name in emitted):
        dtype, ladder = work.dtype.removesuffix("_tensor"), device.architecture.ladder
        if ladder is not None and dtype not in ladder:
            return MatrixUse(EMULATED, f"{device.arch} has no {dtype} matrix instruction")
        return MatrixUse(UNKNOWN, "the table does not name the instructions of the binary")
    shortfall = matrix.shortfall(emitted, work, config, device)
    if shortfall is None:
        return MatrixUse(NATIVE, ", ".join(emitted))
    if shortfall == matrix.NOT_JUDGED:
        return MatrixUse(UNKNOWN, f"the best instructions of {device.arch} are not known; it runs {', '.join(emitted)}")
    return MatrixUse(EMULATED if matrix.is_emulated(emitted, work) else SLOWER, shortfall)


def spills(evidence: Mapping[str, Any]) -> int | None:
    """Return what the proved binary spills (registers on AMD, bytes of stack on NVIDIA); None where no row says it."""
    count = evidence.get("spills")
    return count if type(count) is int else None
