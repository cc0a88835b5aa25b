"""How inputs are drawn: routings and index lists that look like the workload."""

import pytest
import torch

from autotune.inputs import Draw, captured, shares
from autotune.kernels.attention._problem import RUN, draw_indices
from autotune.kernels.moe.fp8_grouped_gemm import Problem


def load(routing, experts=16):
    ids = Problem(tokens=4000, topk=2, experts=experts, n=128, k=128, routing=routing).draw_ids(Draw(0, "cpu"))
    return torch.bincount(ids.flatten(), minlength=experts) / ids.numel(), ids


def test_zipf_is_skewed_and_token_has_distinct_experts():
    loads, ids = load("zipf:1.2")
    assert (ids[:, 0] != ids[:, 1]).all()
    assert loads[0] > 3 * loads[4] > 3 * loads[15]


def test_captured_histogram_is_drawn_back():
    counts = [100, 0, 50, 50, 10, 10, 0, 30]
    loads, _ = load(captured(counts), 8)
    # Two distinct experts a token flatten the heaviest; the order stays.
    assert loads[0] > loads[2] > loads[7] > loads[4] > loads[1]
    assert loads[1] < 0.01
    assert shares(captured(counts), 8)[0] == pytest.approx(0.4, abs=0.01)


def test_skew_touches_fewer_experts():
    touched = [
        Problem(tokens=16, topk=4, experts=64, n=128, k=128, routing=routing).experts_touched
        for routing in ("uniform", "zipf:1.0", "zipf:2.0", "one_expert")
    ]
    assert touched == sorted(touched, reverse=True)
    assert touched[0] > 2 * touched[2]


@pytest.mark.parametrize("routing", ["zipf", "zipf:x", "zipf:-1", "captured:00", "captured:zz" * 8, "skewed"])
def test_other_routings_are_refused(routing):
    with pytest.raises(ValueError, match="routing must be uniform, zipf:EXPONENT"):
        Problem(tokens=1, topk=1, experts=8, n=128, k=128, routing=routing)


def test_clustered_lists_are_runs_of_neighbours():
    indices = draw_indices(Draw(0, "cpu"), (8, 4 * RUN), 10_000, "clustered")
    steps = indices[:, 1:] - indices[:, :-1]
    assert (steps == 1).float().mean() > 0.95
    assert ((indices >= 0) & (indices < 10_000)).all()
