"""The engines' own lookup functions, taken as they are from an unpacked wheel or source archive.

A whole engine does not import without a GPU and its hundred packages; its lookup functions need only the standard
library, the name of the device and two switches, which stand in here.
"""

from __future__ import annotations

import ast
import functools
import json
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
import triton

_FUNCTIONS = {
    "vllm": {
        "vllm/model_executor/layers/quantization/utils/fp8_utils.py": ("get_w8a8_block_fp8_configs",),
        "vllm/model_executor/layers/fused_moe/fused_moe.py": ("get_config_file_name", "get_moe_configs"),
    },
    "sglang": {
        "sglang/kernels/ops/gemm/fp8_kernel.py": ("get_w8a8_block_fp8_configs",),
        "sglang/srt/layers/moe/moe_runner/triton_utils/fused_moe_triton_config.py": (
            "get_config_file_name",
            "get_moe_configs",
        ),
    },
}

Configs = dict[int, dict[str, Any]] | None


@dataclass(frozen=True)
class Peer:
    """`block_fp8(N, K, 128, 128)` and `moe(E, N, dtype, 128, 128)` of one engine, reading under `home`."""

    block_fp8: Callable[..., Configs]
    moe: Callable[..., Configs]
    modules: dict[str, dict[str, Any]]
    """Source path -> the namespace in which its functions live."""


def load(engine: str, folder: Path, home: Path, device_name: str) -> Peer:
    """The functions of `engine` under `folder`, as if its package lay in `home` on a GPU called `device_name`."""
    modules = {
        path: _module((folder / path).read_text(), names, home / path, device_name)
        for path, names in _FUNCTIONS[engine].items()
    }
    block, moe = modules.values()
    return Peer(block["get_w8a8_block_fp8_configs"], moe["get_moe_configs"], modules)


def _module(source: str, names: tuple[str, ...], place: Path, device_name: str) -> dict[str, Any]:
    wanted = [node for node in ast.parse(source).body if isinstance(node, ast.FunctionDef) and node.name in names]
    assert len(wanted) == len(names), f"{place}: this release of the engine has other lookup functions"
    logger = logging.getLogger("engine")
    logger.setLevel(logging.CRITICAL)
    once = SimpleNamespace(info=logger.info, warning=logger.warning, info_once=_quiet, warning_once=_quiet)
    space: dict[str, Any] = {
        "functools": functools,
        "json": json,
        "os": os,
        "torch": torch,
        "triton": triton,
        "logger": once,
        "Any": Any,
        "Dict": dict,
        "Optional": None,
        "__file__": str(place),
        "log_info_on_rank0": _quiet,
        "_is_cuda": not device_name.startswith("AMD"),
        "get_device_name": lambda: device_name,
        "get_device_name_as_file_name": lambda: device_name.replace(" ", "_"),
        "envs": _Environment(),
        "get_exec": lambda: SimpleNamespace(deterministic=SimpleNamespace(enable_deterministic_inference=False)),
    }
    for node in wanted:
        _without_annotations(node)
    exec(compile(ast.Module([*wanted], []), str(place), "exec"), space)
    return space


def _without_annotations(node: ast.FunctionDef) -> None:
    node.returns = None
    for argument in (*node.args.args, *node.args.kwonlyargs):
        argument.annotation = None


def _quiet(*args: object, **kwargs: object) -> None:
    pass


class _Environment:
    """vLLM's `envs`: read from the environment at every use."""

    VLLM_BATCH_INVARIANT = False

    @property
    def VLLM_TUNED_CONFIG_FOLDER(self) -> str | None:
        return os.environ.get("VLLM_TUNED_CONFIG_FOLDER")
