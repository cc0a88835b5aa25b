"""The sort before the routed experts: slots by expert, each expert padded to whole blocks of block_m rows (K19).

A slot is one (token, choice) pair. block_m is BLOCK_M of the GEMMs that walk the result, and so one choice for all
three: one sort serves both stages of a layer.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
import triton
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.errors import UsageError
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import options, require
from autotune.kernels._problem import Sizes, one_of
from autotune.kernels._rows import row_config
from autotune.kernels.moe._align import bins_of, most_blocks, place, sort_config, sort_slots
from autotune.kernels.moe._grouped import EVEN


@dataclass(frozen=True)
class Problem(Sizes):
    """`routing` shapes inputs only."""

    tokens: int
    topk: int
    experts: int
    block_m: int
    routing: str = "uniform"

    DRAWN: ClassVar[tuple[str, ...]] = ("routing",)

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, routing=EVEN)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        tokens, topk = args.expert_ids.shape
        return cls(tokens, topk, args.experts, args.block_m)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int, ...]:
        ids = Draw(seed, device).integers((self.tokens, self.topk), *EVEN[self.routing](self.experts), torch.int32)
        return ids, self.experts, self.block_m

    @property
    def slots(self) -> int:
        return self.tokens * self.topk

    @property
    def flops(self) -> int:
        return 2 * self.slots

    @property
    def bytes_moved(self) -> int:
        return 4 * (self.slots + most_blocks(self.slots, self.experts, self.block_m) * (self.block_m + 1))


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    flat = args.expert_ids.flatten()
    blocks = most_blocks(problem.slots, args.experts, args.block_m)
    slots: list[int] = []
    owners: list[int] = []
    for expert in range(args.experts):
        own_slots = (flat == expert).nonzero()[:, 0].tolist()
        used = -(-len(own_slots) // args.block_m)
        slots += own_slots + [problem.slots] * (used * args.block_m - len(own_slots))
        owners += [expert] * used
    elsewhere = ((flat < 0) | (flat >= args.experts)).nonzero()[:, 0].tolist()
    slots += elsewhere
    outputs = {
        "sorted_slots": slots + [problem.slots] * (blocks * args.block_m - len(slots)),
        "block_expert": owners + [-1] * (blocks - len(owners)),
        "blocks_used": [len(owners)],
    }
    values = {
        name: torch.tensor(numbers, dtype=torch.float64, device=args.expert_ids.device)
        for name, numbers in outputs.items()
    }
    return tuple(Expected(name, value, torch.zeros_like(value)) for name, value in values.items())


def _default(problem: Problem, device: Device) -> Config:
    tried = sort_config(problem.slots)
    # A short chunk needs threads for the counts alone: two warps of 32 for 384 experts.
    enough = max(1, 8 * bins_of(problem.experts) // (64 * device.warp_size))
    return row_config({**tried, "num_warps": max(enough, tried["num_warps"])}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    chunk, threads = config.size("CHUNK"), config.size("num_warps") * device.warp_size
    if chunk > 64 and chunk >= 2 * problem.slots:
        return f"CHUNK={chunk} is at least twice the {problem.slots} slots"
    if max(chunk, 8 * bins_of(problem.experts)) > 64 * threads:
        return f"{threads} threads hold neither {chunk} slots nor 8 rows of {bins_of(problem.experts)} counts"
    if chunk < threads > 64:
        return f"{threads} threads for {chunk} slots leave threads idle"
    return None


def _work(problem: Problem, config: Config, device: Device) -> Work:
    chunk, bins = config.size("CHUNK"), bins_of(problem.experts)
    chunks = triton.cdiv(problem.slots, chunk)
    return Work(
        programs=chunks,
        # A bitonic sort's comparisons, and the sums of all chunks' counts.
        flops_per_program=chunk * chunk.bit_length() ** 2 / 2 + 2 * chunks * bins,
        bytes_per_program=4 * (chunks * bins + 2 * chunk),
        unique_bytes=problem.bytes_moved + 4 * chunks * bins,
        iterations=triton.cdiv(chunks, 8),
        launches=2,
    )


@tunable(Problem, jit=place, reference=_reference, default=_default, reject=_reject, work=_work)
def align(
    expert_ids: Tensor, experts: int, block_m: int, *, config: Config, device: Device
) -> tuple[Tensor, Tensor, Tensor]:
    """expert_ids int32 [tokens, topk] -> (slots int32 [blocks * block_m], experts int32 [blocks], used int32 [1]).

    Slots of an expert rise; padding holds tokens * topk. Ids outside 0 to experts, any number, are other ranks': their
    slots come after the `used` blocks, in blocks of expert -1, whose rows the GEMMs fill with zeros. What is left has
    expert -1 and padding only. `blocks` depends on sizes only, never on the routing. Raises UsageError.
    """
    require("align", expert_ids=(expert_ids, torch.int32, (None, None)))
    if experts < 1 or block_m < 1:
        raise UsageError(f"align: experts and block_m must be positive, got {experts}, {block_m}")
    return sort_slots(expert_ids, experts, block_m, **options(config))
