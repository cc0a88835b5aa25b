"""Steps of every launcher before it reaches Triton: its arguments are checked, its config becomes keywords."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from autotune.config import Config, Scalar
from autotune.device import Device
from autotune.errors import UsageError
from autotune.inputs import FP8

Wanted = tuple[Tensor, torch.dtype | tuple[torch.dtype, ...], tuple[int | None, ...]]


def launch(jit: Any, grid: tuple[Any, ...]) -> Callable[..., object]:
    """Return `jit[grid]`, or a function that does nothing where the grid has no programs: no rows, no launch."""
    for size in grid:
        if is_zero(size):
            return _nothing
    launcher: Callable[..., object] = jit[grid]
    return launcher


def is_zero(size: object) -> bool:
    """True for the integer 0. While torch traces, sizes are symbols: comparing one would put a guard on the graph."""
    return type(size) is int and size == 0


def _nothing(*args: object, **options: object) -> None:
    """Launch nothing."""


def options(config: Config) -> dict[str, Scalar]:
    """Keywords for `jit[grid](...)`; `maxnreg=0` means not set, which Triton spells by absence."""
    return {name: value for name, value in config.items() if not (name == "maxnreg" and value == 0)}


def matrix_config(shared: Mapping[str, Scalar], device: Device) -> Config:
    """Add the launch options of a kernel with matrix products; where `num_stages` is not set, 2 on AMD, 3 on NVIDIA."""
    if device.is_amd:
        return Config({"num_stages": 2, **shared}, waves_per_eu=0, matrix_instr_nonkdim=16)
    return Config({"num_stages": 3, **shared}, num_ctas=1, maxnreg=0)


def require(kernel: str, *, home: Tensor | None = None, **wanted: Wanted) -> None:
    """Raise UsageError unless each tensor has its dtype (or one of them) and shape (None: any size), and is contiguous.

    All must be on the device of `home`, a tensor checked before, or of the first. The message has argument and rule.
    """
    where = None if home is None else home.device
    for name, (tensor, dtypes, shape) in wanted.items():
        if not isinstance(tensor, Tensor):
            raise UsageError(f"{kernel}: {name} must be a tensor, got {type(tensor).__name__}")
        allowed = dtypes if isinstance(dtypes, tuple) else (dtypes,)
        sizes = tuple(tensor.shape)
        fits = len(sizes) == len(shape) and all(w in (None, s) for w, s in zip(shape, sizes, strict=True))
        if tensor.dtype not in allowed or not fits or not tensor.is_contiguous():
            wide = ", ".join("any" if want is None else str(want) for want in shape)
            rule = f"contiguous {' or '.join(map(str, allowed))} [{wide}]"
            came = f"{tensor.dtype} {list(sizes)} with strides {list(tensor.stride())}"
            raise UsageError(f"{kernel}: {name} must be {rule}, got {came}")
        where = where or tensor.device
        if tensor.device != where:
            raise UsageError(f"{kernel}: {name} must be on {where} as the first argument is, got {tensor.device}")


def require_fp8(kernel: str, dtype: str) -> None:
    """Raise UsageError unless `dtype` names an FP8 format."""
    if dtype not in FP8:
        raise UsageError(f"{kernel}: dtype must be one of {', '.join(FP8)}, got {dtype!r}")
