"""The roofline: the least time that a device's peaks allow a problem, whatever the config (Williams et al. 2009)."""

from __future__ import annotations

from typing import Any

from autotune.config import Problem
from autotune.device import Device
from autotune.kernel import Kernel
from autotune.tuning.counted_work import flops_and_bytes, work_of


def roofline_us(kernel: Kernel[Any], problem: Problem, device: Device) -> float:
    """Return the microseconds of the problem's flops at the dense peak of its dtype, or of its bytes at streaming rate.

    The longer of the two; inputs come from DRAM once, and launching costs nothing.
    """
    dtype = work_of(kernel, problem, kernel.default(problem, device), device).dtype
    flops, moved = flops_and_bytes(kernel, problem, device)
    return max(flops / device.rate(dtype), moved / (device.dram_tb_s * 1e6))
