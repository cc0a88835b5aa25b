"""mHC post: a sublayer's output goes back into the four streams: R'_j = post_j o + sum_i comb[i, j] R_i (K2).

comb is indexed [from, to]: its transpose mixes as well, and wrongly.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._rows import row_config, row_reject
from autotune.kernels.hyperconnection._mix import STREAMS, Streams, draw_mixed, reference_streams


@dataclass(frozen=True)
class Problem(Streams):
    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        return draw_mixed(Draw(seed, device), self.tokens, self.dim)

    @property
    def flops(self) -> int:
        return 2 * self.tokens * self.dim * STREAMS * (STREAMS + 1)

    @property
    def bytes_moved(self) -> int:
        return self.tokens * (2 * self.dim * (2 * STREAMS + 1) + 4 * STREAMS * (STREAMS + 1))


@triton.jit(do_not_specialize=["tokens"])
def _post(out_ptr, o_ptr, residual_ptr, post_ptr, comb_ptr, tokens, dim, BLOCK_M: tl.constexpr, BLOCK_C: tl.constexpr):
    token = tl.program_id(0).to(tl.int64) * BLOCK_M + tl.arange(0, BLOCK_M)
    col = tl.program_id(1) * BLOCK_C + tl.arange(0, BLOCK_C)
    stream = tl.arange(0, 4)
    in_tokens = token < tokens
    mask = in_tokens[:, None] & (col < dim)[None, :]
    o = tl.load(o_ptr + token[:, None] * dim + col[None, :], mask=mask, other=0.0).to(tl.float32)
    offs = (token[:, None] * 4 + stream[None, :])[:, :, None] * dim + col[None, None, :]
    residual = tl.load(residual_ptr + offs, mask=mask[:, None, :], other=0.0).to(tl.float32)
    for j in tl.static_range(4):
        post = tl.load(post_ptr + token * 4 + j, mask=in_tokens, other=0.0)
        comb = tl.load(comb_ptr + token[:, None] * 16 + stream[None, :] * 4 + j, mask=in_tokens[:, None], other=0.0)
        mixed = post[:, None] * o + tl.sum(comb[:, :, None] * residual, axis=1)
        tl.store(out_ptr + (token * 4 + j)[:, None] * dim + col[None, :], mixed.to(tl.bfloat16), mask=mask)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    value, error = reference_streams(args)
    return (Expected("residual", value, error + 2.0**-8 * value.abs()),)


def _default(problem: Problem, device: Device) -> Config:
    return row_config({"BLOCK_M": 1, "BLOCK_C": 512, "num_warps": 2 if device.is_amd else 4}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    if config.size("BLOCK_C") >= 2 * max(problem.dim, 64):
        return f"BLOCK_C={config['BLOCK_C']} is at least twice the row of {problem.dim}: half the lanes would idle"
    # Four streams, their mix and the output are live at once.
    return row_reject(config.size("BLOCK_M") * STREAMS, config.size("BLOCK_C"), config, device, 64)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    tile = config.size("BLOCK_M") * config.size("BLOCK_C")
    return Work(
        programs=triton.cdiv(problem.tokens, config.size("BLOCK_M")) * triton.cdiv(problem.dim, config.size("BLOCK_C")),
        flops_per_program=2 * tile * STREAMS * (STREAMS + 1),
        bytes_per_program=2 * tile * (2 * STREAMS + 1),
        unique_bytes=problem.bytes_moved,
    )


@tunable(Problem, jit=_post, reference=_reference, default=_default, reject=_reject, work=_work)
def mhc_post(o: Tensor, residual: Tensor, post: Tensor, comb: Tensor, *, config: Config, device: Device) -> Tensor:
    """o bf16 [tokens, dim], residual bf16 [tokens, 4, dim], post fp32 [tokens, 4], comb fp32 [tokens, 4, 4] -> bf16.

    The new streams [tokens, 4, dim]. NaN or any bits in a token reach its own streams only. No tokens are no launch.
    Raises UsageError for other dtypes, shapes or strides.
    """
    require("mhc_post", o=(o, torch.bfloat16, (None, None)))
    tokens, dim = o.shape
    require(
        "mhc_post",
        o=(o, o.dtype, (tokens, dim)),
        residual=(residual, torch.bfloat16, (tokens, STREAMS, dim)),
        post=(post, torch.float32, (tokens, STREAMS)),
        comb=(comb, torch.float32, (tokens, STREAMS, STREAMS)),
    )
    out = torch.empty_like(residual)
    grid = (triton.cdiv(tokens, config.size("BLOCK_M")), triton.cdiv(dim, config.size("BLOCK_C")))
    launch(_post, grid)(out, o, residual, post, comb, tokens, dim, **options(config))
    return out
