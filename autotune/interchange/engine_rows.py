"""Our rows as a running engine's lookups take them, in words of the engine: by shape, then by token count."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from autotune import registry, row_check, runtime, table
from autotune.config import Config, Key
from autotune.device import Device
from autotune.interchange import vllm_sglang, vllm_sglang_write
from autotune.interchange.vllm_sglang import BF16_EXPERTS, DENSE, FP8_EXPERTS, OURS
from autotune.table import Row, Table
from autotune.tuning.validation.reduction_order import order

Configs = dict[int, dict[str, Any]]

MOST_TOKENS = 65_536
"""Tokens of the largest step; vLLM's fused experts take more in chunks of 64k."""

REDUCTION = {
    DENSE: ("BLOCK_N", "BLOCK_K", "SPLIT_K", "NATIVE_SCALING", "matrix_instr_nonkdim"),
    FP8_EXPERTS: ("BLOCK_K", "NATIVE_SCALING", "matrix_instr_nonkdim"),
    BF16_EXPERTS: ("BLOCK_K", "matrix_instr_nonkdim"),
}
"""Parameters from which the order of an output's sums follows: `reduction` of the search spaces, which serving does
not read."""


@dataclass(frozen=True)
class Rows:
    """Entries by (E, N, K, dtype, down), and a hash of all of them."""

    entries: dict[tuple[Any, ...], Configs]
    content: str


@lru_cache
def rows(engine: str, device: Device, one_order: bool) -> Rows:
    """Return the entries that `autotune export` would write of the trusted rows. Raises TableError.

    `one_order`: those of deterministic tables alone, for shapes whose rows cover every size without a gap, and whose
    entries all add in one order.
    """
    tables = [_trusted(loaded, device) for loaded in _tables(device)]
    if one_order:
        tables = [replace(loaded, rows=_covering(loaded, engine)) for loaded in tables if loaded.deterministic]
    files, _ = vllm_sglang_write.write(tables, engine)
    entries: dict[tuple[Any, ...], Configs] = {}
    for name, file in sorted(files.items()):
        shape = vllm_sglang.identity(name.rpartition("/")[2])
        content = {int(m): config for m, config in json.loads(file.text).items() if m != "triton_version"}
        if not one_order or len({_order(shape, config, device) for config in content.values()}) == 1:
            entries[shape] = content
    told = json.dumps(sorted((repr(shape), content) for shape, content in entries.items()), allow_nan=False)
    return Rows(entries, hashlib.sha256(told.encode()).hexdigest()[:16])


def _tables(device: Device) -> Iterator[Table]:
    for name in REDUCTION:
        path = table.path_of(runtime.tables_root(), device.arch, device.name, name)
        if name in registry.names() and path.exists():
            yield table.load(path)


def _trusted(loaded: Table, device: Device) -> Table:
    sound, _ = row_check.whole(loaded.rows, registry.load(loaded.kernel), device)
    return replace(loaded, rows=tuple(row for row in sound if row.tier == "measured"))


def _covering(loaded: Table, engine: str) -> tuple[Row, ...]:
    """Rows of the families that serve every size up to MOST_TOKENS, all of which the engine's kernel can run."""
    size = registry.load(loaded.kernel).problem.VARYING[0]
    families: dict[Key, list[Row]] = {}
    for row in loaded.rows:
        families.setdefault(tuple(item for item in row.problem if item[0] != size), []).append(row)
    whole = (
        family
        for family in families.values()
        if _covers(family, size) and not any(vllm_sglang_write.unfit(loaded, row, engine) for row in family)
    )
    return tuple(row for family in whole for row in family)


def _covers(family: Iterable[Row], size: str) -> bool:
    spans: list[tuple[int, int]] = []
    for row in family:
        own = int(dict(row.problem)[size])
        spans += [(own, own), *((low, high) for name, low, high in row.serves if name == size)]
    reached = 0
    for low, high in sorted(spans):
        if low > reached + 1:
            return False
        reached = max(reached, high)
    return reached >= MOST_TOKENS


def _order(shape: tuple[Any, ...], config: dict[str, Any], device: Device) -> object:
    """The order in which an entry adds up; the names of OURS alone tell it."""
    experts, _, _, dtype, _ = shape
    kernel = DENSE if not experts else FP8_EXPERTS if dtype else BF16_EXPERTS
    names = {**OURS, "SPLIT_K": "SPLIT_K"}
    ours = {names[name]: value for name, value in config.items() if name in names}
    return order(Config({"num_warps": 4, **ours}), REDUCTION[kernel], device)
