"""Planned NPU IR (HIVM), read: on-chip bytes, double buffers, cube and vector parts, matrix operations and syncs.

HIVM is the last form that `bishengir-compile` writes before machine code: each buffer has its byte address, and flags
and barriers are placed. Names of values belong to one function, so each function is read alone.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import asdict, dataclass
from math import ceil, prod
from typing import Any

from autotune.errors import CompileFailed

MEMORIES = {"ub": "UB", "cbuf": "L1", "cc": "L0C"}
"""Address spaces of HIVM, and the names that Huawei's documents give to the memories."""

_BITS = {"bf16": 16, "f16": 16, "f8E4M3FN": 8, "f8E5M2": 8}
"""Widths of element types that their names do not end in, as i1 and f32 do."""
_FUNCTION = re.compile(r"^(?=\s*func\.func )", re.MULTILINE)
_HEAD = re.compile(r"\s*func\.func (?:private )?@(\w+)\(")
_CONSTANT = re.compile(r"(%[-\w]+) = (?:arith\.constant|llvm\.mlir\.constant\() ?(-?\d+) : i64")
_BUFFER = re.compile(r"pointer_cast\(([^)]*)\)[^:\n]* : memref<((?:\d+x)*)(\w+)[^\n]*?#hivm\.address_space<(\w+)>>")
_CAST = re.compile(r"hivm\.hir\.pointer_cast\(")
_CHOSEN = re.compile(r"arith\.select [^\n]* : memref<[^\n]*#hivm\.address_space<(\w+)>>")
_SYNC = re.compile(r"hivm\.hir\.(?:set_flag|wait_flag|pipe_barrier|sync_block_set|sync_block_wait)\[")
_MATRIX = re.compile(r"call @(mma_tile_\w+)\(")
_SCALAR = re.compile(r"memref\.(?:load|store) [^\n]*#hivm\.address_space<gm>")
_WORKSPACE = re.compile(r"@\w+_infer_workspace_shape_function\(\)[^\n]*\n\s*%\S+ = arith\.constant (\d+) : index")


@dataclass(frozen=True)
class Plan:
    """One launch as the compiler planned it for one core."""

    cores: str
    """vector, cube, or cube + vector."""
    ub_bytes: int
    l1_bytes: int
    l0c_bytes: int
    double_buffered: tuple[str, ...]
    """Memories in which loads go to two buffers in turn: UB, L1, L0C."""
    matrix_operations: tuple[tuple[str, int], ...]
    syncs: int
    """Flags set, flags awaited and barriers, of pipes and of cores."""
    scalar_accesses: int
    """Loads and stores of single elements of global memory, counted in the code, not in its loops."""
    workspace_bytes: int
    """Global memory by which a core's cube and vector parts exchange tiles."""
    code: str
    """Hash of the text: equal plans are equal code, as far as can be seen without machine code."""

    @property
    def on_chip_bytes(self) -> dict[str, int]:
        """By memory, those that are used."""
        sizes = {"UB": self.ub_bytes, "L1": self.l1_bytes, "L0C": self.l0c_bytes}
        return {memory: size for memory, size in sizes.items() if size}

    @property
    def amounts(self) -> dict[str, int]:
        """Every count of the plan, by its unit."""
        on_chip = {f"B {memory}": size for memory, size in self.on_chip_bytes.items()}
        return {**on_chip, "syncs": self.syncs, "B workspace": self.workspace_bytes}

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "matrix_operations": dict(self.matrix_operations)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Plan:
        operations = tuple(data["matrix_operations"].items())
        return cls(**{**data, "matrix_operations": operations, "double_buffered": tuple(data["double_buffered"])})


def read(text: str) -> Plan:
    """The plan of one launch. Raises CompileFailed where a buffer has no address or size that can be read."""
    used: Counter[str] = Counter()
    parts: set[str] = set()
    for function in _FUNCTION.split(text):
        head = _HEAD.match(function)
        parts |= {part for part in ("aic", "aiv") if head and head[1].endswith(f"_mix_{part}")}
        for memory, size in _memory(function).items():
            used[memory] = max(used[memory], size)
    workspace = _WORKSPACE.search(text)
    return Plan(
        cores=_cores(text, parts),
        ub_bytes=used["UB"],
        l1_bytes=used["L1"],
        l0c_bytes=used["L0C"],
        double_buffered=tuple(name for space, name in MEMORIES.items() if space in _CHOSEN.findall(text)),
        matrix_operations=tuple(sorted(Counter(_MATRIX.findall(text)).items())),
        syncs=len(_SYNC.findall(text)),
        scalar_accesses=len(_SCALAR.findall(text)),
        workspace_bytes=int(workspace[1]) if workspace else 0,
        code=hashlib.sha256(text.encode()).hexdigest()[:16],
    )


def _memory(function: str) -> dict[str, int]:
    """The first free byte of each memory behind the buffers of one function. Raises CompileFailed."""
    values = {name: int(value) for name, value in _CONSTANT.findall(function)}
    buffers = _BUFFER.findall(function)
    if len(buffers) != len(_CAST.findall(function)):
        raise CompileFailed("a buffer of the planned NPU IR has no size that can be read; report the kernel and config")
    ends: dict[str, int] = {}
    for addresses, shape, dtype, space in buffers:
        if space not in MEMORIES:
            continue
        size = ceil(prod(int(side) for side in shape.split("x") if side) * _bits(dtype) / 8)
        for address in addresses.split(","):
            if address.strip() not in values:
                raise CompileFailed(f"a buffer of the planned NPU IR lies at {address.strip()}, which is no constant")
            memory = MEMORIES[space]
            ends[memory] = max(ends.get(memory, 0), values[address.strip()] + size)
    return ends


def _bits(dtype: str) -> int:
    return _BITS.get(dtype) or int(dtype.lstrip("uif"))


def _cores(text: str, parts: set[str]) -> str:
    if parts == {"aic", "aiv"}:
        return "cube + vector"
    return "cube" if "aic" in parts or "module_core_type<AIC>" in text else "vector"
