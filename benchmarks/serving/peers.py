"""The engines' own lookup functions, taken as they are from an unpacked wheel or source archive.

A whole engine does not import without a GPU and its hundred packages; its lookup functions need only the standard
library, the name of the device and the switch of batch-invariant serving, which stand in here.
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

from autotune.interchange.plugins import DENSE, EXPERTS, HOMES

FUNCTIONS = {DENSE: (DENSE,), EXPERTS: ("get_config_file_name", EXPERTS)}

Configs = dict[int, dict[str, Any]] | None
Lookup = Callable[..., Configs]


@dataclass
class Switch:
    """The switch of batch-invariant serving, under every name that an engine's release gives it."""

    on: bool = False

    @property
    def VLLM_BATCH_INVARIANT(self) -> bool:
        return self.on

    @property
    def VLLM_TUNED_CONFIG_FOLDER(self) -> str | None:
        """Read from the environment at every use, as vLLM's `envs` does."""
        return os.environ.get("VLLM_TUNED_CONFIG_FOLDER")

    @property
    def enable_deterministic_inference(self) -> bool:
        return self.on

    @property
    def deterministic(self) -> Switch:
        return self


@dataclass(frozen=True)
class Peer:
    """`block_fp8(N, K, 128, 128)` and `moe(E, N, dtype, 128, 128)` of one engine, reading under `home`."""

    block_fp8: Lookup
    moe: Lookup
    modules: dict[str, dict[str, Any]]
    """Source path -> the namespace in which its functions live."""
    switch: Switch


def load(engine: str, folder: Path, home: Path, device_name: str) -> Peer:
    """The functions of `engine` under `folder`, as if its package lay in `home` on a GPU called `device_name`."""
    switch, modules, found = Switch(), {}, {}
    for lookup, names in FUNCTIONS.items():
        path = _path(engine, folder, lookup)
        modules[path] = _module((folder / path).read_text(), names, home / path, device_name, switch)
        found[lookup] = modules[path][lookup]
    return Peer(found[DENSE], found[EXPERTS], modules, switch)


def _path(engine: str, folder: Path, lookup: str) -> str:
    paths = [f"{module.replace('.', '/')}.py" for module in HOMES[engine][lookup]]
    path = next((path for path in paths if (folder / path).is_file()), None)
    assert path is not None, f"{folder}: this release of {engine} has {lookup} in none of {', '.join(paths)}"
    return path


def _module(source: str, names: tuple[str, ...], place: Path, device_name: str, switch: Switch) -> dict[str, Any]:
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
        "envs": switch,
        **dict.fromkeys(("get_exec", "get_server_args", "get_global_server_args"), lambda: switch),
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
