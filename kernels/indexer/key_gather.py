"""Indexer keys of several requests brought from their pages into one tensor, for the logits of prefill (K11).

A row of the result finds its request by halving the list of where requests begin, so that requests of any lengths share
the programs evenly; a row that no request reaches becomes zeros.
"""

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
from autotune.inputs import FP8, Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import is_zero, launch, options, require
from autotune.kernels._problem import Sizes
from autotune.kernels._rows import row_config, row_reject
from autotune.kernels.indexer._index_cache import KEY, draw_pages, key_at, page_bytes, views
from autotune.kernels.indexer._logits import format_reject


@dataclass(frozen=True)
class Problem(Sizes):
    """`keys` in all, `pages` a request at most."""

    requests: int
    keys: int
    pages: int
    page_size: int = 64
    fp4: bool = False
    dtype: str = "e4m3fn"

    VARYING: ClassVar[tuple[str, ...]] = ("requests", "keys", "pages")
    DRAWN: ClassVar[tuple[str, ...]] = ("dtype",)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        fp4 = args.cache.shape[1] == page_bytes(args.page_size, True)
        return cls(args.page_table.shape[0], args.keys, args.page_table.shape[1], args.page_size, fp4)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int, ...]:
        draw = Draw(seed, device)
        total = self.requests * self.pages
        cache = draw_pages(draw, total, self.page_size, self.fp4, self.dtype)
        page_table = draw.normal((total,), torch.float32).argsort().to(torch.int32).view(self.requests, self.pages)
        # Equal shares, a few keys short and perhaps empty, of which the last leave rows to nobody.
        begins = torch.arange(self.requests + 1, device=device) * self.keys // self.requests
        share = begins.diff().clamp_max(self.pages * self.page_size)
        lengths = (share - draw.integers((self.requests,), 0, 3, torch.int32)).clamp_min(0).to(torch.int32)
        offsets = (lengths.cumsum(0) - lengths).to(torch.int32)
        if device != "meta":
            # Pages past a length need not exist.
            used = (lengths + self.page_size - 1) // self.page_size
            page_table[torch.arange(self.pages, device=device)[None, :] >= used[:, None]] = -1
        return cache, page_table, lengths, offsets, self.keys, self.page_size

    @property
    def row(self) -> int:
        """Bytes of a key and its scales."""
        return page_bytes(1, self.fp4)

    @property
    def flops(self) -> int:
        # Of its place: three operations a halving, and what divides it into page and row.
        return self.keys * (3 * self.requests.bit_length() + 8)

    @property
    def bytes_moved(self) -> int:
        return 2 * self.keys * self.row + 4 * (self.keys // self.page_size + 2 * self.requests)


@triton.jit(do_not_specialize=["requests", "keys"])
def _key_gather(
    k_ptr, k_scale_ptr, cache_ptr, page_table_ptr, lengths_ptr, offsets_ptr, requests, keys, pages,
    BLOCK: tl.constexpr, PAGE_SIZE: tl.constexpr, FP4: tl.constexpr,
):  # fmt: skip
    WIDE: tl.constexpr = 64 if FP4 else 128
    key = tl.program_id(0).to(tl.int64) * BLOCK + tl.arange(0, BLOCK)
    inside = key < keys
    # The last request that begins at or before the key is one of `remaining` from `request` on.
    request = tl.zeros((BLOCK,), dtype=tl.int64)
    remaining = requests
    while remaining > 1:
        half = remaining // 2
        begins = tl.load(offsets_ptr + request + half)
        request = tl.where(begins <= key, request + half, request)
        remaining -= half
    at = key - tl.load(offsets_ptr + request)
    length = tl.minimum(tl.load(lengths_ptr + request), pages * PAGE_SIZE)
    seen = inside & (at >= 0) & (at < length)
    page = tl.load(page_table_ptr + request * pages + at // PAGE_SIZE, mask=seen, other=0).to(tl.int64)
    start, scales = key_at(tl.where(seen, page * PAGE_SIZE + at % PAGE_SIZE, 0), PAGE_SIZE, FP4)
    byte = tl.arange(0, WIDE)[None, :]
    k = tl.load(cache_ptr + start[:, None] + byte, mask=seen[:, None], other=0)
    tl.store(k_ptr + key[:, None] * WIDE + byte, k, mask=inside[:, None])
    # One fp32 or four e8m0: a word either way.
    words = cache_ptr.to(tl.pointer_type(tl.int32))
    tl.store(k_scale_ptr + key, tl.load(words + scales // 4, mask=seen, other=0), mask=inside)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    rows, scales = (part.flatten(0, 1) for part in views(args.cache, args.page_size, problem.fp4))
    k = rows.new_zeros((args.keys, rows.shape[1]))
    k_scale = rows.new_zeros((args.keys, 4))
    for table, length, offset in zip(args.page_table.long(), args.lengths.tolist(), args.offsets.tolist(), strict=True):
        entry = torch.arange(length, device=args.cache.device)
        slot = table[entry // args.page_size] * args.page_size + entry % args.page_size
        k[offset : offset + length], k_scale[offset : offset + length] = rows[slot], scales[slot]
    return tuple(
        Expected(name, value, torch.zeros_like(value))
        for name, value in (("k", k.double()), ("k_scale", k_scale.double()))
    )


def _decode(problem: Problem, outputs: tuple[Tensor, ...]) -> tuple[Tensor, ...]:
    # As bytes: not one may change.
    return tuple(tensor.view(torch.uint8).view(problem.keys, -1).double() for tensor in outputs)


def _default(problem: Problem, device: Device) -> Config:
    many = problem.keys > 64 * device.compute_units
    return row_config({"BLOCK": 64 if many else 16, "num_warps": 4 if many else 1}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    if config.size("BLOCK") >= 2 * max(problem.keys, 16):
        return f"BLOCK={config['BLOCK']} is at least twice the {problem.keys} keys"
    wide = KEY // 2 if problem.fp4 else KEY
    return row_reject(config.size("BLOCK"), wide, config, device) or format_reject(problem.fp4, problem.dtype, device)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    block = config.size("BLOCK")
    return Work(
        programs=triton.cdiv(problem.keys, block),
        flops_per_program=problem.flops * block / problem.keys,
        bytes_per_program=block * (2 * problem.row + 4 * (problem.requests.bit_length() + 2)),
        unique_bytes=problem.bytes_moved,
    )


@tunable(Problem, jit=_key_gather, reference=_reference, decode=_decode, default=_default, reject=_reject, work=_work)
def key_gather(
    cache: Tensor,
    page_table: Tensor,
    lengths: Tensor,
    offsets: Tensor,
    keys: int,
    page_size: int = 64,
    *,
    config: Config,
    device: Device,
) -> tuple[Tensor, Tensor]:
    """(k FP8 [keys, 128], k_scale fp32 [keys]), or in FP4 (k uint8 [keys, 64], k_scale e8m0 uint8 [keys, 4]).

    Entry s of request r goes to row offsets[r] + s; rows that are nobody's are zeros. cache uint8 [pages, page_size *
    132 (FP8) or 68 (FP4)] as `index_key_store` and `key_prep` write it; page_table int32 [requests, pages a request],
    read only within the length; lengths int32 [requests]; offsets int32 [requests], the sums of the lengths before.
    Keys are copied whatever their bits, NaN too. No keys or requests are no launch. Raises UsageError for anything
    else.
    """
    name = "key_gather"
    if keys < 0 or page_size < 1:
        raise UsageError(f"{name}: keys must not be negative and page_size be positive, got {keys} and {page_size}")
    require(name, cache=(cache, torch.uint8, (None, None)), page_table=(page_table, torch.int32, (None, None)))
    requests, pages = page_table.shape
    require(name, home=cache, lengths=(lengths, torch.int32, (requests,)), offsets=(offsets, torch.int32, (requests,)))
    widths = {page_bytes(page_size, fp4): fp4 for fp4 in (False, True)}
    width = int(cache.shape[1])  # while torch traces, sizes are symbols, and no keys of a dictionary
    if width not in widths:
        raise UsageError(f"{name}: cache must have pages of {' or '.join(map(str, widths))} B, got {width}")
    fp4 = widths[width]
    nobodys = is_zero(requests)
    new = torch.zeros if nobodys else torch.empty
    k = new((keys, KEY // 2 if fp4 else KEY), dtype=torch.uint8, device=cache.device)
    words = new((keys, 1), dtype=torch.int32, device=cache.device)
    launch(_key_gather, (0 if nobodys else triton.cdiv(keys, config.size("BLOCK")),))(
        k, words, cache, page_table, lengths, offsets, requests, keys, pages,
        PAGE_SIZE=page_size, FP4=fp4, **options(config),
    )  # fmt: skip
    return (k, words.view(torch.uint8)) if fp4 else (k.view(FP8[device.fp8]), words.view(torch.float32).view(keys))
