"""The largest difference between transformers' stages and those of our layer model, stage by stage."""

from __future__ import annotations

import torch
from layer.cases import Case
from layer.compare import forward
from layer.maths import RIGHT, Maths
from layer.roundings import Rounding
from layer.taps import Exact
from layer.weights import NOTHING
from oracle.transformers_v4 import Stages
from torch import Tensor


class Unrounded(Exact):
    """The exact model that makes its own choices; every stage is kept."""

    def __init__(self) -> None:
        super().__init__({})

    def __call__(self, name: str, value: Tensor, error: Tensor | float, rounding: Rounding) -> Tensor:
        self.trace[name] = value
        return value

    def choose(self, name: str, value: Tensor) -> Tensor:
        self.trace[name] = value
        return value.double()


def exact_stages(case: Case, maths: Maths = RIGHT) -> dict[str, Tensor]:
    """Stage -> its float64 values for all tokens, in the maths given."""
    taps = Unrounded()
    forward(case, maths, taps)
    return taps.trace


def window(case: Case) -> int:
    """Keys that a token sees; layers of full attention see all."""
    return max(case.scene.lengths) if case.plans[0].full else case.sizes.window


def differences(case: Case, ours: dict[str, Tensor], theirs: list[Stages]) -> dict[str, float]:
    """Stage -> largest |difference| over the largest |value| of ours; of choices, the number that differ."""
    worst: dict[str, float] = {}
    for request, stages in enumerate(theirs):
        for name in stages:
            # The norm before attention is one launch with its quantisation in some layers: no stage of its own.
            if name in ours or name.endswith(".visible"):
                worst[name] = max(worst.get(name, 0.0), _difference(case, ours, request, name, stages))
    return worst


def _difference(case: Case, ours: dict[str, Tensor], request: int, name: str, theirs: Stages) -> float:
    number, _, stage = name.partition(".")
    scene, ratio, parts = case.scene, case.plans[int(number)].ratio, theirs[name]
    offset, length = scene.offsets[request], scene.lengths[request]
    rows = slice(offset, offset + length)
    if stage == "visible":
        return _count(_joined(parts, scene.entries(ratio)[request]), _visible(case, ours, number, request))
    if stage == "index.logits":
        logits = ours[name][rows, : scene.entries(ratio)[request]]
        logits = torch.where(logits > NOTHING / 10, logits, 0.0)
        return _relative(torch.where(logits != 0, _joined(parts, logits.shape[1]), 0.0), logits)
    if stage == "compress.entry":
        first, count = scene.entry_offsets(ratio)[request], scene.entries(ratio)[request]
        return _relative(parts[-1][:count], ours[name][first : first + count])
    if stage == "ffn.experts":
        return _count(torch.cat(parts).sort(1).values, ours[name][rows].sort(1).values)
    if stage == "ffn.weights":
        experts = torch.cat(theirs[f"{number}.ffn.experts"]), ours[f"{number}.ffn.experts"][rows]
        weights = torch.cat(parts), ours[name][rows]
        return _relative(*(w.gather(1, e.argsort(1)) for w, e in zip(weights, experts, strict=True)))
    got = torch.cat(parts)
    return _relative(got, ours[name][rows].reshape(got.shape))


def _visible(case: Case, ours: dict[str, Tensor], number: str, request: int) -> Tensor:
    """1 for each compressed entry that our model lets a token of the request see, [tokens, entries]."""
    scene, ratio = case.scene, case.plans[int(number)].ratio
    offset, length, count = scene.offsets[request], scene.lengths[request], scene.entries(ratio)[request]
    if ratio == 4:
        return ours[f"{number}.index.chosen"][offset : offset + length, :count]
    closes = (torch.arange(count) + 1) * ratio - 1
    return (torch.arange(length)[:, None] >= closes[None, :]).double()


def _joined(parts: list[Tensor], width: int) -> Tensor:
    """Parts of growing width below each other, zeros where a part is narrower."""
    return torch.cat([torch.nn.functional.pad(part, (0, width - part.shape[1])) for part in parts])


def _count(a: Tensor, b: Tensor) -> float:
    return float((a.double() != b.double()).sum())


def _relative(a: Tensor, b: Tensor) -> float:
    if not b.numel():
        return 0.0
    return ((a - b).abs().max() / b.abs().max().clamp_min(torch.finfo(b.dtype).tiny)).item()
