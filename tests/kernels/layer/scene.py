"""A batch of requests: prompts that are prefilled in chunks, all together, and then tokens decoded one by one.

A token's row is its request's offset plus its position: what kernels make of it in any step goes to that row.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor


@dataclass(frozen=True)
class Step:
    """Requests that are in it, where their tokens begin, and how many they are; `decode`: one each."""

    requests: tuple[int, ...]
    starts: tuple[int, ...]
    lengths: tuple[int, ...]
    decode: bool


@dataclass(frozen=True)
class Scene:
    chunks: tuple[tuple[int, ...], ...]
    """Lengths of the prefilled chunks of each request."""
    decoded: int
    """Tokens decoded after them."""

    @property
    def requests(self) -> int:
        return len(self.chunks)

    @property
    def lengths(self) -> list[int]:
        return [sum(chunks) + self.decoded for chunks in self.chunks]

    @property
    def tokens(self) -> int:
        return sum(self.lengths)

    @cached_property
    def offsets(self) -> list[int]:
        return [sum(self.lengths[:request]) for request in range(self.requests)]

    def steps(self) -> list[Step]:
        found = []
        for turn in range(max(map(len, self.chunks))):
            here = tuple(r for r, chunks in enumerate(self.chunks) if turn < len(chunks))
            starts = tuple(sum(self.chunks[r][:turn]) for r in here)
            found.append(Step(here, starts, tuple(self.chunks[r][turn] for r in here), False))
        every = tuple(range(self.requests))
        ones = (1,) * self.requests
        return found + [Step(every, tuple(sum(c) + i for c in self.chunks), ones, True) for i in range(self.decoded)]

    def rows(self, step: Step) -> Tensor:
        """Rows of a step's tokens, in their order."""
        parts = zip(step.requests, step.starts, step.lengths, strict=True)
        return torch.cat([self.offsets[r] + torch.arange(start, start + n) for r, start, n in parts])

    @cached_property
    def positions(self) -> Tensor:
        return torch.cat([torch.arange(length) for length in self.lengths])

    @cached_property
    def chunk_starts(self) -> Tensor:
        """Where the chunk of each token's prefill begins; one past the token where it was decoded."""
        starts = torch.empty(self.tokens, dtype=torch.long)
        for step in self.steps():
            for request, start, length in zip(step.requests, step.starts, step.lengths, strict=True):
                first = self.offsets[request] + start
                starts[first : first + length] = start + 1 if step.decode else start
        return starts

    def stored(self, window: int) -> Tensor:
        """Which tokens reached the window's ring: all but those that their own chunk pushed out again."""
        keep = torch.zeros(self.tokens, dtype=torch.bool)
        for step in self.steps():
            for request, start, length in zip(step.requests, step.starts, step.lengths, strict=True):
                end = self.offsets[request] + start + length
                keep[end - min(length, window) : end] = True
        return keep

    def entries(self, ratio: int) -> list[int]:
        """Windows that close in each request."""
        return [length // ratio for length in self.lengths]

    def entry_offsets(self, ratio: int) -> list[int]:
        return [sum(self.entries(ratio)[:request]) for request in range(self.requests)]


# Shorter than one window, then lengths at a window's edge and either side of it; the last prompt comes in two chunks,
# the second of which begins within a window. Decoded tokens close windows and leave them open.
SCENES = {
    "csa": Scene(((2,), (11,), (13,), (6, 6)), 2),
    "hca": Scene(((5,), (70, 57)), 2),
    "window": Scene(((3,), (7,), (9,), (5, 3)), 2),
    "full": Scene(((1,), (4, 6)), 2),
    "mtp": Scene(((3,), (7, 2)), 2),
}
