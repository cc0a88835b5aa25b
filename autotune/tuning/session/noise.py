"""How well a bench tells two equal things apart: what `autotune doctor --timing` prints."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune import registry
from autotune.config import build, describe
from autotune.device import Device
from autotune.errors import DeviceError
from autotune.tuning.jobs import measure_job
from autotune.tuning.measurement.bench import Bench, Measurement, Timing
from autotune.tuning.measurement.race import ERROR, LOOKS, gain_over, noise_floor
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.executors import lane
from autotune.tuning.workers.process import Lost
from autotune.tuning.workers.worker import Limits, Workers

KERNEL = "norm/rms_norm_quant"
SIZES = ({"rows": 1, "cols": 1536}, {"rows": 64, "cols": 7168}, {"rows": 8192, "cols": 7168})
"""A launch and little else; a decode step; one that streams through DRAM."""
TWINS = 4
"""Entries of the same config that race against it."""


@dataclass(frozen=True)
class Noise:
    """Noise of one problem's default config, raced against itself."""

    problem: str
    us: float
    spread: float
    floors: tuple[float, ...]
    """Smallest gain that a race could promote, after each of LOOKS blocks."""
    twin: float
    """Largest gain of the config over itself that the longest race saw among TWINS: its truth is 0. Twins differ in the
    addresses of their outputs, so what it has above the floor is the luck of addresses, which no repetition removes."""
    clock_mhz: int | None
    throttled_by: str


def noise(bench: Bench, device: Device, slot: int, state: Path) -> list[Noise]:
    """Measured on one GPU. Raises DeviceError where it gives no answer."""
    with lane(Limits(), state) as workers:
        return [_noise(bench, device, slot, fields, workers) for fields in SIZES]


def _noise(bench: Bench, device: Device, slot: int, fields: dict[str, int], workers: Workers) -> Noise:
    kernel = registry.load(KERNEL)
    problem = build(kernel.problem, {**fields, "dtype": device.fp8}, "doctor")
    job = Subject.of(kernel, device).job(problem, kernel.default(problem, device))
    asked = Measurement(bench, slot, (job,) * (1 + TWINS), samples=2 * LOOKS[-1], check=False)
    try:
        answer: dict[str, Any] = workers.submit(measure_job, asked).result()
    except Lost as lost:
        raise DeviceError(f"GPU {slot} gave no answer for {describe(problem)}: {lost}") from lost
    if "failed" in answer:
        raise DeviceError(f"GPU {slot} failed on {describe(problem)}: {answer['reason']}")
    mine, *twins = (tuple(times) for times in answer["times"])
    confidence = 1 - ERROR / len(LOOKS)
    return Noise(
        problem=describe(problem),
        us=Timing(mine).us,
        spread=Timing(mine).spread,
        floors=tuple(noise_floor(mine[: 2 * blocks], confidence).high for blocks in LOOKS),
        twin=max((gain_over(mine, twin, confidence).gain for twin in twins), key=abs),
        clock_mhz=answer["clock_mhz"],
        throttled_by=answer["throttled_by"],
    )
