"""Our kernels' trace of V3.2's case against the float64 model: stage by stage, and end to end."""

from __future__ import annotations

from functools import partial

from layer.distances import furthest, relative
from layer.taps import Exact, Trace
from layer.v32.cases import Case
from layer.v32.maths import RIGHT, Maths
from layer.v32.model import Reference, head, mixture, mlp, normed_rows
from layer.v32.model_attention import attention
from layer.weights import exact
from torch import Tensor


def forward(case: Case, maths: Maths, taps: Exact) -> Tensor:
    """Logits [T, vocab] of the tokens of all requests. Raises Disagreement where `taps` follow a trace."""
    x, residual = exact(case.weights[-1]["embedding"])[case.token_ids], None
    for number, plan in enumerate(case.plans):
        ref = Reference(number, case, maths, taps)
        h, hidden, residual = normed_rows(ref, "attn", x, residual, in_bf16=True)
        x = attention(ref, h, hidden)
        h, hidden, residual = normed_rows(ref, "ffn", x, residual, in_bf16=not plan.dense)
        x = mlp(ref, "dense", hidden) if plan.dense else mixture(ref, h, hidden)
    return head(Reference(len(case.plans), case, maths, taps), x, residual)


def distance(case: Case, trace: Trace, maths: Maths = RIGHT) -> float:
    """How far our logits lie from those of the exact model, relative to them."""
    return relative(forward(case, maths, Exact(trace)), trace[f"{len(case.plans)}.head.logits"].double())


def allowed(case: Case, trace: Trace) -> float:
    """How far the dtypes let an implementation be from the exact model."""
    return furthest(partial(forward, case, RIGHT), trace)
