"""mHC pre: the weights that mix four residual streams into a sublayer's input, and its output back into them (K1).

With x the concatenated streams and r its inverse RMS, m = (x fnᵀ) r has 24 mixes: pre = sigmoid(m s0 + b) + eps,
post = 2 sigmoid(m s1 + b), and comb = 20 Sinkhorn steps on softmax(m s2 + b), a nearly doubly stochastic 4 x 4.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.kernel import tunable
from autotune.kernels.hyperconnection._mix import MIXES, project
from autotune.kernels.hyperconnection._projection import Projection, default, launch_projection, reference, reject, work


@dataclass(frozen=True)
class Problem(Projection):
    OUTPUTS = MIXES
    SCALES = 3


@tunable(Problem, jit=project, reference=reference, default=default, reject=reject, work=work)
def mhc_pre(
    residual: Tensor, fn: Tensor, scale: Tensor, base: Tensor, *, config: Config, device: Device
) -> tuple[Tensor, ...]:
    """Streams bf16 [tokens, 4, dim] -> (y bf16 [tokens, dim], post fp32 [tokens, 4], comb fp32 [tokens, 4, 4]).

    fn fp32 [24, 4 dim], scale fp32 [3], base fp32 [24]. NaN or any bits in a token reach its own outputs only. No
    tokens are no launch. Raises UsageError for other dtypes, shapes or strides.
    """
    return launch_projection("mhc_pre", residual, fn, scale, base, MIXES, 3, config)
