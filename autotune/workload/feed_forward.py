"""The feed-forward half of a layer: norm, router, routed experts and the shared one, or a dense MLP."""

from __future__ import annotations

from collections.abc import Iterator

from autotune import registry
from autotune.config import Scalar
from autotune.workload.rank import LINEAR, Call, Rank, problem_of


def mixture(rank: Rank, hashed: int, scored: int) -> Iterator[Call]:
    """Calls of `hashed` layers that route by token id and `scored` ones that route by score."""
    model, layers, hidden = rank.model, hashed + scored, rank.model.hidden_size
    # The router's gate reads the norm in bf16, the shared expert in FP8.
    yield rank.norm_quant("ffn_norm", layers, normed=True)
    yield rank.linear("gate", model.n_routed_experts, layers)
    # Scores come from the gate in hash layers too.
    for rule, count in ((model.router_rule, scored), ("hash", hashed)):
        if count:
            yield rank.call(
                18, "moe/router", "router", count,
                tokens=rank.step.tokens, experts=model.n_routed_experts, topk=model.num_experts_per_tok, scoring=rule,
            )  # fmt: skip
    yield from _mlp(rank, "shared", rank.shared_inner, layers, path=22)
    yield from _experts(rank, layers, hidden)


def dense(rank: Rank, layers: int) -> Iterator[Call]:
    """Calls of V3.2's first layers, which have one wide MLP."""
    yield rank.norm_quant("ffn_norm", layers, normed=False)
    yield from _mlp(rank, "dense", rank.model.intermediate_size // rank.parallelism.tensor, layers, path=6)


def _mlp(rank: Rank, op: str, inner: int, layers: int, path: int) -> Iterator[Call]:
    hidden = rank.model.hidden_size
    yield rank.gemm(f"{op}.w13", 2 * inner, hidden, layers, path)
    rows, ue8m0 = rank.step.tokens, rank.ue8m0
    yield rank.call(21, "moe/swiglu_quant", f"{op}.act", layers, rows=rows, inner=inner, ue8m0=ue8m0)
    yield rank.gemm(f"{op}.w2", hidden, inner, layers, path)


def _experts(rank: Rank, layers: int, hidden: int) -> Iterator[Call]:
    fp4 = rank.model.expert_dtype == "fp4"
    tokens, topk, inner = rank.step.expert_tokens, rank.model.num_experts_per_tok, rank.inner
    same: dict[str, Scalar] = {"tokens": tokens, "topk": topk, "experts": rank.experts}
    kernel = "moe/mxfp4_grouped_gemm" if fp4 else "moe/fp8_grouped_gemm"
    scales: dict[str, Scalar] = {} if fp4 else {"ue8m0": rank.ue8m0}
    if fp4:  # FP8 experts read what the norm quantised
        yield rank.call(5, "quant/mx_quant", "experts.quant", layers, rows=tokens, cols=hidden)
    w13 = rank.call(20, kernel, "w13", layers, n=2 * inner, k=hidden, gathers=True, **same, **scales)
    # Both stages share one sort, in blocks of the first one's rows: its default's, before anything is tuned.
    gemm = registry.load(kernel)
    block_m = gemm.default(problem_of(w13, gemm, rank.device), rank.device).size("BLOCK_M")
    yield rank.call(19, "moe/align", "align", layers, block_m=block_m, **same)
    yield w13
    early = rank.model.routing_weight_in_activation
    act = "moe/swiglu_quant"
    yield rank.call(21, act, "experts.act", layers, rows=tokens * topk, inner=inner, weighted=early, mx=fp4, **scales)
    yield rank.call(20, kernel, "w2", layers, n=hidden, k=inner, gathers=False, **same, **scales)
    # Where experts see other ranks' tokens, the shared expert's output joins after the reduction.
    shared = not rank.parallelism.data_attention and rank.parallelism.expert == 1
    yield rank.call(
        20, "moe/combine", "combine", layers,
        tokens=tokens, topk=topk, dim=hidden, weighted=not early, shared=shared,
    )  # fmt: skip


def head(rank: Rank, per_step: int = 1) -> Iterator[Call]:
    """One row a request. Logits are gathered over ranks before sampling."""
    model, rows = rank.model, rank.step.requests
    cut = model.vocab_size // rank.parallelism.attention
    if model.has_hyperconnections:
        yield rank.call(3, "hyperconnection/mhc_head", "hc_head", per_step, tokens=rows, dim=model.hidden_size)
    residual = not model.has_hyperconnections
    yield rank.call(4, "norm/rms_norm", "final_norm", per_step, rows=rows, cols=model.hidden_size, residual=residual)
    yield rank.call(24, LINEAR, "lm_head", per_step, m=rows, n=cut, k=model.hidden_size)
    # One or the other, as the request asks.
    for kernel in ("sampling/greedy", "sampling/top_k_top_p"):
        yield rank.call(24, kernel, "sample", per_step, rows=rows, vocab=model.vocab_size)
