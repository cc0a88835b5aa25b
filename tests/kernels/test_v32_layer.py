"""V3.2's layers assembled from our kernels, decoding after prefill, against a float64 model written from the maths."""

import pytest
from layer.taps import Disagreement, Follow
from layer.traces import traces
from layer.v32.cases import SCENE, case
from layer.v32.compare import allowed, distance, forward
from layer.v32.maths import RIGHT, TRAPS

pytestmark = pytest.mark.thorough

CASE = case("e4m3fn")
GPU = "mi355x"
"""A GPU with OCP FP8, whose matrix instructions scale."""


@pytest.fixture(scope="module")
def ours(tmp_path_factory):
    return traces(tmp_path_factory.mktemp("v32"), GPU, ("v32",))["v32"]


@pytest.fixture(scope="module")
def limit(ours):
    return allowed(CASE, ours)


def disagreement(trace, maths=RIGHT):
    try:
        forward(CASE, maths, Follow(trace))
    except Disagreement as difference:
        return difference.place.partition(".")[2]
    return None


def test_every_stage_is_right(ours):
    forward(CASE, RIGHT, Follow(ours))


def test_whole_is_as_exact_as_its_dtypes_allow(ours, limit):
    assert distance(CASE, ours) <= limit


@pytest.mark.parametrize("trap", TRAPS)
def test_wrong_maths_are_noticed_in_their_stage(trap, ours):
    maths, stage = TRAPS[trap]
    assert disagreement(ours, maths) == stage


@pytest.mark.parametrize(
    "trap",
    [
        "residual not added",
        "RoPE of attention on halves",
        "no mscale",
        "scale of the absorbed width",
        "softmax for sigmoid",
        "routing weights not normalised",
    ],
)
def test_wrong_maths_show_in_logits(trap, ours, limit):
    assert distance(CASE, ours, TRAPS[trap][0]) > 1.5 * limit


def test_each_wrong_number_is_noticed_in_its_stage(ours):
    for name, right in ours.items():
        wrong = right.clone()
        at = wrong.nan_to_num(0.0).clamp_min(-1e29).abs().argmax()
        is_choice = name.endswith(("chosen", "experts", "token"))
        wrong.view(-1)[at] += 1 if is_choice else wrong.view(-1)[at] * 2.0**-6
        assert disagreement(ours | {name: wrong}) == name.partition(".")[2], name


@pytest.mark.slow
def test_layers_are_right_in_fnuz(tmp_path):
    here = case("e4m3fnuz")
    trace = traces(tmp_path, "mi300x", ("v32",))["v32"]
    forward(here, RIGHT, Follow(trace))
    assert distance(here, trace) <= allowed(here, trace)


def test_scene_reaches_edges():
    topk, page = CASE.sizes.index_topk, CASE.sizes.page_size
    first, *later = [[start + n for start, n in zip(s.starts, s.lengths, strict=True)] for s in SCENE.steps()]
    assert max(first) <= topk  # all keys are attended to
    assert all(max(contexts) > topk for contexts in later)
    assert any(min(contexts) < topk for contexts in later)
    assert {1, 0, page - 1} <= {context % page for contexts in [first, *later] for context in contexts}
