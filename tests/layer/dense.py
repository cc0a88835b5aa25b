"""FP8 activations and the dense projection that takes them."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autotune.device import Device
from autotune.kernels import gemm
from layer.weights import Fp8


@dataclass(frozen=True)
class Fp8Rows:
    """FP8 [.., k] with fp32 scales [.., k / 128]."""

    q: Tensor
    scale: Tensor

    @property
    def wide(self) -> Tensor:
        return self.q.double() * self.scale.double().repeat_interleave(128, -1)


def linear(x: Fp8Rows, weight: Fp8, gpu: Device) -> Tensor:
    return gemm.fp8_block_scaled(x.q, weight.q, x.scale, weight.scale, device=gpu)
