"""Cases to compare: layers of one kind with their weights, a scene, and the streams that enter the first layer."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from layer.scene import SCENES, Scene
from layer.weights import KINDS, STREAMS, Plan, Sizes, Weights, draw_layer
from torch import Tensor

from autotune.inputs import Draw

SEEDS = {"csa": 0, "full": 10, "hca": 20, "window": 30, "mtp": 40}


@dataclass(frozen=True)
class Case:
    """`streams` bf16 [tokens, 4, hidden], `token_ids` int64 [tokens]; `fp8` is the device's e4m3 format."""

    plans: tuple[Plan, ...]
    sizes: Sizes
    weights: tuple[Weights, ...]
    scene: Scene
    streams: Tensor
    token_ids: Tensor
    fp8: str


def case(kind: str, fp8: str) -> Case:
    """The same tensors in every process."""
    sizes, scene, plans = Sizes(), SCENES[kind], KINDS[kind]
    seed = SEEDS[kind]
    draw = Draw(seed, "cpu")
    return Case(
        plans,
        sizes,
        tuple(draw_layer(plan, sizes, fp8, seed + 1 + i) for i, plan in enumerate(plans)),
        scene,
        draw.normal((scene.tokens, STREAMS, sizes.hidden), torch.bfloat16),
        draw.integers((scene.tokens,), 0, sizes.vocab, torch.int64),
        fp8,
    )
