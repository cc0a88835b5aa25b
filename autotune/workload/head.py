"""From the last layer to a token: norm, language-model head, sampling."""

from __future__ import annotations

from collections.abc import Iterator

from autotune.workload.rank import LINEAR, Call, Rank


def head(rank: Rank, per_step: int = 1) -> Iterator[Call]:
    """One row a request. Logits are gathered over ranks before sampling."""
    model, rows = rank.model, rank.step.requests
    cut = model.vocab_size // rank.parallelism.attention
    if model.is_v4:
        yield rank.call(3, "hyperconnection/mhc_head", "hc_head", per_step, tokens=rows, dim=model.hidden_size)
    residual = not model.is_v4
    yield rank.call(4, "norm/rms_norm", "final_norm", per_step, rows=rows, cols=model.hidden_size, residual=residual)
    yield rank.call(24, LINEAR, "lm_head", per_step, m=rows, n=cut, k=model.hidden_size)
    # One or the other, as the request asks.
    for kernel in ("sampling/greedy", "sampling/top_k_top_p"):
        yield rank.call(24, kernel, "sample", per_step, rows=rows, vocab=model.vocab_size)
