"""One rank in one step: what the calls of every model are made of."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from autotune.config import Problem, Scalar, build
from autotune.device import Device
from autotune.workload.model import Model
from autotune.workload.scenario import Parallelism, Step

if TYPE_CHECKING:
    from autotune.kernel import Kernel

GEMM = "gemm/fp8_block_scaled"
LINEAR = "gemm/bf16_linear"
NORM = "norm/rms_norm_quant"
INDEX_PAGE = 64
"""Compressed entries (V4) or tokens (V3.2) in a page of the indexer's cache: SGLang's pool."""


@dataclass(frozen=True)
class Call:
    """`per_step` launches of `kernel` in one forward step, for hot path K`path`; `op` is the weight or place.

    `problem` leaves out the FP8 format, which is the device's.
    """

    path: int
    kernel: str
    phase: str
    op: str
    problem: Mapping[str, Scalar]
    per_step: int


@dataclass(frozen=True)
class Rank:
    model: Model
    parallelism: Parallelism
    device: Device
    step: Step

    def call(self, path: int, kernel: str, op: str, per_step: int, **problem: Scalar) -> Call:
        return Call(path, kernel, self.step.phase, op, problem, per_step)

    def gemm(self, op: str, n: int, k: int, per_step: int, path: int = 6) -> Call:
        """An FP8 dense GEMM over the step's tokens."""
        return self.call(path, GEMM, op, per_step, m=self.step.tokens, n=n, k=k, ue8m0=self.ue8m0)

    def linear(self, op: str, n: int, per_step: int) -> Call:
        """A bf16 projection of the hidden state."""
        return self.call(7, LINEAR, op, per_step, m=self.step.tokens, n=n, k=self.model.hidden_size)

    def quant(self, op: str, cols: int, per_step: int) -> Call:
        """FP8 quantisation for a dense GEMM, where no kernel before it could quantise."""
        size = {"rows": self.step.tokens, "cols": cols, "ue8m0": self.ue8m0}
        return self.call(5, "quant/fp8_group_quant", op, per_step, **size)

    def norm_quant(self, op: str, per_step: int, normed: bool) -> Call:
        """A norm of the hidden state for FP8 GEMMs; `normed`: in bf16 beside it, for those who read that."""
        residual = not self.model.has_hyperconnections
        return self.call(
            4, NORM, op, per_step,
            rows=self.step.tokens, cols=self.model.hidden_size, residual=residual, ue8m0=self.ue8m0, normed=normed,
        )  # fmt: skip

    def all_entries(self, op: str, ratio: int, width: int, page_size: int) -> Call:
        """The list of all `width` keys, where nothing is chosen among them."""
        return self.call(
            23, "metadata/compressed_indices", op, 1,
            tokens=self.step.tokens, width=width, ratio=ratio, page_size=page_size, pages=_pages(width, page_size),
        )  # fmt: skip

    def chosen_keys(self, keys: int, fp4: bool, layers: int) -> Iterator[Call]:
        """Indexer logits of `keys` keys a request, and the choice among them."""
        tokens, heads, requests = self.step.tokens, self.model.index_n_heads, self.step.requests
        held, op = _pages(keys, INDEX_PAGE), "indexer.logits"
        if self.is_decode:
            n = held * INDEX_PAGE
            yield self.call(11, "indexer/paged_logits", op, layers, tokens=tokens, heads=heads, pages=held, fp4=fp4)
        else:
            n = keys * requests
            gather = "indexer/key_gather"
            yield self.call(11, gather, "indexer.gather", layers, requests=requests, keys=n, pages=held, fp4=fp4)
            yield self.call(11, "indexer/ragged_logits", op, layers, tokens=tokens, heads=heads, keys=n, fp4=fp4)
        chosen = self.model.index_topk
        yield self.call(12, "indexer/topk", "indexer.topk", layers, tokens=tokens, n=n, k=chosen, page_size=INDEX_PAGE)

    @property
    def is_decode(self) -> bool:
        return self.step.phase == "decode"

    @property
    def ue8m0(self) -> bool:
        """True if scales of FP8 are e8m0 bytes, as the checkpoint's are: fp32 where engines' AMD kernels want them so.

        CDNA4's matrix instructions apply e8m0 scales, those of CDNA3 have none.
        """
        return self.model.scale_fmt == "ue8m0" and (not self.device.is_amd or self.device.has_native_fp4)

    @property
    def heads(self) -> int:
        return self.model.num_attention_heads // self.parallelism.attention

    @property
    def inner(self) -> int:
        """Columns of a routed expert on this rank."""
        return self.model.moe_intermediate_size // self.parallelism.expert_width

    @property
    def experts(self) -> int:
        return self.model.n_routed_experts // self.parallelism.expert

    @property
    def shared_inner(self) -> int:
        return self.model.moe_intermediate_size * self.model.n_shared_experts // self.parallelism.shared


def problem_of(call: Call, kernel: Kernel[Any], device: Device) -> Problem:
    """The problem of a call of `kernel`, in the device's own FP8. Raises UsageError where they do not agree."""
    own = {"dtype": device.fp8} if "dtype" in kernel.problem.__dataclass_fields__ else {}
    problem: Problem = build(kernel.problem, {**call.problem, **own}, f"workload {call.op}")
    return problem


def _pages(entries: int, page_size: int) -> int:
    return -(-entries // page_size)
