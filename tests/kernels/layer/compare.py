"""Our kernels' trace of a case against the float64 model: stage by stage, and end to end."""

from __future__ import annotations

import torch
from layer import model_predict
from layer.cases import Case
from layer.maths import RIGHT, Maths
from layer.model import Reference, feed_forward, mix, put_back
from layer.model_attention import attention
from layer.taps import Exact, Rounded, Trace
from torch import Tensor

RUNS = 8


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
    """How far our streams lie from those of the exact model: Frobenius norm of the difference over that of ours."""
    ours = trace[f"{len(case.plans) - 1}.ffn.streams"].double()
    return _relative(forward(case, maths, Exact(trace)), ours)


def allowed(case: Case, trace: Trace) -> float:
    """How far the dtypes let an implementation be from the exact model.

    RUNS models with random roundings are right, and independent of each other; six of their standard deviations beyond
    their mean, ours is not one of them. (Monte Carlo arithmetic: Parker 1997.)
    """
    truth = forward(case, RIGHT, Exact(trace))
    found = torch.tensor([_relative(forward(case, RIGHT, Rounded(trace, seed)), truth) for seed in range(RUNS)])
    return (found.mean() + 6 * found.std()).item()


def _relative(one: Tensor, other: Tensor) -> float:
    return ((one - other).norm() / other.norm()).item()
