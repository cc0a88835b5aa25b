"""Functions of libdevice, run by torch in float64 and rounded once; the rest is refused by name.

Triton's interpreter has none: `triton.language.extra.libdevice` holds empty functions that the compiler replaces with
those of the target. What is computed here is nearer to the exact value than what a GPU computes, whose errors of up to
a few units in the last place (CUDA Math API, "Mathematical Functions") the reference's bounds have to allow.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from importlib import import_module
from typing import Any

import numpy as np
import torch
import triton.language as tl
from torch import Tensor

from autotune.errors import ToolchainError

_SAME_NAME = (
    *("acos", "acosh", "asin", "asinh", "atan", "atan2", "atanh", "ceil", "copysign", "cos", "cosh", "erf", "erfc"),
    *("erfinv", "exp", "exp2", "expm1", "floor", "fmod", "hypot", "lgamma", "log", "log10", "log1p", "log2"),
    *("nextafter", "pow", "rsqrt", "sin", "sinh", "sqrt", "tan", "tanh", "trunc"),
)
_FLOATS: dict[str, Callable[..., Tensor]] = {
    **{name: getattr(torch, name) for name in _SAME_NAME},
    "abs": torch.abs,
    "cbrt": lambda x: torch.sign(x) * x.abs().pow(1 / 3),
    "cospi": lambda x: torch.cos(torch.pi * x.remainder(2)),
    "cyl_bessel_i0": torch.special.i0,
    "cyl_bessel_i1": torch.special.i1,
    "div_rn": torch.div,
    "erfcx": torch.special.erfcx,
    "exp10": lambda x: torch.pow(10.0, x),
    "fast_cosf": torch.cos,
    "fast_dividef": torch.div,
    "fast_exp10f": lambda x: torch.pow(10.0, x),
    "fast_expf": torch.exp,
    "fast_log10f": torch.log10,
    "fast_log2f": torch.log2,
    "fast_logf": torch.log,
    "fast_powf": torch.pow,
    "fast_sinf": torch.sin,
    "fast_tanf": torch.tan,
    "fdim": lambda x, y: torch.clamp(x - y, min=0),
    "j0": torch.special.bessel_j0,
    "j1": torch.special.bessel_j1,
    "nearbyint": torch.round,
    "normcdf": torch.special.ndtr,
    "normcdfinv": torch.special.ndtri,
    "rcbrt": lambda x: torch.sign(x) * x.abs().pow(-1 / 3),
    "rint": torch.round,
    "round": lambda x: torch.sign(x) * torch.floor(x.abs() + 0.5),
    "saturatef": lambda x: torch.clamp(torch.nan_to_num(x, nan=0.0), 0, 1),
    "sinpi": lambda x: torch.sin(torch.pi * x.remainder(2)),
    "sqrt_rn": torch.sqrt,
    "tgamma": lambda x: torch.exp(torch.lgamma(x)) * torch.where((x < 0) & (torch.floor(x) % 2 != 0), -1.0, 1.0),
    "y0": torch.special.bessel_y0,
    "y1": torch.special.bessel_y1,
}
_PREDICATES: dict[str, Callable[[Tensor], Tensor]] = {
    "finitef": torch.isfinite,
    "isfinited": torch.isfinite,
    "isinf": torch.isinf,
    "isnan": torch.isnan,
    "signbit": torch.signbit,
}


def interpret_libdevice() -> None:
    """Give libdevice's functions bodies, once a process, however device code has imported them."""
    common = import_module("triton.language.extra.libdevice")
    for name, stub in inspect.getmembers(common, inspect.isfunction):
        stub.__kwdefaults__ = {"_run": _named(name)}
        stub.__code__ = _forward.__code__
    for vendor in ("cuda", "hip"):
        try:
            module = import_module(f"triton.language.extra.{vendor}.libdevice")
        except ImportError:  # a build of Triton for the other vendor
            continue
        for name, _ in inspect.getmembers(module, tl.core.is_builtin):
            setattr(module, name, _named(name))


def _forward(*args: Any, _run: Callable[..., Any]) -> Any:  # noqa: ANN401
    return _run(*args)


def _named(name: str) -> Callable[..., Any]:
    def run(*args: Any, **_: object) -> Any:  # noqa: ANN401
        from triton.runtime.interpreter import TensorHandle, interpreter_semantic

        known = _FLOATS.get(name) or _PREDICATES.get(name)
        tensors = [interpreter_semantic.to_tensor(arg) for arg in args]
        if known is None or any(tensor.dtype not in (tl.float32, tl.float64) for tensor in tensors):
            kinds = ", ".join(str(tensor.dtype) for tensor in tensors)
            runs = ", ".join([*_FLOATS, *_PREDICATES])
            raise ToolchainError(
                f"libdevice.{name}({kinds}) cannot be proved: the interpreter runs {runs} of fp32 and fp64; "
                "write it with those or with tl.math"
            )
        wide = [torch.from_numpy(np.array(tensor.handle.data, np.float64)) for tensor in tensors]
        kind = tl.int32 if name in _PREDICATES else tensors[0].dtype
        data = known(*wide).numpy().astype(np.int32 if name in _PREDICATES else tensors[0].handle.data.dtype)
        is_block = any(tensor.type.is_block() for tensor in tensors)
        return tl.tensor(TensorHandle(data, kind), tl.block_type(kind, list(data.shape)) if is_block else kind)

    return run
