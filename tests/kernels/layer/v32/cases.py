"""The case of DeepSeek V3.2: a dense layer and one of experts with their weights, and a scene."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from layer.scene import Scene
from layer.v32.weights import PLANS, Plan, Sizes, draw_ends, draw_layer
from layer.weights import Weights
from torch import Tensor

from autotune.inputs import Draw

# All contexts of the first chunks are within the six keys that are chosen, so that the first step attends to all keys;
# later steps choose, and have a request that is still shorter. Lengths end at a page's edge and either side of it.
SCENE = Scene(((2,), (5, 6), (4, 9)), 3)
SEED = 60


@dataclass(frozen=True)
class Case:
    """`weights` of each layer, and last those of both ends; `token_ids` int64 [tokens]; `fp8` the device's format."""

    plans: tuple[Plan, ...]
    sizes: Sizes
    weights: tuple[Weights, ...]
    scene: Scene
    token_ids: Tensor
    fp8: str


def case(fp8: str) -> Case:
    """The same tensors in every process."""
    sizes = Sizes()
    layers = [draw_layer(plan, sizes, fp8, SEED + 1 + number) for number, plan in enumerate(PLANS)]
    ends = draw_ends(sizes, fp8, SEED + 1 + len(PLANS))
    token_ids = Draw(SEED, "cpu").integers((SCENE.tokens,), 0, sizes.vocab, torch.int64)
    return Case(PLANS, sizes, (*layers, ends), SCENE, token_ids, fp8)
