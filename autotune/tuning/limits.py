"""Limits: the least that bytes, flops and a launch cost (Williams et al. 2009), and how near a space comes to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autotune.config import Config, Problem
from autotune.device import Device
from autotune.kernel import Kernel
from autotune.tuning import space
from autotune.tuning.cost_model.call_batch import side_by_side, works
from autotune.tuning.cost_model.model import calibrations, predict_all
from autotune.tuning.counted_work import flops_and_bytes, work_of


@dataclass(frozen=True)
class Limit:
    """Least microseconds of one call's bytes at streaming rate, of its flops at dense peak, and of one launch."""

    bytes_us: float
    flops_us: float
    launch_us: float

    @property
    def us(self) -> float:
        """Bytes or flops, whichever takes longer, behind one launch."""
        return max(self.bytes_us, self.flops_us) + self.launch_us

    @property
    def by(self) -> str:
        """Name of the longest of the three."""
        parts = {"bytes": self.bytes_us, "flops": self.flops_us, "launch": self.launch_us}
        return max(parts, key=lambda name: parts[name])


def limit(kernel: Kernel[Any], problem: Problem, device: Device) -> Limit:
    """Return the limit of a problem: inputs come from DRAM once, matrix products run in the default's dtype.

    A launch takes what the cost model takes it for, which is measured of such kernels on some devices.
    """
    config = kernel.default(problem, device)
    work = work_of(kernel, problem, config, device)
    (launch,) = calibrations(side_by_side([work], [config]), device)
    flops, moved = flops_and_bytes(kernel, problem, device)
    return Limit(moved / (device.dram_tb_s * 1e6), flops / device.rate(work.dtype), launch.launch_us)


def best_of_space(kernel: Kernel[Any], problem: Problem, device: Device, config: Config) -> tuple[Config, float, float]:
    """Return the fastest config of the whole space by the model, its microseconds, and those of `config`."""
    configs = [config, *space.feasible(space.load(kernel, device), kernel, problem, device)]
    us = predict_all(side_by_side(works(kernel, problem, configs, device), configs), device).us
    best = min(range(len(configs)), key=lambda at: (us[at], str(configs[at])))
    return configs[best], float(us[best]), float(us[0])
