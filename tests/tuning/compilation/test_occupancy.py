"""Rows worked by hand from the hardware's rules, and agreement with what AMD's assembler prints."""

import re

import pytest

from autotune import device, registry
from autotune.tuning.compilation import launch, resources
from autotune.tuning.compilation.occupancy import programs_per_unit

H100, MI300X, MI355X = map(device.named, ("h100", "mi300x", "mi355x"))


@pytest.mark.parametrize(
    ("gpu", "registers", "shared", "warps", "programs"),
    [
        (H100, 32, 0, 4, 16),  # 64 warps a multiprocessor
        (H100, 128, 0, 4, 4),  # 65536 / (128 * 128)
        (H100, 168, 0, 4, 3),
        (H100, 255, 0, 8, 1),
        (H100, 32, 100 << 10, 4, 2),
        (H100, 32, 227 << 10, 4, 1),
        (H100, 32, 228 << 10, 4, 0),
        (MI300X, 128, 0, 4, 4),
        (MI300X, 256, 0, 4, 2),
        (MI300X, 257, 0, 4, 1),
        (MI300X, 64, 32768, 4, 2),
        (MI300X, 64, 65537, 4, 0),
        (MI355X, 64, 65536, 4, 2),
    ],
)
def test_by_hand(gpu, registers, shared, warps, programs):
    assert programs_per_unit(gpu, registers, shared, warps) == programs


NEW = ("gfx908", "gfx1100", "gfx1151", "gfx1200")


@pytest.mark.parametrize("gpu", [MI300X, MI355X, *map(device.of_arch, NEW)], ids=lambda g: g.name)
def test_waves_agree_with_assembler(gpu):
    kernel = registry.load("norm/rms_norm_quant")
    problem = kernel.problem(64, 7168, dtype=gpu.fp8)
    config = kernel.default(problem, gpu)
    binary = launch.compile_launches(kernel, problem, config, gpu)[0]
    printed = int(re.search(r"; Occupancy: (\d+)", binary.asm["amdgcn"]).group(1))
    registers = resources.read([binary], gpu).registers
    assert programs_per_unit(gpu, registers, 0, 1) == min(4 * printed, 99)
