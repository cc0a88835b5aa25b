"""Facts of a hot loop that say how near it is to the hardware: what instructions are spent on, how wide they load."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass

from autotune.tuning.compilation.instructions import mix

_LOADS = {
    "nvidia": re.compile(r"LDG|LD\.E|UTMALDG|UBLKCP"),
    "amd": re.compile(r"(buffer|global|flat)_load|tensor_load"),
}
_BULK = re.compile(r"UTMALDG|UBLKCP|tensor_load")
_ASYNCHRONOUS = re.compile(r"LDGSTS|.*(\.lds$|_load_lds|_load_async)")
_WIDTHS = (
    (16, r"\.128|dwordx4|b128"),
    (12, r"dwordx3|b96"),
    (8, r"\.64|dwordx2|b64"),
    (1, r"\.[US]8|[us]byte|_[iu]8"),
    (2, r"\.[US]16|short|_[iu]16|b16"),
)
"""(bytes a lane, in names of loads), the first that fits; others load 4."""
_TENSOR_MEMORY = re.compile(r"LDTM|STTM|UTCCP")
_SHARED = re.compile(r"LDS|STS|LDSM|STSM|ds_")
_BARRIER = re.compile(r"BAR\b|s_barrier|SYNCS")


@dataclass(frozen=True)
class LoopFacts:
    """Counts of instructions in one turn of the hot loop of one warp or wave."""

    instructions: int
    matrix: int
    lanes: int
    """Arithmetic and moves of lanes."""
    loads: int
    """Loads of global memory."""
    load_bytes: float | None
    """Bytes of a lane's load in the mean; None without loads, or where they are bulk copies."""
    load_kind: str
    """bulk, asynchronous (into shared memory past the registers), registers, or none; the best of the loop."""
    shared: int
    tensor_memory: int
    barriers: int

    @property
    def matrix_share(self) -> float:
        """Share of matrix instructions."""
        return self.matrix / self.instructions if self.instructions else 0.0

    @property
    def others_a_load(self) -> float | None:
        """Instructions outside the matrix units for each 16 bytes that a lane loads."""
        if not self.load_bytes:
            return None
        return 16 * (self.instructions - self.matrix) / (self.loads * self.load_bytes)


def facts_of(loop: Iterable[str], vendor: str) -> LoopFacts:
    """Facts of the opcodes of a loop, as `instructions.hot_loop` returns them."""
    opcodes = tuple(loop)
    kinds = mix(opcodes, vendor)
    loads = [opcode for opcode in opcodes if _LOADS[vendor].match(opcode)]
    bulk = [opcode for opcode in loads if _BULK.match(opcode)]
    asynchronous = any(_ASYNCHRONOUS.match(opcode) for opcode in loads)
    kind = "bulk" if bulk else "asynchronous" if asynchronous else "registers" if loads else "none"
    return LoopFacts(
        instructions=len(opcodes),
        matrix=kinds.get("matrix", 0),
        lanes=kinds.get("vector", 0),
        loads=len(loads),
        load_bytes=sum(map(_width, loads)) / len(loads) if loads and not bulk else None,
        load_kind=kind,
        shared=_count(opcodes, _SHARED),
        tensor_memory=_count(opcodes, _TENSOR_MEMORY),
        barriers=_count(opcodes, _BARRIER),
    )


def _width(opcode: str) -> int:
    return next((width for width, names in _WIDTHS if re.search(names, opcode)), 4)


def _count(opcodes: tuple[str, ...], wanted: re.Pattern[str]) -> int:
    return sum(1 for opcode in opcodes if wanted.match(opcode))
