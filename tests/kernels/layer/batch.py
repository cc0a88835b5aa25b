"""Metadata that an engine hands to every layer of a step: owners and positions of tokens, and slots of their keys."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from layer.scene import Scene, Step
from torch import Tensor


def int32(values: Tensor | list[int] | tuple[int, ...]) -> Tensor:
    return torch.as_tensor(values).int().contiguous()


@dataclass(frozen=True)
class Batch:
    """`rows` int64 into the trace and `tokens` int64 ids; of each token (int32) its position and request; of each
    request in the step (int32) its number, and its chunk's start, length and first row; `begins` int32 of every request
    of the scene, where its chunk begins."""

    rows: Tensor
    tokens: Tensor
    positions: Tensor
    requests: Tensor
    request_ids: Tensor
    starts: Tensor
    lengths: Tensor
    offsets: Tensor
    begins: Tensor
    decode: bool

    @classmethod
    def of(cls, scene: Scene, step: Step, token_ids: Tensor) -> Batch:
        rows = scene.rows(step)
        lengths = torch.tensor(step.lengths)
        begins = torch.zeros(scene.requests, dtype=torch.int32)
        begins[list(step.requests)] = int32(step.starts)
        return cls(
            rows,
            token_ids[rows],
            int32(scene.positions[rows]),
            int32(torch.tensor(step.requests).repeat_interleave(lengths)),
            int32(step.requests),
            int32(step.starts),
            int32(step.lengths),
            int32(lengths.cumsum(0) - lengths),
            begins,
            step.decode,
        )

    def tails(self, window: int) -> Tensor:
        """Rows of the batch that the window's ring must hold after the step."""
        parts = zip(self.offsets.tolist(), self.lengths.tolist(), strict=True)
        return torch.cat([torch.arange(max(at, at + n - window), at + n) for at, n in parts])
