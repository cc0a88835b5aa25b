"""Counters by which the programs of a launch learn which of them arrives last: zeros before the launch and after it.

Zeroing them for each call would be a launch of its own. Each stream keeps a row of them instead, and whoever arrives
last puts its counter back. Launches of one stream follow one another, in a graph too; two graphs that were captured on
one stream must not be replayed at once, as graphs that share a memory pool must not.
"""

from __future__ import annotations

from threading import Lock

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.device import Device

_STREAMS, _COUNTERS = 64, 4096
_pools: dict[int, Tensor] = {}
"""int32 zeros [_STREAMS, _COUNTERS] by device index."""
_rows: dict[tuple[int, int], int] = {}
"""Row of a device's pool by device index and stream."""
_lock = Lock()


@triton.jit
def arrives_last(ticket_ptr, PROGRAMS: tl.constexpr):
    """True in the last of PROGRAMS programs that ask, which sees all that the others stored before they asked.

    `ticket_ptr` points to an int32 that is 0 before, and 0 again after the last.
    """
    tl.debug_barrier()  # every lane has stored before one lane says so
    last = tl.atomic_add(ticket_ptr, 1, sem="acq_rel") == PROGRAMS - 1
    if last:
        tl.store(ticket_ptr, 0)
    return last


def joins_in_launch(device: Device) -> bool:
    """True where the program that `arrives_last` may read what the others stored; elsewhere a second launch does.

    On CDNA no wave waits for its stores before the barrier, and the one lane that releases waits for its own wave's
    only: code of Triton 3.9.0 for gfx942 and gfx950 has no `s_waitcnt vmcnt(0)` before `s_barrier`. The compilers of
    NPUs leave the barrier out.
    """
    return device.vendor == "nvidia"


def tickets(count: int, device: torch.device) -> Tensor:
    """int32 zeros [count] for one launch on the current stream of `device`, which leaves them zeros."""
    # While torch traces, sizes are symbols, and outside of CUDA and HIP nobody counts launches.
    if device.type == "cuda" and type(count) is int and count <= _COUNTERS and torch.cuda.is_initialized():
        row = _row(torch.cuda.current_device() if device.index is None else device.index)
        if row is not None:
            return row[:count]
    return torch.zeros(count, dtype=torch.int32, device=device)


def _row(index: int) -> Tensor | None:
    """The current stream's own counters; None where there are none and none can be made."""
    stream = torch.cuda.current_stream(index).cuda_stream
    with _lock:
        pool = _pools.get(index)
        if pool is None:
            if torch.cuda.is_current_stream_capturing():
                return None  # memory of a graph is the graph's own
            pool = torch.zeros((_STREAMS, _COUNTERS), dtype=torch.int32, device=f"cuda:{index}")
            if type(pool) is not Tensor:
                return None  # a trace
            torch.cuda.current_stream(index).synchronize()  # other streams may be the first to use theirs
            _pools[index] = pool
        row = _rows.setdefault((index, stream), sum(1 for known, _ in _rows if known == index))
        return pool[row] if row < _STREAMS else None
