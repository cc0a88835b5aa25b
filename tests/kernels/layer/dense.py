"""FP8 activations and the dense projection that takes them."""

from __future__ import annotations

from dataclasses import dataclass

from layer.launch import Launcher
from layer.weights import Fp8
from torch import Tensor

from autotune.kernels import gemm
from autotune.kernels._quant import decode_fp8


@dataclass(frozen=True)
class Fp8Rows:
    """FP8 [.., k] with e8m0 or fp32 scales [.., k / 128]."""

    q: Tensor
    scale: Tensor

    @property
    def wide(self) -> Tensor:
        return decode_fp8(self.q, self.scale, 128)[0]


def linear(x: Fp8Rows, weight: Fp8, launch: Launcher) -> Tensor:
    return launch(gemm.fp8_block_scaled, x.q, weight.q, x.scale, weight.scale)
