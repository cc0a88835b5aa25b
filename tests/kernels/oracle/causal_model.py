"""A small whole model of transformers beside ours: embedding, four mixed layers, mHC head, norm and logits."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import torch
from layer.cases import Case
from layer.compare import forward
from layer.maths import RIGHT
from layer.model import normed
from layer.scene import Scene
from layer.weights import STREAMS, Plan, Sizes, draw_layer
from oracle.differences import Unrounded
from oracle.transformers_v4 import config, load
from torch import Tensor
from transformers.cache_utils import DynamicCache
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4ForCausalLM

from autotune.kernels.hyperconnection._mix import expect_mixed

PLANS = (Plan(hashed=True), Plan(4, hashed=True), Plan(128), Plan(4))
SIZES = Sizes(vocab=96, index_topk=6, window=16, experts=16, experts_per_token=6)
SCENE = Scene(((130,), (11,), (1,)), 4)


@dataclass(frozen=True)
class Logits:
    """The logits of one request, [tokens, vocab]: of transformers at once and through its cache, and ours."""

    whole: Tensor
    cached: Tensor
    ours: Tensor


@dataclass(frozen=True)
class Model:
    """transformers' model, and the case of the same weights and tokens."""

    theirs: Any
    case: Case


def draw(seed: int) -> Model:
    """A model with weights and token ids of its seed."""
    torch.manual_seed(seed)
    weights = tuple(draw_layer(plan, SIZES, "e4m3fn", 50 + number) for number, plan in enumerate(PLANS))
    model = DeepseekV4ForCausalLM(config(PLANS, SIZES, SIZES.window)).double().eval()
    model.config._attn_implementation = model.model.config._attn_implementation = "eager"
    for layer, values, plan in zip(model.model.layers, weights, PLANS, strict=True):
        load(layer, values, plan, SIZES)
    with torch.no_grad():
        model.model.embed_tokens.weight.normal_()
        model.lm_head.weight.normal_(std=1 / 16)
        model.model.norm.weight.uniform_(0.5, 1.5)
        head = model.model.hc_head
        head.hc_fn.normal_(std=1 / 32)
        head.hc_base.normal_()
        head.hc_scale.fill_(0.7)
    token_ids = torch.randint(0, SIZES.vocab, (SCENE.tokens,))
    streams = model.model.embed_tokens.weight.detach()[token_ids][:, None].expand(-1, STREAMS, -1).contiguous()
    return Model(model, Case(PLANS, SIZES, weights, SCENE, streams, token_ids, "e4m3fn"))


def requests(model: Model) -> Iterator[Logits]:
    """The logits of each request of the scene."""
    ours = _ours(model)
    for offset, length in zip(SCENE.offsets, SCENE.lengths, strict=True):
        ids = model.case.token_ids[offset : offset + length][None]
        with torch.no_grad():
            whole = model.theirs(input_ids=ids, use_cache=False).logits[0]
            cache, steps, start = DynamicCache(config=model.theirs.config), [], 0
            for count in [length - SCENE.decoded, *[1] * SCENE.decoded]:
                step = ids[:, start : start + count]
                steps.append(model.theirs(input_ids=step, cache=cache, use_cache=True).logits[0])
                start += count
        yield Logits(whole, torch.cat(steps), ours[offset : offset + length])


def _ours(model: Model) -> Tensor:
    streams = forward(model.case, RIGHT, Unrounded())
    head = model.theirs.model.hc_head
    fn, scale, base = (value.detach().double() for value in (head.hc_fn, head.hc_scale, head.hc_base))
    mixed = expect_mixed(streams, fn, scale, base, torch.zeros_like(streams))[0].value
    return normed(mixed, model.theirs.model.norm.weight.detach())[0] @ model.theirs.lm_head.weight.detach().T
