"""The best matrix instruction that an arch has for an operand type, and whether a binary uses it."""

from __future__ import annotations

import re
from collections.abc import Iterable

from autotune.config import Config
from autotune.device import Device
from autotune.kernel import Work

_TCGEN05 = {
    "bf16": r"tcgen05\.mma.*kind::f16",
    "fp8": r"tcgen05\.mma.*kind::(mx)?f8f6f4",
    "fp4": r"tcgen05\.mma.*kind::mxf4(nvf4)?\b",
}
# Names as the assembly has them: AMD's CDNA3 and CDNA4 ISA documents, PTX ISA 9.
_BEST = {
    "gfx942": {"bf16": r"v_mfma_f32_\w+_bf16", "fp8": r"v_mfma_f32_\w+_fp8_fp8"},
    "gfx950": {
        "bf16": r"v_mfma_f32_(16x16x32|32x32x16)_bf16",
        "fp8": r"v_mfma_(scale_)?f32_\w+_f8f6f4",
        "fp4": r"v_mfma_scale_f32_\w+_f8f6f4",
    },
    "sm_90": {"bf16": r"wgmma.*\.bf16\.bf16", "fp8": r"wgmma.*\.e4m3\.e4m3"},
    "sm_100": _TCGEN05,
    "sm_103": _TCGEN05,
}
_SAME_TYPE = {"bf16": r"bf16|kind::f16", "fp8": r"fp8|f8f6f4|e4m3", "fp4": r"f8f6f4|mxf4"}
ARCHS = tuple(_BEST)
"""Those that the models are served on, and whose instructions are known here."""


def shortfall(instructions: Iterable[str], work: Work, config: Config, device: Device) -> str | None:
    """Why the instructions are not the best for `work` on `device`; None where they are, or nothing is known.

    wgmma and tcgen05 multiply 64 rows and more: for narrower tiles of bf16 mma.sync is the best.
    """
    if work.dtype == "fp32" or device.arch not in _BEST:
        return None
    found = sorted(instructions)
    best = _BEST[device.arch].get(work.dtype)
    if best is None:
        return f"{device.arch} has no {work.dtype} instruction: the kernel's work says what runs instead"
    other = [name for name in found if not re.search(_SAME_TYPE[work.dtype], name)]
    if other or not found:
        return f"{work.dtype} is emulated by {', '.join(other) or 'no matrix instruction'}"
    if not device.is_amd and work.dtype == "bf16" and _rows(config) < 64:
        return None
    if not any(re.search(best, name) for name in found):
        return f"{', '.join(found)} is not {best}"
    return None


def _rows(config: Config) -> int:
    """Rows of a program's products, by the names that kernels give them."""
    return next(config.size(name) for name in ("BLOCK_M", "BLOCK_H", "BLOCK_N") if name in config)
