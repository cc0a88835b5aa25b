"""CUDA graphs of many launches (HIP graphs on ROCm), and the time that the GPU takes for what is enqueued."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

_SLEEP_CYCLES = 100_000
"""About 50 us, in which the GPU waits until all is enqueued: the launch of a graph takes 10 us or more."""


def captured(launch: Callable[[int], None], launches: int) -> Callable[[], None]:
    """Return the replay of one graph of `launch(0)`, `launch(1)`, … that has run once."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        for i in range(launches):
            launch(i)
    graph.replay()
    torch.cuda.synchronize()
    return graph.replay


def elapsed_us(call: Callable[[], Any]) -> float:
    """Return the microseconds that the GPU takes for what `call` enqueues, without the time to enqueue it."""
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))  # type: ignore[no-untyped-call]
    torch.cuda._sleep(_SLEEP_CYCLES)  # type: ignore[no-untyped-call]
    begin.record()
    call()
    end.record()
    end.synchronize()
    return float(1e3 * begin.elapsed_time(end))
