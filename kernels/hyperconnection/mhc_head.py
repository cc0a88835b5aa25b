"""mHC head: four streams collapse into one before the final norm, y = sum_i (sigmoid(m_i s + b_i) + eps) x_i (K3)."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.kernel import tunable
from autotune.kernels.hyperconnection._mix import STREAMS, project
from autotune.kernels.hyperconnection._projection import Projection, default, launch_projection, reference, reject, work


@dataclass(frozen=True)
class Problem(Projection):
    OUTPUTS = STREAMS
    SCALES = 1


@tunable(Problem, jit=project, reference=reference, default=default, reject=reject, work=work)
def mhc_head(residual: Tensor, fn: Tensor, scale: Tensor, base: Tensor, *, config: Config, device: Device) -> Tensor:
    """Streams bf16 [tokens, 4, dim] -> bf16 [tokens, dim]; fn fp32 [4, 4 dim], scale fp32 [1], base fp32 [4].

    NaN or any bits in a token reach its own row only. No tokens are no launch. Raises UsageError for other dtypes,
    shapes or strides.
    """
    return launch_projection("mhc_head", residual, fn, scale, base, STREAMS, 1, config)[0]
