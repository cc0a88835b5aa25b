"""A compressed entry on its way into the key-value cache: bf16, RMSNorm, rotation, quantised store, fused (K8).

An entry is rotated to the position of its window's first token, in the last 64 columns, with the long-context base.
"""

from __future__ import annotations

from dataclasses import dataclass

import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._kv_cache import (
    WIDTH,
    Cached,
    decode_cache,
    decode_written,
    draw_cache,
    expect_stored,
    layout_of,
    require_cache,
    store_rows,
    stored_bytes,
)
from autotune.kernels._launch import launch, options
from autotune.kernels._quant import FP8_MAX
from autotune.kernels._rows import row_config
from autotune.kernels.compressor._entry import (
    EPS,
    Entries,
    draw_entries,
    entry_reject,
    entry_work,
    load_entries,
    reference_entries,
    require_entries,
)


@dataclass(frozen=True)
class Problem(Entries, Cached):
    layout: str = "bf16"
    page_size: int = 1
    dtype: str = "e4m3fn"

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.pooled.shape[0], layout_of(args.cache, args.cache_aux), args.page_size)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int | None, ...]:
        draw = Draw(seed, device)
        cache = draw_cache(draw, 2 * self.windows + 3, self.layout, self.page_size, self.dtype)
        return *draw_entries(draw, self.windows, WIDTH), *cache, self.page_size

    @property
    def flops(self) -> int:
        return 6 * self.windows * WIDTH

    @property
    def bytes_moved(self) -> int:
        return self.windows * (4 * WIDTH + stored_bytes(self.layout))


@triton.jit(do_not_specialize=["windows"])
def _norm_rope_store(
    pooled_ptr, weight_ptr, table_ptr, positions_ptr, slots_ptr, cache_ptr, aux_ptr, windows, eps,
    PAGE_SIZE: tl.constexpr, ROWS: tl.constexpr, LAYOUT: tl.constexpr, FP8_MAX: tl.constexpr, FNUZ: tl.constexpr,
):  # fmt: skip
    x, slot = load_entries(pooled_ptr, weight_ptr, table_ptr, positions_ptr, slots_ptr, windows, eps, ROWS, 512)
    store_rows(x, slot, cache_ptr, aux_ptr, PAGE_SIZE, ROWS, LAYOUT, FP8_MAX, FNUZ)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    x, y = reference_entries(args.pooled, args.weight, args.table, args.positions)
    # 512 squares in fp32 (halved by the root), three products, a rotation of two products: all relative to the pair.
    pair = x.abs().unflatten(1, (-1, 2)).sum(2).repeat_interleave(2, 1)
    before = decode_cache(args.cache, args.cache_aux, args.page_size, problem.dtype)
    return (expect_stored(before, y, 264 * 2.0**-24 * pair, args.slots, problem.layout, problem.dtype),)


def _decode(problem: Problem, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    return (decode_written(outputs, problem.page_size, problem.dtype),)


def _default(problem: Problem, device: Device) -> Config:
    return row_config({"ROWS": 1, "num_warps": 2}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return entry_reject(WIDTH, problem.dtype, config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return entry_work(problem, problem.windows, WIDTH, config, flops=6, stored_bytes=2)


@tunable(
    Problem, jit=_norm_rope_store, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work
)
def norm_rope_store(
    pooled: Tensor,
    weight: Tensor,
    table: Tensor,
    positions: Tensor,
    slots: Tensor,
    cache: Tensor,
    cache_aux: Tensor | None = None,
    page_size: int = 1,
    *,
    config: Config,
    device: Device,
) -> tuple[Tensor, ...]:
    """The cache, and its scales where it has any, written in place.

    pooled fp32 [windows, 512], weight fp32 [512], table fp32 [positions, 64], positions (of each window's first token)
    and slots int32 [windows], slot -1 for none; cache in a layout of `_kv_cache`. An entry that is not stored may hold
    any bits; NaN makes its own row NaN. No windows are no launch. Raises UsageError for anything else.
    """
    name = "norm_rope_store"
    windows = require_entries(name, WIDTH, pooled, weight, table, positions, slots)
    require_cache(name, pooled, cache, cache_aux, page_size)
    launch(_norm_rope_store, (triton.cdiv(windows, config.size("ROWS")),))(
        pooled, weight, table, positions, slots, cache, cache_aux, windows, EPS,
        PAGE_SIZE=page_size, LAYOUT=layout_of(cache, cache_aux), FP8_MAX=FP8_MAX[device.fp8],
        FNUZ=device.fp8 == "e4m3fnuz", **options(config),
    )  # fmt: skip
    return (cache,) if cache_aux is None else (cache, cache_aux)
