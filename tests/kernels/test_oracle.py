"""Our maths against implementations that nobody here wrote: transformers' DeepSeek V4 and V3.2.

Skipped where transformers is absent: `make oracle` installs it.
"""

import os

import pytest
import torch

os.environ["HF_HUB_OFFLINE"] = "1"
pytest.importorskip("transformers", minversion="5.24", reason="transformers >= 5.24 is not installed")

from layer.cases import case
from layer.maths import TRAPS
from layer.v32 import cases as v32_cases
from layer.v32 import maths as v32_maths
from layer.v32.compare import forward as v32_forward
from oracle import causal_model, v32_attention, v32_model
from oracle.differences import Unrounded, differences, exact_stages, window
from oracle.transformers_v4 import run

pytestmark = pytest.mark.thorough

KINDS = ("csa", "hca", "window", "full")
"""Those of our layers that transformers has."""
ROUNDING = 2e-5
"""transformers computes parts of a layer in fp32 whatever its dtype: 4.3e-6 at most was seen."""
QUANTISED = {"keys not quantised", "scales of keys no powers of two", "rotary columns quantised"}
"""Wrong roundings, which a model without roundings cannot show."""
INVISIBLE = QUANTISED | {"no Hadamard"}
"""The Hadamard transform is orthogonal: it leaves the products of queries and keys as they are."""
ELSEWHERE = {trap for trap, (_, kinds, _) in TRAPS.items() if not set(kinds.split()) & set(KINDS)}
"""Traps in a block that transformers does not have: MTP."""
V32_INVISIBLE = {
    "no Hadamard",
    "sum normed before it is rounded",
    "scales no powers of two",
    "indexer weights unscaled",
}
"""Wrong roundings of V3.2, and a factor of all its indexer's logits, which leaves their order."""


@pytest.fixture(scope="module")
def theirs():
    """(kind, cached) -> stages of transformers' layers; each is computed once."""
    made = {}

    def stages(kind, cached):
        if (kind, cached) not in made:
            here = case(kind, "e4m3fn")
            made[kind, cached] = run(here, window(here), cached)
        return made[kind, cached]

    return stages


def found(kind, stages, **maths):
    here = case(kind, "e4m3fn")
    return differences(here, exact_stages(here, **maths), stages)


@pytest.mark.parametrize("cached", [False, True], ids=["whole", "cached"])
@pytest.mark.parametrize("kind", KINDS)
def test_layers_agree_with_transformers(kind, cached, theirs):
    worst = found(kind, theirs(kind, cached))
    assert len(worst) >= 30
    assert {name: value for name, value in worst.items() if value > ROUNDING} == {}


@pytest.mark.slow
@pytest.mark.parametrize("trap", sorted(TRAPS.keys() - INVISIBLE - ELSEWHERE))
def test_wrong_maths_differ_from_transformers(trap, theirs):
    maths, kinds, _ = TRAPS[trap]
    for kind in kinds.split():
        assert max(found(kind, theirs(kind, False), maths=maths).values()) > ROUNDING, kind


def test_whole_model_agrees_with_transformers():
    model = causal_model.draw(seed=3)
    for request in causal_model.requests(model):
        scale = request.ours.abs().max()
        assert (request.whole - request.ours).abs().max() <= ROUNDING * scale
        assert (request.cached - request.ours).abs().max() <= ROUNDING * scale


def test_v32_attention_agrees_with_transformers():
    model, attention = v32_attention.attention_module(seed=1)
    x = torch.randn(v32_attention.TOKENS, v32_attention.HIDDEN).double()
    theirs = v32_attention.theirs(model, attention, x)
    ours = v32_attention.ours(attention, x)
    assert ours.chosen == theirs.chosen
    assert (ours.out - theirs.out).abs().max() <= ROUNDING * theirs.out.abs().max()
    assert v32_attention.ours(attention, x, index_halves=False).chosen != theirs.chosen


@pytest.fixture(scope="module")
def v32_logits():
    return {cached: v32_model.logits(v32_cases.case("e4m3fn"), cached) for cached in (False, True)}


def v32_difference(maths, logits):
    """Largest difference between the logits of our V3.2 in `maths` and transformers', over the largest of theirs."""
    ours = v32_forward(v32_cases.case("e4m3fn"), maths, Unrounded())
    return (ours - logits).abs().max() / logits.abs().max()


@pytest.mark.parametrize("cached", [False, True], ids=["whole", "cached"])
def test_v32_layers_agree_with_transformers(cached, v32_logits):
    assert v32_difference(v32_maths.RIGHT, v32_logits[cached]) <= ROUNDING


@pytest.mark.slow
@pytest.mark.parametrize("trap", sorted(v32_maths.TRAPS.keys() - V32_INVISIBLE))
def test_wrong_v32_maths_differ_from_transformers(trap, v32_logits):
    difference = v32_difference(v32_maths.TRAPS[trap][0], v32_logits[False])
    assert difference.isnan() or difference > ROUNDING
