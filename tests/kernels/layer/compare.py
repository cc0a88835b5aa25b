"""Our kernels' trace of a case against the float64 model: stage by stage, and end to end."""

from __future__ import annotations

from functools import partial

from layer import model_predict
from layer.cases import Case
from layer.distances import furthest, relative
from layer.maths import RIGHT, Maths
from layer.model import Reference, feed_forward, mix, put_back
from layer.model_attention import attention
from layer.taps import Exact, Trace
from torch import Tensor


def forward(case: Case, maths: Maths, taps: Exact) -> Tensor:
    """The streams [T, 4, dim] that leave the last layer. Raises Disagreement where `taps` follow a trace."""
    streams = case.streams.double()
    for number in range(len(case.plans)):
        ref = Reference(number, case, maths, taps)
        if ref.plan.predicts:
            streams = model_predict.enter(ref, streams)
        x, post, comb = mix(ref, "attn", streams)
        streams = put_back(ref, "attn", attention(ref, x), streams, post, comb)
        x, post, comb = mix(ref, "ffn", streams)
        streams = put_back(ref, "ffn", feed_forward(ref, x), streams, post, comb)
        if ref.plan.predicts:
            model_predict.leave(ref, streams)
    return streams


def distance(case: Case, trace: Trace, maths: Maths = RIGHT) -> float:
    """How far our streams lie from those of the exact model, relative to them."""
    ours = trace[f"{len(case.plans) - 1}.ffn.streams"].double()
    return relative(forward(case, maths, Exact(trace)), ours)


def allowed(case: Case, trace: Trace) -> float:
    """How far the dtypes let an implementation be from the exact model."""
    return furthest(partial(forward, case, RIGHT), trace)
