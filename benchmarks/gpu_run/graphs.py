"""Times of calls of torch as the product takes those of kernels: in graphs, over rotating copies, with cold caches."""

from __future__ import annotations

import statistics
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from autotune.device import Device
from autotune.tuning.measurement import cold_cache
from autotune.tuning.measurement.graphs import captured, elapsed_us

FLUSHES = ("read", "written", "none")
"""How the cache is filled before a sample: with lines that were read, which are dropped for free; with lines that were
written, whose write-back the sample may pay for; not at all."""
_WARM_US = 1e5
_MOST_COPIES = 1000


@dataclass(frozen=True)
class GraphTimer:
    """Times calls one after another, with one buffer that flushes the cache for all of them."""

    flush: torch.Tensor

    @classmethod
    def of(cls, device: Device, is_rehearsal: bool) -> GraphTimer:
        """Make the buffer: twice the last-level cache, or a small one on the stand-in."""
        bytes_ = 40_000 if is_rehearsal else cold_cache.overfull_bytes(int(device.last_level_bytes))
        return cls(torch.zeros(bytes_ // 4, device="cuda"))

    def times(self, call: Callable[..., Any], inputs: tuple[Any, ...], samples: int = 10) -> dict[str, Any]:
        """Microseconds of one call by way of flushing: `us` after a read, and all samples."""
        copies = self._copies(inputs)
        calls = len(copies)

        def launch(number: int) -> None:
            call(*copies[number % calls])

        for number in range(3):
            launch(number)  # loads kernels and fills pools before anything is captured
        torch.cuda.synchronize()
        replay = captured(launch, calls)
        launches = cold_cache.launches_for(elapsed_us(replay) / calls, calls)
        if launches != calls:
            replay = captured(launch, launches)
        spent = 0.0
        while spent < _WARM_US:
            spent += max(elapsed_us(replay), _WARM_US / 1000)
        samples_us: dict[str, list[float]] = {flush: [] for flush in FLUSHES}
        for _ in range(samples):
            for flush in FLUSHES:
                self._fill(flush)
                samples_us[flush].append(elapsed_us(replay) / launches)
        return {
            "us": statistics.median(samples_us["read"]),
            "launches": launches,
            "copies": calls,
            "samples_us": {flush: [round(us, 4) for us in times] for flush, times in samples_us.items()},
        }

    def _copies(self, inputs: tuple[Any, ...]) -> list[tuple[Any, ...]]:
        """Copies of the inputs that together exceed the buffer, as far as a quarter of the memory allows."""
        each, room = max(1, cold_cache.bytes_of(inputs)), torch.cuda.mem_get_info()[0]
        wanted = self.flush.nbytes // each + 2
        count = max(1, min(wanted, room // 4 // each, _MOST_COPIES))
        return [cold_cache.copied(inputs) for _ in range(count)]

    def _fill(self, flush: str) -> None:
        if flush == "written":
            self.flush.zero_()
        elif flush == "read":
            self.flush.sum()
