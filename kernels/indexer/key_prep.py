"""Indexer keys of V3.2, one a token: LayerNorm, RoPE on the first 64 columns, Hadamard, FP8, into pages (K10)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.errors import UsageError
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Sizes
from autotune.kernels._quant import FP8_MAX, expect_fp8_within
from autotune.kernels._rope import ROPE_DIM, drawn_rope_table, require_rotation
from autotune.kernels._rows import fp8_reject, row_config, row_reject, row_work
from autotune.kernels.indexer._index_cache import (
    KEY,
    decode,
    draw_pages,
    expect_stored,
    page_bytes,
    quantise_rows,
    store_keys,
)
from autotune.kernels.indexer._spread import expect_spread, rotate_rows

EPS = 1e-6
THETA, YARN = 10000.0, (40, 4096, 32, 1)


@dataclass(frozen=True)
class Problem(Sizes):
    tokens: int
    page_size: int = 64
    dtype: str = "e4m3fn"

    DRAWN: ClassVar[tuple[str, ...]] = ("dtype",)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.k.shape[0], args.page_size)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int, ...]:
        draw = Draw(seed, device)
        # Every second slot, none twice; the first token of several is not stored.
        slots = torch.arange(self.tokens, dtype=torch.int32, device=device) * 2
        if self.tokens > 1 and device != "meta":
            slots[0] = -1
        pages = triton.cdiv(2 * self.tokens + 3, self.page_size)
        return (
            draw.normal((self.tokens, KEY), torch.bfloat16),
            draw.uniform((KEY,), 0.5, 1.5),
            draw.normal((KEY,), torch.float32),
            drawn_rope_table(THETA, YARN, device),
            draw.integers((self.tokens,), 0, 64, torch.int32),
            slots,
            draw_pages(draw, pages, self.page_size, False, self.dtype),
            self.page_size,
        )

    @property
    def flops(self) -> int:
        return 25 * self.tokens * KEY

    @property
    def bytes_moved(self) -> int:
        return self.tokens * (3 * KEY + 4 * ROPE_DIM + 8) + 8 * KEY


@triton.jit(do_not_specialize=["tokens"])
def _key_prep(
    k_ptr, weight_ptr, bias_ptr, table_ptr, positions_ptr, slots_ptr, cache_ptr, tokens, eps,
    PAGE_SIZE: tl.constexpr, ROWS: tl.constexpr, FP8_MAX: tl.constexpr, FNUZ: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, 128)
    inside = row < tokens
    x = tl.load(k_ptr + row[:, None] * 128 + col[None, :], mask=inside[:, None], other=0.0).to(tl.float32)
    # The mean first: squares of centred values do not cancel.
    x -= (tl.sum(x, axis=1) / 128)[:, None]
    rstd = 1.0 / tl.sqrt(tl.sum(x * x, axis=1) / 128 + eps)
    x = x * rstd[:, None] * tl.load(weight_ptr + col)[None, :] + tl.load(bias_ptr + col)[None, :]
    position = tl.load(positions_ptr + row, mask=inside, other=0)
    slot = tl.load(slots_ptr + row, mask=inside, other=-1).to(tl.int64)
    q, scale = quantise_rows(rotate_rows(x, table_ptr, position, ROWS, True), ROWS, False, FP8_MAX, FNUZ)
    store_keys(q, scale, slot, cache_ptr, PAGE_SIZE, False)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    wide = args.k.double()
    centred = wide - wide.mean(1, keepdim=True)
    rstd = torch.rsqrt(centred.square().mean(1, keepdim=True) + EPS)
    scaled = centred * rstd * args.weight.double()
    y = scaled + args.bias.double()
    # The mean errs by 128 roundings of the mean magnitude, the variance by as many of itself, halved by the root.
    u = 2.0**-24
    centre = KEY * u * wide.abs().mean(1, keepdim=True) * rstd * args.weight.double().abs()
    error = 2 * centre + (KEY + 6) * u * scaled.abs() + 2 * u * y.abs()
    key, off = expect_spread(y, error, args.table[args.positions.long()], rope_first=True)
    quantised = expect_fp8_within("key", key, off, KEY, problem.dtype, ue8m0=True)
    return expect_stored(decode(args.cache, args.page_size, False, problem.dtype), args.slots, quantised)


def _decode(problem: Problem, output: Tensor) -> tuple[Tensor, ...]:
    return decode(output, problem.page_size, False, problem.dtype)


def _default(problem: Problem, device: Device) -> Config:
    return row_config({"ROWS": 4, "num_warps": 1} if problem.tokens > 64 else {"ROWS": 1, "num_warps": 1}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return row_reject(config.size("ROWS"), KEY, config, device, 32) or fp8_reject(problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    row_bytes = 3 * KEY + 4 * ROPE_DIM + 8
    return row_work(problem, problem.tokens, config, flops=25 * KEY, row_bytes=row_bytes, program_bytes=8 * KEY)


@tunable(Problem, jit=_key_prep, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work)
def key_prep(
    k: Tensor,
    weight: Tensor,
    bias: Tensor,
    table: Tensor,
    positions: Tensor,
    slots: Tensor,
    cache: Tensor,
    page_size: int = 64,
    *,
    config: Config,
    device: Device,
) -> Tensor:
    """The indexer's cache uint8 [pages, page_size * 132], written in place.

    k bf16 [tokens, 128], weight and bias fp32 [128], table fp32 [positions, 64], positions and slots int32 [tokens],
    slot -1 for a key that is not stored. A key that is not stored may hold any bits; NaN makes its own key's scale NaN.
    No tokens are no launch. Raises UsageError for anything else.
    """
    name = "key_prep"
    if page_size < 1:
        raise UsageError(f"{name}: page_size must be positive, got {page_size}")
    require(name, k=(k, torch.bfloat16, (None, KEY)))
    tokens = k.shape[0]
    require(
        name,
        home=k,
        weight=(weight, torch.float32, (KEY,)),
        bias=(bias, torch.float32, (KEY,)),
        slots=(slots, torch.int32, (tokens,)),
        cache=(cache, torch.uint8, (None, page_bytes(page_size, False))),
    )
    require_rotation(name, k, table, positions, tokens)
    launch(_key_prep, (triton.cdiv(tokens, config.size("ROWS")),))(
        k, weight, bias, table, positions, slots, cache, tokens, EPS,
        PAGE_SIZE=page_size, FP8_MAX=FP8_MAX[device.fp8], FNUZ=device.fp8 == "e4m3fnuz", **options(config),
    )  # fmt: skip
    return cache
