"""The roofline: the least time that a device's peaks allow a problem, whatever the config (Williams et al. 2009)."""

from __future__ import annotations

from typing import Any

from autotune.config import Problem
from autotune.device import Device
from autotune.kernel import Kernel


def roofline_us(kernel: Kernel[Any], problem: Problem, device: Device) -> float:
    """Return the microseconds of the problem's flops at the dense peak of its dtype, or of its bytes at streaming rate.

    The longer of the two; inputs come from DRAM once, and launching costs nothing.
    """
    dtype = kernel.work(problem, kernel.default(problem, device), device).dtype
    return max(problem.flops / device.rate(dtype), problem.bytes_moved / (device.dram_tb_s * 1e6))
