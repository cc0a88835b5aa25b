"""What every launcher does before it reaches Triton: check its arguments, and spell its config."""

from __future__ import annotations

import torch
from torch import Tensor

from autotune.config import Config, Scalar
from autotune.errors import UsageError

Wanted = tuple[Tensor, torch.dtype | tuple[torch.dtype, ...], tuple[int | None, ...]]


def options(config: Config) -> dict[str, Scalar]:
    """Keywords for `jit[grid](...)`; `maxnreg=0` means not set, which Triton spells by absence."""
    return {name: value for name, value in config.items() if not (name == "maxnreg" and value == 0)}


def require(kernel: str, **wanted: Wanted) -> None:
    """Every tensor has its dtype (or one of them) and shape (None: any size), is contiguous, all on one device.

    Raises UsageError with the argument, the rule and what came.
    """
    home: torch.device | None = None
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
        home = home or tensor.device
        require_home(kernel, home, **{name: tensor})


def require_home(kernel: str, home: torch.device, **tensors: Tensor) -> None:
    """Raises UsageError for a tensor that is not on `home`."""
    for name, tensor in tensors.items():
        if tensor.device != home:
            raise UsageError(f"{kernel}: {name} must be on {home} as the first argument is, got {tensor.device}")
