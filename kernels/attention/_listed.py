"""Parts of attention over two key lists a token, of which one or both name rows of a cache."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from autotune.config import Scalar
from autotune.device import Device
from autotune.kernels._kv_cache import Cached
from autotune.kernels._problem import one_of
from autotune.kernels.attention._problem import PATTERNS, Attention
from autotune.kernels.attention._softmax import WIDTH

SCALE = WIDTH**-0.5


@dataclass(frozen=True)
class Listed(Attention, Cached):
    """`keys` of the first list a token, `extra_keys` of the second (0: none); `pattern` shapes the lists."""

    extra_keys: int = 0
    layout: str = "bf16"
    page_size: int = 1
    dtype: str = "e4m3fn"
    pattern: str = "full"

    VARYING: ClassVar[tuple[str, ...]] = ("tokens", "keys", "extra_keys")
    DRAWN: ClassVar[tuple[str, ...]] = ("pattern", "dtype")

    def __post_init__(self) -> None:
        super().__post_init__()
        one_of(self, pattern=PATTERNS)

    @property
    def flops(self) -> int:
        return 4 * self.tokens * self.heads * (self.keys + self.extra_keys) * WIDTH


def listed_tile(heads: int, layout: str, device: Device) -> dict[str, Scalar]:
    """BLOCK_H, BLOCK_N, warps and stages of the default config.

    Wider key tiles spill beside 32 query rows, and where FP8 rows are widened; 64 query rows spill 200 B and more on
    NVIDIA.
    """
    plain = layout == "bf16"
    block_h = 16 if heads <= 16 or not plain else 32
    block_n = 32 if block_h == 16 and plain else 16
    warps = 8 if block_h == 32 or not (plain or device.is_amd) else 4
    # Two stages where they spill nothing: bf16 rows on NVIDIA in wide tiles, FP8 rows on AMD.
    stages = 2 if (not plain if device.is_amd else block_n == 32) else 1
    return {"BLOCK_H": block_h, "BLOCK_N": block_n, "num_warps": warps, "num_stages": stages}
