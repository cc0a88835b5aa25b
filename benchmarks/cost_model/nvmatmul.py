"""NVIDIA's own ordering of GEMM configs, as a peer: nvMatmulHeuristics (`pip install nvidia-matmul-heuristics`).

Its timing model is asked for each config's runtime, on the GPUs that it knows, with no GPU present. It knows no block
scales: the GEMM that it sees is FP8 in, bf16 out, by its Triton target. Configs that it refuses come last, all alike.
"""

from __future__ import annotations

import atexit
import ctypes
from collections.abc import Sequence
from functools import cache
from typing import Any

import numpy as np

from autotune.config import Config
from autotune.tuning.arrays import Floats

GPUS = {
    "a100": "A100_SXM_80GB",
    "h100": "H100_SXM",
    "h200": "H200_SXM",
    "h20": "H20_SXM",
    "b200": "B200",
    "gb200": "GB200_NVL",
    "gb300": "GB300_NVL",
    "l40s": "L40S",
    "rtx_pro_6000": "RTX_PRO_6000",
}
PRECISION = b"QQTST"
"""E4M3 times E4M3, fp32 sums, bf16 results."""


@cache
def _library(gpu: str) -> tuple[Any, Any]:
    """Its interface, and its description of one GPU with what NVIDIA measured there loaded."""
    import nvMatmulHeuristics as nv

    interface = nv.NvMatmulHeuristicsInterface(nv.NvMatmulHeuristicsTarget.TRITON, PRECISION.decode())
    atexit.register(setattr, interface, "handle", None)  # its destructor crashes
    hardware = interface.createHardwareDescriptor()
    interface.setHardwarePredefinedGpu(hardware, nv.NvMatmulHeuristicsNvidiaGpu[gpu])
    interface.loadInternalDiscoverySet(_layout(), hardware)
    return interface, hardware


def _layout() -> Any:  # noqa: ANN401
    import nvMatmulHeuristics as nv

    return nv.NvMatmulHeuristicsMatmulLayout.NT_ROW_MAJOR


def knows(device: str) -> bool:
    """True if the package is installed and describes `device`."""
    try:
        import nvMatmulHeuristics  # noqa: F401
    except (ImportError, OSError):
        return False
    return device in GPUS


def seconds(device: str, m: int, n: int, k: int, configs: Sequence[Config]) -> Floats:
    """Estimated runtimes; inf where it gives none."""
    interface, hardware = _library(GPUS[device])
    problem = interface.makeNvMatmulHeuristicsProblem(m, n, k, _layout())

    def estimate(config: Config) -> float:
        found: float = interface.nvMatmulHeuristicsEstimateRuntime(
            interface.handle,
            PRECISION,
            ctypes.c_int(interface.target),
            ctypes.byref(problem),
            ctypes.byref(_kernel(interface, config)),
            hardware,
        )
        return found if found > 0 else np.inf

    return np.array([estimate(config) for config in configs])


def _kernel(interface: Any, config: Config) -> Any:  # noqa: ANN401
    """Warps share a tile's rows first, 16 each at least, as Triton's do."""
    block_m, block_n, block_k = (config.size(f"BLOCK_{axis}") for axis in "MNK")
    down = min(config.size("num_warps"), block_m // 16)
    kernel = interface.nvmmhKernelConfiguration()
    kernel.cta[:] = (block_m, block_n, block_k)
    kernel.warp[:] = (block_m // down, block_n // (config.size("num_warps") // down), block_k)
    kernel.instr[:] = (16, 8, 32)
    kernel.splitK, kernel.loadStages, kernel.gridSwizzle, kernel.ctaOrder = 1, config.size("num_stages"), 1, 0
    kernel.cluster[:] = (1, 1)
    return kernel
