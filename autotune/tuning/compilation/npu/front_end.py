"""Triton's front end for NPUs: a backend that ends at TTIR, so that Triton itself needs no support for them."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from dataclasses import dataclass, fields
from types import SimpleNamespace
from typing import Any

import triton.backends
from triton._C.libtriton import ir, passes
from triton.backends.compiler import BaseBackend, GPUTarget

from autotune.device import Device

_NAME = "npu"
_FP8 = ("fp8e4nv", "fp8e5")


@dataclass(frozen=True)
class NpuOptions:
    """Options that Triton's front end reads; those of a launch that only GPUs know are left out."""

    num_warps: int = 4
    num_ctas: int = 1
    num_stages: int = 1
    warp_size: int = 32
    arch: str = ""
    supported_fp8_dtypes: tuple[str, ...] = ()
    deprecated_fp8_dot_operand_dtypes: tuple[str, ...] = ()
    default_dot_input_precision: str = "ieee"
    allowed_dot_input_precisions: tuple[str, ...] = ("ieee", "hf32")
    max_num_imprecise_acc_default: int = 0
    enable_fp_fusion: bool = True
    extern_libs: tuple[tuple[str, str], ...] = ()
    debug: bool = False
    sanitize_overflow: bool = False
    backend_name: str = _NAME
    instrumentation_mode: str = ""
    fpsan_homomorphic_casts: bool = False
    ir_override: str | None = None

    def hash(self) -> str:
        return hashlib.sha256(repr(self).encode()).hexdigest()


class NpuBackend(BaseBackend):  # type: ignore[misc]
    """Makes TTIR and stops; `tools` take it further."""

    binary_ext = "ttir"

    @staticmethod
    def supports_target(target: GPUTarget) -> bool:
        return bool(target.backend == _NAME)

    def hash(self) -> str:
        return f"{_NAME} {self.target.arch}"

    def pack_metadata(self, metadata: Any) -> tuple[Any, ...]:  # noqa: ANN401 - Triton's
        return ()

    def get_codegen_implementation(self, options: NpuOptions) -> dict[str, Callable[..., Any]]:
        return {"min_dot_size": lambda a, b: (1, 1, 1)}

    def get_module_map(self) -> dict[str, Any]:
        return {}

    def load_dialects(self, context: Any) -> None:  # noqa: ANN401 - Triton's
        """TTIR needs no dialect beside Triton's own."""

    def parse_options(self, opts: dict[str, Any]) -> NpuOptions:
        known = {field.name for field in fields(NpuOptions)}
        given = {name: value for name, value in opts.items() if name in known and value is not None}
        return NpuOptions(**{**given, "arch": self.target.arch, "supported_fp8_dtypes": _fp8_of(self.target.arch)})

    def add_stages(self, stages: dict[str, Any], options: NpuOptions, language: Any) -> None:  # noqa: ANN401
        stages["ttir"] = _ttir


def _fp8_of(chip: str) -> tuple[str, ...]:
    return _FP8 if chip.startswith("Ascend950") else ()


def _ttir(module: Any, metadata: dict[str, Any]) -> Any:  # noqa: ANN401 - Triton's
    manager = ir.pass_manager(module.context)
    passes.common.add_inliner(manager)
    passes.ttir.add_combine(manager)
    passes.common.add_canonicalizer(manager)
    passes.ttir.add_reorder_broadcast(manager)
    passes.common.add_cse(manager)
    passes.common.add_symbol_dce(manager)
    passes.ttir.add_loop_unroll(manager)
    manager.run(module, "make_ttir")
    found = re.search(r"tt\.func public @(\w+)", str(module))
    metadata["name"] = found[1] if found else "kernel"
    metadata["shared"] = 0
    return module


def chip_of(device: Device) -> str:
    """The compilers' name of an NPU: Ascend910B2."""
    return dict(device.aliases)["bishengir"][0]


def target_of(device: Device) -> GPUTarget:
    """The target that makes Triton use this backend, which is registered with the first call."""
    triton.backends.backends.setdefault(_NAME, SimpleNamespace(compiler=NpuBackend, driver=None))
    return GPUTarget(_NAME, chip_of(device), device.warp_size)
