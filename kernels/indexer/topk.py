"""The k largest logits of each row as physical slots, in no particular order (K12).

Radix selection on the order-preserving bit pattern: a histogram of the next BITS bits of the values that are still
candidates finds the bits of the k-th largest, 32 / BITS times; then values above it, and of its equals the first, are
packed in the order of their index. One program owns a row.

A row longer than BLOCK is read 32 / BITS + 1 times (docs/experiments.md). NaN is larger than everything, as in
torch.topk, so that the slots are distinct entries of the row for any bits of the logits.
"""

from __future__ import annotations

from collections.abc import Callable
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
from autotune.kernel import Arguments, Expected, Library, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Sizes, one_of
from autotune.kernels._rows import row_config, row_reject

PATTERNS = ("full", "ragged", "short")


@dataclass(frozen=True)
class Problem(Sizes):
    """`n` logits a row, of which `pattern` says how many are valid: all, any number, or at most about k."""

    tokens: int
    n: int
    k: int
    page_size: int = 64
    pattern: str = "full"

    VARYING: ClassVar[tuple[str, ...]] = ("tokens", "n")
    DRAWN: ClassVar[tuple[str, ...]] = ("pattern",)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, pattern=PATTERNS)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.logits.shape[0], args.logits.shape[1], args.k, args.page_size)

    @property
    def pages(self) -> int:
        return triton.cdiv(self.n, self.page_size)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int, ...]:
        draw = Draw(seed, device)
        # Ranks of random numbers: no two logits of a row are equal, one is 0; in every second row nine are.
        ranks = draw.normal((self.tokens, self.n), torch.float32).argsort(1)
        ranks[1::2] //= 9
        logits = (ranks - self.n // 4).float() * 0.37
        shape = (self.tokens,)
        lengths = {
            "full": draw.integers(shape, self.n, self.n + 1, torch.int32),
            "ragged": draw.integers(shape, 0, self.n + 1, torch.int32),
            "short": draw.integers(shape, max(0, min(self.n, self.k) - 2), min(self.n, self.k + 2) + 1, torch.int32),
        }[self.pattern]
        if self.pattern == "ragged" and self.tokens > 2 and device != "meta":
            lengths[0], lengths[-1] = -2, self.n + 3
        # Every page of the pool once: slots differ as indices do.
        pages = draw.normal((self.tokens * self.pages,), torch.float32).argsort().to(torch.int32)
        return logits, lengths, pages.view(self.tokens, self.pages), self.k, self.page_size

    @property
    def flops(self) -> int:
        return 2 * self.tokens * self.n

    @property
    def bytes_moved(self) -> int:
        return 4 * self.tokens * (self.n + self.k + self.pages + 1)


@triton.jit
def _ordered(logits_ptr, col, length):
    """Bit patterns whose unsigned order is that of the logits: -inf has 0, every NaN is above inf."""
    # -0.0 + 0.0 is 0.0: equals have equal patterns.
    bits = (tl.load(logits_ptr + col, mask=col < length, other=0.0) + 0.0).to(tl.int32, bitcast=True)
    # Negative numbers count backwards. Subtracting what -inf becomes carries negative NaNs over to the top.
    key = bits ^ ((bits >> 31) | -2147483648)
    return (key - 0x7FFFFF).to(tl.uint32, bitcast=True)


@triton.jit
def _digit(counts, wanted, BINS: tl.constexpr):
    """The bin that holds the `wanted`-th largest, and how many of that bin's are wanted."""
    from_here = tl.cumsum(counts, axis=0, reverse=True)
    bin_ = tl.arange(0, BINS)
    found = tl.max(tl.where(from_here >= wanted, bin_, 0), axis=0)
    return found, wanted - tl.sum(tl.where(bin_ > found, counts, 0), axis=0)


@triton.jit(do_not_specialize=["n", "pages"])
def _topk(
    out_ptr, logits_ptr, lengths_ptr, page_table_ptr, n, k, pages,
    PAGE_SIZE: tl.constexpr, BLOCK: tl.constexpr, BITS: tl.constexpr, IN_REGISTERS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    col = tl.arange(0, BLOCK)
    BINS: tl.constexpr = 1 << BITS
    length = tl.minimum(tl.load(lengths_ptr + row), n)
    logits_ptr += row * n
    out_ptr += row * k
    page_table_ptr += row * pages
    whole = _ordered(logits_ptr, col, length)
    # The bits found so far, and how many of the values that begin with them are wanted.
    prefix = tl.full((), 0, dtype=tl.uint32)
    wanted = tl.minimum(k, length)
    if length > k:
        for step in tl.static_range(0, 32 // BITS):
            counts = tl.zeros((BINS,), dtype=tl.int32)
            for start in range(0, 1 if IN_REGISTERS else length, BLOCK):
                key = whole if IN_REGISTERS else _ordered(logits_ptr, start + col, length)
                candidate = start + col < length
                if step > 0:
                    candidate = candidate & ((key >> (32 - BITS * step)) == prefix)
                digit = ((key >> (32 - BITS * (step + 1))) & (BINS - 1)).to(tl.int32)
                counts += tl.histogram(digit, BINS, mask=candidate)
            found, wanted = _digit(counts, wanted, BINS)
            prefix = (prefix << BITS) | found.to(tl.uint32)
    taken = 0
    equals = 0
    for start in range(0, 1 if IN_REGISTERS else length, BLOCK):
        key = whole if IN_REGISTERS else _ordered(logits_ptr, start + col, length)
        valid = start + col < length
        # Below k values the prefix is 0, which all are above or equal to.
        is_equal = (valid & (key == prefix)).to(tl.int32)
        first = equals + tl.cumsum(is_equal, axis=0) <= wanted
        take = valid & ((key > prefix) | ((is_equal > 0) & first))
        position = taken + tl.cumsum(take.to(tl.int32), axis=0) - 1
        page = tl.load(page_table_ptr + (start + col) // PAGE_SIZE, mask=take, other=0)
        tl.store(out_ptr + position, page * PAGE_SIZE + (start + col) % PAGE_SIZE, mask=take)
        taken += tl.sum(take.to(tl.int32), axis=0)
        equals += tl.sum(is_equal, axis=0)
    for start in range(0, k, BLOCK):
        tl.store(out_ptr + start + col, -1, mask=(start + col >= taken) & (start + col < k))


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    slots = torch.full((problem.tokens, args.k), -1.0, dtype=torch.float64, device=args.logits.device)
    for row, length in enumerate(args.lengths.tolist()):
        index = args.logits[row, : max(0, length)].sort(descending=True, stable=True).indices[: args.k]
        slots[row, : len(index)] = (
            args.page_table[row, index // args.page_size] * args.page_size + index % args.page_size
        ).double()
    return (Expected("slots", slots.sort(1).values, torch.zeros_like(slots)),)


def _decode(problem: Problem, output: Tensor) -> tuple[Tensor, ...]:
    return (output.double().sort(1).values,)


def _torch(problem: Problem, args: Arguments) -> Callable[[], Tensor] | None:
    """Whole rows only. torch.topk does not say which of equal logits it takes: ties at the k-th may differ."""
    if problem.pattern != "full" or problem.n < args.k:
        return None

    def call() -> Tensor:
        index = args.logits.topk(args.k, sorted=False).indices
        return args.page_table.gather(1, index // args.page_size) * args.page_size + index % args.page_size

    return call


def _default(problem: Problem, device: Device) -> Config:
    block = max(triton.next_power_of_2(problem.n), 256)
    block = block if block <= 8192 else 4096
    return row_config({"BLOCK": block, "BITS": 8, "num_warps": min(8, block // 256)}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    block = config.size("BLOCK")
    if block >= 2 * max(problem.n, 256):
        return f"BLOCK={block} is at least twice the row of {problem.n}: half the lanes would idle"
    return row_reject(1, block, config, device, 32)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    trips = triton.cdiv(problem.n, config.size("BLOCK"))
    passes = 32 // config.size("BITS") + 1
    return Work(
        programs=problem.tokens,
        flops_per_program=8 * passes * trips * config.size("BLOCK"),
        bytes_per_program=4 * (problem.n * (1 if trips == 1 else passes) + problem.k + problem.pages),
        unique_bytes=problem.bytes_moved,
        iterations=trips * passes,
    )


@tunable(
    Problem,
    jit=_topk,
    reference=_reference,
    decode=_decode,
    default=_default,
    reject=_reject,
    work=_work,
    library=Library("torch.topk and indexing", _torch),
)
def topk(
    logits: Tensor, lengths: Tensor, page_table: Tensor, k: int, page_size: int, *, config: Config, device: Device
) -> Tensor:
    """Slots int32 [tokens, k] of the largest of the first lengths[t] logits, -1 behind them where these are fewer.

    logits fp32 [tokens, n], lengths int32 [tokens], page_table int32 [tokens, at least ceil(n / page_size)]; entry i of
    a row is in slot page_table[i // page_size] * page_size + i % page_size. Nothing past a length is read; a length
    below 0 is 0, one above n is n. No tokens are no launch. Raises UsageError for anything else.
    """
    require("topk", logits=(logits, torch.float32, (None, None)), page_table=(page_table, torch.int32, (None, None)))
    (tokens, n), pages = logits.shape, page_table.shape[1]
    require(
        "topk",
        home=logits,
        lengths=(lengths, torch.int32, (tokens,)),
        page_table=(page_table, torch.int32, (tokens, pages)),
    )
    if k < 1 or page_size < 1 or pages * page_size < n:
        raise UsageError(
            f"topk: k and page_size must be positive and page_table cover {n} logits; "
            f"got k={k}, {pages} pages of {page_size}"
        )
    out = torch.empty((tokens, k), dtype=torch.int32, device=logits.device)
    launch(_topk, (tokens,))(
        out, logits, lengths, page_table, n, k, pages,
        PAGE_SIZE=page_size, IN_REGISTERS=n <= config.size("BLOCK"), **options(config),
    )  # fmt: skip
    return out
