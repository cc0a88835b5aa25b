"""A compressed key on its way into the indexer's cache: bf16, RMSNorm, rotation, Hadamard, FP8 or FP4, fused (K8)."""

from __future__ import annotations

from dataclasses import dataclass

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
from autotune.kernels._quant import FP8_MAX, expect_fp8_within, expect_mx, hadamard_matrix
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
from autotune.kernels.indexer._index_cache import (
    KEY,
    decode,
    draw_pages,
    expect_stored,
    page_bytes,
    quantise_rows,
    store_keys,
)


@dataclass(frozen=True)
class Problem(Entries):
    fp4: bool = False
    page_size: int = 64
    dtype: str = "e4m3fn"

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.pooled.shape[0], args.cache.shape[1] == page_bytes(args.page_size, True), args.page_size)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int, ...]:
        draw = Draw(seed, device)
        pages = triton.cdiv(2 * self.windows + 3, self.page_size)
        cache = draw_pages(draw, pages, self.page_size, self.fp4, self.dtype)
        return *draw_entries(draw, self.windows, KEY), cache, self.page_size

    @property
    def flops(self) -> int:
        return 20 * self.windows * KEY

    @property
    def bytes_moved(self) -> int:
        return self.windows * (4 * KEY + page_bytes(1, self.fp4))


@triton.jit(do_not_specialize=["windows"])
def _index_key_store(
    pooled_ptr, weight_ptr, table_ptr, positions_ptr, slots_ptr, cache_ptr, windows, eps,
    PAGE_SIZE: tl.constexpr, ROWS: tl.constexpr, FP4: tl.constexpr, FP8_MAX: tl.constexpr, FNUZ: tl.constexpr,
):  # fmt: skip
    x, slot = load_entries(pooled_ptr, weight_ptr, table_ptr, positions_ptr, slots_ptr, windows, eps, ROWS, 128)
    q, scale = quantise_rows(x, ROWS, FP4, FP8_MAX, FNUZ)
    store_keys(q, scale, slot, cache_ptr, PAGE_SIZE, FP4)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    x, y = reference_entries(args.pooled, args.weight, args.table, args.positions)
    y = y @ hadamard_matrix(KEY, y.device) * KEY**-0.5
    # 128 squares, three products and a rotation, seven levels of sums: relative to the row's magnitude; then bf16.
    error = 80 * 2.0**-24 * x.abs().sum(1, keepdim=True) * KEY**-0.5 + 2.0**-8 * y.abs()
    if problem.fp4:
        quantised = expect_mx("key", y, error, "e2m1")
    else:
        quantised = expect_fp8_within("key", y, error, KEY, problem.dtype, True)
    return expect_stored(decode(args.cache, args.page_size, problem.fp4, problem.dtype), args.slots, quantised)


def _decode(problem: Problem, output: Tensor) -> tuple[Tensor, ...]:
    return decode(output, problem.page_size, problem.fp4, problem.dtype)


def _default(problem: Problem, device: Device) -> Config:
    return row_config({"ROWS": 4 if problem.windows > 64 else 1, "num_warps": 2}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return entry_reject(KEY, problem.dtype, config, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    return entry_work(problem, problem.windows, KEY, config, flops=20, stored_bytes=1)


@tunable(
    Problem, jit=_index_key_store, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work
)
def index_key_store(
    pooled: Tensor,
    weight: Tensor,
    table: Tensor,
    positions: Tensor,
    slots: Tensor,
    cache: Tensor,
    page_size: int = 64,
    *,
    config: Config,
    device: Device,
) -> Tensor:
    """The indexer's cache uint8 [pages, page_size * 132 (FP8) or 68 (FP4)], written in place.

    pooled fp32 [windows, 128], weight fp32 [128], table fp32 [positions, 64], positions (of each window's first token)
    and slots int32 [windows], slot -1 for none. An entry that is not stored may hold any bits; NaN makes its own key's
    scale NaN. No windows are no launch. Raises UsageError for anything else.
    """
    name = "index_key_store"
    windows = require_entries(name, KEY, pooled, weight, table, positions, slots)
    require(name, home=pooled, cache=(cache, torch.uint8, (None, None)))
    widths = {page_bytes(page_size, fp4): fp4 for fp4 in (False, True)}
    if cache.shape[1] not in widths:
        raise UsageError(f"{name}: cache must have pages of {' or '.join(map(str, widths))} B, got {cache.shape[1]}")
    launch(_index_key_store, (triton.cdiv(windows, config.size("ROWS")),))(
        pooled, weight, table, positions, slots, cache, windows, EPS,
        PAGE_SIZE=page_size, FP4=widths[cache.shape[1]], FP8_MAX=FP8_MAX[device.fp8], FNUZ=device.fp8 == "e4m3fnuz",
        **options(config),
    )  # fmt: skip
    return cache
