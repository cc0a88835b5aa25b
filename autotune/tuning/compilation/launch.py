"""Triton launches of one problem and config, recorded without a GPU: grids, signatures, binaries."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from autotune import arch as archs
from autotune.config import Config, Problem
from autotune.device import Device
from autotune.errors import DeviceError
from autotune.kernel import Kernel
from autotune.toolchain import require_arch


@dataclass(frozen=True)
class Launch:
    """One `jit[grid](...)` of a launcher; `signature` is what Triton specialises the binary on, `computes` what of it
    says what is computed: all but options such as `num_warps`."""

    function: str
    grid: tuple[int, ...]
    signature: str
    computes: str


def target_of(arch: str) -> GPUTarget:
    """`sm_90` or `gfx950` as Triton names it. Raises DeviceError, also for an NPU."""
    record = archs.named(arch)
    if not record.is_gpu:
        raise DeviceError(f"Triton makes no machine code for {arch}; {archs.PLANNED_ONLY}")
    return GPUTarget(*record.target)


def launches(kernel: Kernel[Any], problem: Problem, config: Config, device: Device) -> list[Launch]:
    """The launches of one call, the kernel's own first, without compiling anything."""
    seen: list[tuple[JITFunction, Launch]] = []

    def record(function: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:  # noqa: ANN401
        names = {param.name for param in function.params}
        computing = {name: value for name, value in kwargs.items() if name in names}
        signatures = (_signature(function, args, given) for given in (kwargs, computing))
        seen.append((function, Launch(function.__name__, tuple(grid), *signatures)))

    with running(record):
        kernel.launch(*meta_inputs(problem), config=config, device=device)
    return own_first(kernel, seen)


def compile_launches(kernel: Kernel[Any], problem: Problem, config: Config, device: Device) -> list[Any]:
    """The CompiledKernel of each launch of one call, the kernel's own first, made by its launcher for `device.arch`.

    Raises ToolchainError where this Triton is too old for the arch.
    """
    require_arch(device.arch, triton.__version__)
    driver.set_active(StubDriver(target_of(device.arch)))
    original = JITFunction.run
    binaries: list[tuple[JITFunction, Any]] = []

    def build(function: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:  # noqa: ANN401
        # A JITFunction remembers binaries by device number, and every target here is device 0.
        function.device_caches.clear()
        binaries.append((function, original(function, *args, grid=grid, warmup=True, **kwargs)))

    with running(build):
        kernel.launch(*meta_inputs(problem), config=config, device=device)
    return own_first(kernel, binaries)


def dry_run(kernel: Kernel[Any], args: tuple[Any, ...], config: Config, device: Device) -> None:
    """Run the launcher on `args` with nothing launched. Raises what the launcher raises."""
    with running(lambda *_, **__: None):
        kernel.launch(*args, config=config, device=device)


def own_first(kernel: Kernel[Any], seen: list[tuple[JITFunction, Any]]) -> list[Any]:
    # A launcher may sort or count before the launch that its config is about.
    return [item for _, item in sorted(seen, key=lambda pair: pair[0] is not kernel.jit)]


@cache
def meta_inputs(problem: Problem) -> tuple[Any, ...]:
    return problem.inputs(0, "meta")


@contextmanager
def running(replacement: Any) -> Iterator[None]:  # noqa: ANN401
    original = JITFunction.run
    JITFunction.run = replacement
    try:
        yield
    finally:
        JITFunction.run = original


def _signature(function: JITFunction, args: tuple[Any, ...], kwargs: dict[str, Any]) -> str:
    parts = [
        _argument(value, param.do_not_specialize) if not param.is_constexpr else repr(value)
        for param, value in zip(function.params, args, strict=False)
    ]
    parts += [f"{name}={value!r}" for name, value in sorted(kwargs.items())]
    return hashlib.sha256(f"{function.__name__}({', '.join(parts)})".encode()).hexdigest()[:16]


def _argument(value: Any, plain: bool) -> str:  # noqa: ANN401
    """Spell what Triton specializes on: dtype and alignment of pointers, and integers that are 1 or divisible by 16."""
    if isinstance(value, torch.Tensor):
        # AMD's buffer instructions reach 2 GiB: a larger tensor is another specialisation there.
        return f"{value.dtype}{':large' if value.untyped_storage().nbytes() >= 2**31 else ''}"
    if isinstance(value, bool) or not isinstance(value, int):
        return repr(value) if value is None else type(value).__name__
    width = "i32" if -(2**31) <= value < 2**31 else "i64"
    if plain:
        return width
    return "1" if value == 1 else f"{width}:16" if value % 16 == 0 else width


class StubDriver:
    """Enough of a Triton driver to compile for `target`; launching through it is impossible."""

    def __init__(self, target: GPUTarget) -> None:
        self._target = target

    def get_current_target(self) -> GPUTarget:
        return self._target

    def get_current_device(self) -> int:
        return 0

    def get_current_stream(self, device: int = 0) -> int:
        return 0

    def get_active_torch_device(self) -> torch.device:
        return torch.device("cpu")
