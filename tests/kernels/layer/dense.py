"""FP8 activations and the dense projection that takes them."""

from __future__ import annotations

from dataclasses import dataclass

from layer.launch import Launcher
from layer.weights import Fp8
from torch import Tensor

from autotune.kernels import gemm


@dataclass(frozen=True)
class Fp8Rows:
    """FP8 [.., k] with fp32 scales [.., k / 128]."""

    q: Tensor
    scale: Tensor

    @property
    def wide(self) -> Tensor:
        return self.q.double() * self.scale.double().repeat_interleave(128, -1)


def linear(x: Fp8Rows, weight: Fp8, launch: Launcher) -> Tensor:
    return launch(gemm.fp8_block_scaled, x.q, weight.q, x.scale, weight.scale)
