"""Rates that the GPU here reaches, by small kernels: streaming, its L2, a launch, matrix units by dtype."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from autotune.device_record import Device
from autotune.inputs import FP8
from autotune.kernels._matrix_rate import multiply, multiply_fp4
from autotune.own_devices import Rate
from autotune.toolchain import MEASURE_FP4, supports, triton_version
from autotune.tuning.measurement.graphs import captured, elapsed_us

BLOCK = 128
"""Rows, columns and products of one step of the matrix kernels: 64 accumulators a thread of 8 warps."""
MATRIX_KERNELS = {"fp4": multiply_fp4, "fp8": multiply, "bf16": multiply, "tf32": multiply}
"""fp32 has no matrix unit of its own."""
L2_READS = 64
_REPEATS = 10


@dataclass(frozen=True)
class Sizes:
    """How much the kernels do: `streamed_bytes` of DRAM copied, `loops` steps of each program of a matrix kernel."""

    streamed_bytes: int = 4 * 2**30
    loops: int = 5_000
    programs_per_unit: int = 2


FULL = Sizes()


def measure(device: Device, sizes: Sizes = FULL) -> Iterator[Rate]:
    """Yield what the current GPU reaches: TB/s of DRAM and of the L2, us a launch, TFLOP/s of each dtype of `device`.

    Raises torch's RuntimeError where there is no GPU or no room.
    """
    yield Rate("memory.tb_s", _copied_tb_s(sizes.streamed_bytes), f"a copy of {sizes.streamed_bytes / 2**30:.3g} GiB")
    yield Rate("cache.l2_tb_s", _read_again_tb_s(device), f"a quarter of one die's L2 summed {L2_READS} times")
    yield Rate("launch_us", _launch_us(), "a node of a graph that clears 512 B")
    for dtype in matrix_dtypes(device, triton_version()):
        yield Rate(f"tflops.{dtype}", _tflops(dtype, device, sizes), f"a loop of {dtype} products, no memory read")


def matrix_dtypes(device: Device, triton: str) -> tuple[str, ...]:
    """Dtypes of `device` whose matrix loop this Triton compiles: 3.6 has no FP4 loop for tcgen05."""
    fp4 = device.architecture.group_mma != "tcgen05" or supports(MEASURE_FP4, triton)
    return tuple(dtype for dtype, _ in device.tflops if dtype in MATRIX_KERNELS and (dtype != "fp4" or fp4))


def _copied_tb_s(size: int) -> float:
    source, target = (words(size) for _ in range(2))
    return 2 * size / _fastest_us(lambda: target.copy_(source)) / 1e6


def _read_again_tb_s(device: Device) -> float:
    size = l2_share_bytes(device)
    source = words(size)
    return L2_READS * size / _fastest_us(lambda: read_again(source)) / 1e6


def l2_share_bytes(device: Device) -> int:
    """A quarter of the L2 of one die: each die reads all of what is read again."""
    return int(device.l2_mb * 2**20 / device.xcds) // 4


def read_again(source: Tensor) -> Tensor:
    """Sum `source` L2_READS times in one launch, so that its start counts for nothing."""
    return source.expand(L2_READS, -1).sum(1)


def _launch_us(nodes: int = 100) -> float:
    return _fastest_us(words(512).zero_, nodes)


def words(size: int) -> Tensor:
    """Zeros of `size` bytes on the GPU."""
    return torch.zeros(size // 4, dtype=torch.int32, device="cuda")


def operands(dtype: str, device: Device) -> tuple[Tensor, Tensor]:
    """Two tiles of ones [BLOCK, BLOCK] of a dtype as device records name it; of fp4 two values lie in a byte."""
    if dtype == "fp4":
        tile = torch.full((BLOCK, BLOCK // 2), 0x22, dtype=torch.uint8, device="cuda")
    else:
        elements = {"fp8": FP8[device.fp8], "bf16": torch.bfloat16, "tf32": torch.float32}[dtype]
        tile = torch.ones((BLOCK, BLOCK), device="cuda").to(elements)
    return tile, tile.clone()


def _tflops(dtype: str, device: Device, sizes: Sizes) -> float:
    programs = device.compute_units * sizes.programs_per_unit
    out = torch.empty((programs, BLOCK, BLOCK), dtype=torch.float32, device="cuda")
    a, b = operands(dtype, device)
    kernel = MATRIX_KERNELS[dtype]
    us = _fastest_us(lambda: kernel[(programs,)](out, a, b, sizes.loops, BLOCK=BLOCK, num_warps=8))
    return 2 * BLOCK**3 * sizes.loops * programs / us / 1e6


def _fastest_us(call: Callable[[], object], launches: int = 1) -> float:
    """Microseconds of one call: the least of several replays of a graph of `launches`, over these."""

    def launch(_: int) -> None:
        call()

    launch(0)  # what is compiled or chosen at the first call is not captured
    replay = captured(launch, launches)
    return min(elapsed_us(replay) for _ in range(_REPEATS)) / launches
