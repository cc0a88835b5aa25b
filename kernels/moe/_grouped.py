"""The problem that grouped GEMMs over routed experts share, in any format."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar, Self

import torch
from torch import Tensor

from autotune.config import Config
from autotune.errors import UsageError
from autotune.inputs import Draw, shares
from autotune.kernel import Arguments, Work
from autotune.kernels._problem import Sizes, at_most, multiple_of
from autotune.kernels._quant import fp8_name

EVEN: Mapping[str, Callable[[int], tuple[int, int]]] = {
    "uniform": lambda experts: (0, experts),
    "one_expert": lambda experts: (experts - 1, experts),
    "other_ranks": lambda experts: (-experts, 2 * experts),
    "none_here": lambda experts: (-experts, 0),
}
"""Routings whose ids are drawn evenly from a range, by its ends: all experts, the last one, two thirds or all of them
on other ranks."""


@dataclass(frozen=True)
class Slots(Sizes):
    """`gathers`: stage 1, A has a row a token; else stage 2, a row a slot.

    `routing` shapes inputs only. There may be fewer experts here than a token has choices: 384 over 128 ranks are 3.
    """

    tokens: int
    topk: int
    experts: int
    n: int
    k: int
    gathers: bool = True
    routing: str = "uniform"

    DRAWN: ClassVar[tuple[str, ...]] = ("routing",)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.routing not in EVEN:
            shares(self.routing, self.experts)  # raises ValueError
            at_most(self, topk=self.experts)

    @classmethod
    def of(cls, args: Arguments) -> Self:
        # With one token and one choice both stages are the same call.
        (tokens, topk), (experts, n, _) = args.expert_ids.shape, args.w.shape
        return cls(tokens, topk, experts, n, args.a.shape[1], args.a.shape[0] == tokens)

    @property
    def slots(self) -> int:
        return self.tokens * self.topk

    @property
    def rows(self) -> int:
        """Rows of A."""
        return self.tokens if self.gathers else self.slots

    @property
    def experts_touched(self) -> float:
        """Expected number of distinct experts under the routing: what the weights' traffic scales with."""
        if self.routing == "one_expert":
            return 1.0
        if self.routing == "none_here":
            return 0.0
        if self.routing == "other_ranks":
            return self.experts * (1 - (1 - 1 / (3 * self.experts)) ** self.slots)
        return sum(1 - (1 - share) ** self.slots for share in shares(self.routing, self.experts))

    @property
    def rows_an_expert(self) -> float:
        """Expected number of rows of an expert that has any."""
        return self.slots / self.experts_touched if self.experts_touched else 0.0

    @property
    def flops(self) -> int:
        return 2 * self.slots * self.n * self.k

    def draw_ids(self, draw: Draw) -> Tensor:
        """int32 [tokens, topk] experts."""
        shape = (self.tokens, self.topk)
        if self.routing not in EVEN:
            return draw.routes(shape, shares(self.routing, self.experts))
        return draw.integers(shape, *EVEN[self.routing](self.experts), torch.int32)

    def by_expert(
        self,
        wide_a: Tensor,
        wide_w: Callable[[int], Tensor],
        expert_ids: Tensor,
        multiply: Callable[[Tensor, Tensor], Tensor],
    ) -> Tensor:
        """float64 [slots, n]: `multiply` of each expert's rows [rows, k] and its weights [n, k], which `wide_w` gives.

        Rows of ids that are no expert here are zeros. Expert by expert: 384 of them in float64 at once are more than a
        GPU holds.
        """
        owner = expert_ids.reshape(-1)
        rows = wide_a.repeat_interleave(self.topk, 0) if self.gathers else wide_a
        result = wide_a.new_zeros((self.slots, self.n))
        for expert in owner.unique().tolist():
            if 0 <= expert < self.experts:
                own = owner == expert
                result[own] = multiply(rows[own], wide_w(expert))
        return result

    def product(self, wide_a: Tensor, wide_w: Callable[[int], Tensor], expert_ids: Tensor) -> tuple[Tensor, Tensor]:
        """float64 [slots, n]: the sums of products, and of their magnitudes."""
        value = self.by_expert(wide_a, wide_w, expert_ids, lambda rows, weights: rows @ weights.T)
        return value, self.by_expert(wide_a, wide_w, expert_ids, lambda rows, weights: rows.abs() @ weights.abs().T)


@dataclass(frozen=True)
class Fp8Slots(Slots):
    """Slots of FP8 activations; `dtype` is e4m3fn, or e4m3fnuz on CDNA3."""

    dtype: str = "e4m3fn"

    GROUP: ClassVar[int]
    """Columns that share a scale."""

    def __post_init__(self) -> None:
        super().__post_init__()
        multiple_of(self, k=self.GROUP)

    @classmethod
    def of(cls, args: Arguments) -> Self:
        (tokens, topk), (experts, n, _) = args.expert_ids.shape, args.w.shape
        gathers = args.a.shape[0] == tokens
        return cls(tokens, topk, experts, n, args.a.shape[1], gathers, dtype=fp8_name(args.a.dtype))


def grouped_work(problem: Slots, config: Config, bytes_moved: int, widths: tuple[float, float], dtype: str) -> Work:
    """Work of a grouped GEMM; `widths` are the bytes of an element of A and of W, scales included."""
    block_m, block_n, k = config.size("BLOCK_M"), config.size("BLOCK_N"), problem.k
    touched = max(problem.experts_touched, 1.0)
    # Empty blocks of the worst-case grid end at once and are not counted.
    blocks = round(max(touched * -(-problem.slots // (block_m * touched)), 1))
    loaded = min(block_m, problem.slots / blocks) * widths[0] + block_n * widths[1]
    return Work(
        programs=blocks * -(-problem.n // block_n),
        flops_per_program=2 * block_m * block_n * k,
        bytes_per_program=k * loaded + 2 * block_m * block_n,
        unique_bytes=bytes_moved,
        iterations=-(-k // config.size("BLOCK_K")),
        dtype=dtype,
        launches=3,  # two of the alignment
    )


def check_rows(kernel: str, a: Tensor, expert_ids: Tensor, group: int) -> None:
    """Raises UsageError unless A has a row a token or a slot, in whole groups of columns."""
    (tokens, topk), (rows, k) = expert_ids.shape, a.shape
    if rows not in (tokens, tokens * topk) or k % group:
        raise UsageError(
            f"{kernel}: a must have {tokens} or {tokens * topk} rows and a multiple of {group} columns, "
            f"got [{rows}, {k}]"
        )
