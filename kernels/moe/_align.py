"""Slots sorted by expert and padded to whole blocks: what every grouped GEMM walks."""

from __future__ import annotations

import torch
from torch import Tensor


def align(expert_ids: Tensor, experts: int, block_m: int) -> tuple[Tensor, Tensor]:
    """Slots sorted by expert, each expert padded to whole blocks: (int32 [blocks * block_m], experts int32 [blocks]).

    Padding holds tokens * topk; unused blocks hold -1. Shapes depend on sizes only, never on the routing.
    """
    slots = expert_ids.numel()
    flat = expert_ids.reshape(-1).long()
    blocks = _blocks(slots, experts, block_m)
    counts = torch.zeros(experts, dtype=torch.long, device=flat.device).scatter_add_(0, flat, torch.ones_like(flat))
    padded_end = ((counts + block_m - 1) // block_m * block_m).cumsum(0)
    order = torch.argsort(flat, stable=True)
    owner = flat[order]
    rank = torch.arange(slots, device=flat.device) - (counts.cumsum(0) - counts)[owner]
    padded_start = padded_end - (counts + block_m - 1) // block_m * block_m
    sorted_slots = torch.full((blocks * block_m,), slots, dtype=torch.int32, device=flat.device)
    sorted_slots.scatter_(0, padded_start[owner] + rank, order.int())
    first = torch.arange(0, blocks * block_m, block_m, device=flat.device)
    block_expert = torch.searchsorted(padded_end, first, right=True).int()
    return sorted_slots, torch.where(block_expert < experts, block_expert, -1).int()


def _blocks(slots: int, experts: int, block_m: int) -> int:
    """The most blocks that any routing needs: a partial one for each expert touched, and the whole ones."""
    return min(slots, min(slots, experts) + slots // block_m)
