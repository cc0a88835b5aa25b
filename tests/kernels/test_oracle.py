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
from oracle import causal_model, v32_attention
from oracle.differences import differences, exact_stages, window
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
