"""Our tables inside a running vLLM or SGLang: plugins that their own plugin systems load.

SGLang has a registry of hooks for this. vLLM has none: there the lookup functions of two modules are replaced by
wrappers when the engine loads the plugin. No file of either engine is changed.

Installing this package registers both. They do nothing until AUTOTUNE_TABLES names a folder of tables; then the
engine's block-FP8 and MoE lookups answer from measured rows there, and from their own files where there are none.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable
from dataclasses import replace
from functools import lru_cache, partial
from importlib import import_module
from typing import Any

import torch

from autotune import device as devices
from autotune import registry, row_check, runtime, table
from autotune.device import Device
from autotune.errors import AutotuneError
from autotune.interchange import vllm_sglang, vllm_sglang_write

Configs = dict[int, dict[str, Any]]
EngineLookup = Callable[..., Configs | None]

TRUSTED = ("measured", "sibling")
"""Tiers that may stand before an engine's own tables: a modeled config must not displace one that was measured."""

VLLM = ("vllm.model_executor.layers.quantization.utils.fp8_utils", "vllm.model_executor.layers.fused_moe.fused_moe")
SGLANG = (
    "sglang.kernels.ops.gemm.fp8_kernel",
    "sglang.srt.layers.moe.moe_runner.triton_utils.fused_moe_triton_config",
)


def vllm() -> None:
    """Entry point of `vllm.general_plugins`: every process of the engine calls it before models are loaded."""
    for module, name, around in _hooks("vllm", VLLM):
        loaded = import_module(module)
        setattr(loaded, name, partial(around, getattr(loaded, name)))


def sglang() -> None:
    """Entry point of `sglang.srt.plugins`: registers hooks around the lookups with SGLang's own registry."""
    registry_of_hooks = import_module("sglang.srt.plugins.hook_registry")
    for module, name, around in _hooks("sglang", SGLANG):
        around_type = registry_of_hooks.HookType.AROUND
        registry_of_hooks.HookRegistry.register(f"{module}.{name}", around, around_type)


def block_fp8(engine: str, device: Device, original: EngineLookup, n: int, k: int, block_n: int, block_k: int) -> Any:  # noqa: ANN401, PLR0913
    """`get_w8a8_block_fp8_configs`, from our rows first."""
    if torch.compiler.is_compiling() or (block_n, block_k) != (128, 128):
        return original(n, k, block_n, block_k)  # a traced lookup is the engine's own affair
    ours = _of(engine, device).get(("", n, k, "fp8_w8a8", False))
    return ours or original(n, k, block_n, block_k)


def moe(engine: str, device: Device, original: EngineLookup, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    """`get_moe_configs(E, N, dtype, block_n, block_k, per_channel_quant, down_moe)`, from our rows first."""
    if torch.compiler.is_compiling():
        return original(*args, **kwargs)
    names = ("E", "N", "dtype", "block_n", "block_k", "per_channel_quant", "down_moe")
    asked = {**dict(zip(names, args, strict=False)), **kwargs}
    blocks = (asked.get("block_n") or 0, asked.get("block_k") or 0)
    plain = blocks == ((128, 128) if asked.get("dtype") else (0, 0)) and not asked.get("per_channel_quant")
    key = (asked.get("E"), asked.get("N"), 0, asked.get("dtype") or "", bool(asked.get("down_moe")))
    ours = _of(engine, device).get(key) if plain else None
    return ours or original(*args, **kwargs)


@lru_cache
def _of(engine: str, device: Device) -> dict[tuple[Any, ...], Configs]:
    """Return the entries that `autotune export` would write of the trusted rows, by (E, N, K, dtype, down)."""
    tables = []
    for name in (vllm_sglang.DENSE, vllm_sglang.FP8_EXPERTS, vllm_sglang.BF16_EXPERTS):
        path = table.path_of(runtime.tables_root(), device.arch, device.name, name)
        if name in registry.names() and path.exists():
            loaded = table.load(path)
            rows, _ = row_check.whole(loaded.rows, registry.load(name), device)
            tables.append(replace(loaded, rows=tuple(row for row in rows if row.tier in TRUSTED)))
    files, _ = vllm_sglang_write.write(tables, engine)
    found = {}
    for name, file in files.items():
        content = {int(m): config for m, config in json.loads(file.text).items() if m != "triton_version"}
        found[vllm_sglang.identity(name.rpartition("/")[2])] = content
    return found


def _hooks(engine: str, modules: tuple[str, str]) -> list[tuple[str, str, Callable[..., Any]]]:
    """(module, function, what to put around it); none where nobody asked, or this GPU has no record."""
    if not os.environ.get("AUTOTUNE_TABLES"):
        return []
    try:
        device = devices.current()
        _of(engine, device)
    except AutotuneError as error:
        logging.getLogger(__name__).warning("autotune tables are not used: %s", error)
        return []
    dense, experts = modules
    return [
        (dense, "get_w8a8_block_fp8_configs", partial(block_fp8, engine, device)),
        (experts, "get_moe_configs", partial(moe, engine, device)),
    ]
