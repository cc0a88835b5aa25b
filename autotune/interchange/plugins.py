"""Our tables inside a running vLLM or SGLang: plugins that their own plugin systems load.

SGLang has a registry of hooks for this. vLLM has none: there the lookup functions of two modules are replaced by
wrappers when the engine loads the plugin. No file of either engine is changed, and nothing here ends an engine: what is
not as it should be is one warning, and the engine's own behaviour.

Installing this package registers both. They do nothing until AUTOTUNE_TABLES names a folder of tables; then the
engine's block-FP8 and MoE lookups answer from measured rows there, and from their own files where there are none. Under
batch-invariant or deterministic serving rows come from deterministic tables alone, of one order for every size.
"""

from __future__ import annotations

import inspect
import logging
import os
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache, partial, wraps
from importlib import import_module
from typing import Any

import torch

from autotune import device as devices
from autotune import ranks
from autotune.device import Device
from autotune.errors import AutotuneError
from autotune.interchange.engine_rows import Configs, rows
from autotune.interchange.vllm_sglang import BLOCK

EngineLookup = Callable[..., Configs | None]
Around = Callable[..., Any]
"""A hook: called with the engine's own function and what that would get."""

DENSE, EXPERTS = "get_w8a8_block_fp8_configs", "get_moe_configs"
ARGUMENTS: dict[str, tuple[str, ...]] = {
    DENSE: ("N", "K", "block_n", "block_k"),
    EXPERTS: ("E", "N", "dtype", "block_n", "block_k", "per_channel_quant", "down_moe"),
}
"""Parameters of the lookups; vLLM's has the first five of the second."""

HOMES: dict[str, dict[str, tuple[str, ...]]] = {
    "vllm": {
        DENSE: ("vllm.model_executor.layers.quantization.utils.fp8_utils",),
        EXPERTS: ("vllm.model_executor.layers.fused_moe.fused_moe",),
    },
    "sglang": {
        DENSE: (
            "sglang.kernels.ops.gemm.fp8_kernel",  # from 0.5.21
            "sglang.kernels.ops.quantization.fp8_kernel",  # 0.5.16 to 0.5.20
            "sglang.srt.layers.quantization.fp8_kernel",  # 0.5.15
        ),
        EXPERTS: ("sglang.srt.layers.moe.moe_runner.triton_utils.fused_moe_triton_config",),
    },
}
"""Modules in which each lookup was found, newest release first."""

SWITCHES = {
    "vllm": (("vllm.envs", "VLLM_BATCH_INVARIANT"),),
    "sglang": (
        ("sglang.srt.runtime_context", "get_exec().deterministic.enable_deterministic_inference"),  # from 0.5.17
        ("sglang.srt.runtime_context", "get_server_args().enable_deterministic_inference"),  # 0.5.16
        ("sglang.srt.server_args", "get_global_server_args().enable_deterministic_inference"),  # 0.5.15
    ),
}
"""Where each engine keeps the switch that its own lookups ask, newest release first; `()` calls what has that name."""


def vllm() -> None:
    """Entry point of `vllm.general_plugins`: every process of the engine calls it before models are loaded."""
    for module, name, around in _hooks("vllm"):
        original = getattr(sys.modules[module], name)
        if not hasattr(original, "autotune"):  # vLLM may load a plugin twice
            _replace(module, name, _around(around, original))


def sglang() -> None:
    """Entry point of `sglang.srt.plugins`: registers hooks around the lookups with SGLang's own registry."""
    hooks = list(_hooks("sglang"))
    try:
        registry_of_hooks = import_module("sglang.srt.plugins.hook_registry")
        for module, name, around in hooks:
            registry_of_hooks.HookRegistry.register(f"{module}.{name}", around, registry_of_hooks.HookType.AROUND)
    except (ImportError, AttributeError, TypeError) as error:
        _warn(f"sglang's registry of hooks is not where it was ({error}): autotune's tables are not used")


@dataclass(frozen=True)
class Engine:
    """The engine in this process and its GPU."""

    name: str
    device: Device

    def find(self, shape: tuple[Any, ...]) -> Configs | None:
        """Return our entries for (E, N, K, dtype, down) in the serving mode of this moment."""
        found = rows(self.name, self.device, is_batch_invariant(self.name))
        ranks.compare(f"{self.name} {self.device.name}", lambda: found.content)
        return found.entries.get(shape)


def block_fp8(engine: Engine, original: EngineLookup, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    """`get_w8a8_block_fp8_configs(N, K, block_n, block_k)`, from our rows first."""
    if torch.compiler.is_compiling():
        return original(*args, **kwargs)  # a traced lookup is the engine's own affair
    asked = {**dict(zip(ARGUMENTS[DENSE], args, strict=False)), **kwargs}
    ours = None
    if _is_ours(engine, (asked["block_n"], asked["block_k"])):
        ours = engine.find(("", asked["N"], asked["K"], "fp8_w8a8", False))
    return ours or original(*args, **kwargs)


def moe(engine: Engine, original: EngineLookup, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
    """`get_moe_configs(E, N, dtype, block_n, block_k, per_channel_quant, down_moe)`, from our rows first."""
    if torch.compiler.is_compiling():
        return original(*args, **kwargs)
    asked = {**dict(zip(ARGUMENTS[EXPERTS], args, strict=False)), **kwargs}
    blocks, dtype = (asked.get("block_n") or 0, asked.get("block_k") or 0), asked.get("dtype") or ""
    plain = not asked.get("per_channel_quant") and (_is_ours(engine, blocks) if dtype else blocks == (0, 0))
    ours = engine.find((asked["E"], asked["N"], 0, dtype, bool(asked.get("down_moe")))) if plain else None
    return ours or original(*args, **kwargs)


def is_batch_invariant(engine: str) -> bool:
    """True if the engine serves batch-invariantly, and where it cannot be told: then one order is the safe answer."""
    for module, path in SWITCHES[engine]:
        try:
            value: Any = import_module(module)
            for part in path.split("."):
                value = getattr(value, part.removesuffix("()"))
                value = value() if part.endswith("()") else value
        except (ImportError, AttributeError):
            continue
        return bool(value)
    _warn(
        f"{engine}'s switch of batch-invariant serving is not where it was: rows come from deterministic tables alone"
    )
    return True


def _is_ours(engine: Engine, blocks: tuple[int, int]) -> bool:
    """Log once that blocks of another shape are left to the engine."""
    if blocks != (BLOCK, BLOCK) and any(blocks):
        shape = "x".join(map(str, blocks))
        _warn(
            f"{engine.name} asks for blocks of {shape}: autotune has kernels for {BLOCK}x{BLOCK} alone, and leaves them"
        )
    return blocks == (BLOCK, BLOCK)


def _hooks(engine: str) -> Iterator[tuple[str, str, Around]]:
    """(module, function, hook); none where nobody asked, or this GPU has no record, or its tables are not whole."""
    if not os.environ.get("AUTOTUNE_TABLES"):
        return
    try:
        here = Engine(engine, devices.current())
        for one_order in (False, True):  # what is wrong with a table is said now, not in a launch
            rows(engine, here.device, one_order)
    except AutotuneError as error:
        _warn(f"autotune's tables are not used: {error}")
        return
    for name, around in ((DENSE, block_fp8), (EXPERTS, moe)):
        module = _home(engine, name)
        if module is not None:
            yield module, name, partial(around, here)


def _home(engine: str, name: str) -> str | None:
    """The module whose function `name` has the parameters that we know; None, and a warning, where there is none."""
    seen = []
    for module in HOMES[engine][name]:
        try:
            function = getattr(import_module(module), name)
            parameters = tuple(inspect.signature(inspect.unwrap(function)).parameters)
        except Exception as error:  # an engine's module may raise anything while it is imported
            seen.append(f"{module}: {type(error).__name__}: {error}")
            continue
        known = ARGUMENTS[name]
        if parameters == known[: len(parameters)] and len(parameters) >= len(ARGUMENTS[DENSE]):
            return module
        seen.append(f"{module}: {name}({', '.join(parameters)})")
    _warn(f"{engine}'s {name} is not as autotune knows it, and keeps the engine's own tables ({'; '.join(seen)})")
    return None


def _around(around: Around, original: EngineLookup) -> EngineLookup:
    """`original` with the hook around it, under its own name and with what its cache offers."""

    @wraps(original)
    def lookup(*args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        return around(original, *args, **kwargs)

    for name in ("cache_clear", "cache_info", "cache_parameters"):
        if hasattr(original, name):
            setattr(lookup, name, getattr(original, name))
    lookup.autotune = True  # type: ignore[attr-defined]
    return lookup


def _replace(module: str, name: str, lookup: EngineLookup) -> None:
    """Put `lookup` in place of the original, also where another module of the engine has imported it by name."""
    original = getattr(sys.modules[module], name)
    package = module.partition(".")[0]
    for other, loaded in list(sys.modules.items()):
        if other.partition(".")[0] == package and getattr(loaded, "__dict__", {}).get(name) is original:
            setattr(loaded, name, lookup)


@cache
def _warn(words: str) -> None:
    """Log a warning, the same one once."""
    logging.getLogger(__name__).warning("%s", words)
