"""Machine instructions of a binary's hot loop, read from its listing without a GPU."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import networkx
import triton

_NVDISASM = Path(triton.__file__).parent / "backends/nvidia/bin/nvdisasm"

_KINDS = {
    "amd": (
        ("matrix", r"v_s?mfma|v_s?wmma"),
        ("spill", r"scratch_"),
        ("shared", r"ds_"),
        ("global", r"buffer_|global_|flat_|tensor_"),
        ("sync", r"s_wait|s_barrier|s_nop|s_delay"),
        ("vector", r"v_"),
        ("scalar", r"s_"),
    ),
    "nvidia": (
        ("matrix", r"[A-Z]*MMA\b"),
        ("spill", r"LDL|STL"),
        ("shared", r"LDS|STS|ATOMS|LDTM|STTM"),
        ("global", r"LDG|STG|LD\b|ST\b|UTMA|UBLK|ATOMG|RED|ATOM\b"),
        ("sync", r"BAR|SYNCS|DEPBAR|UTCBAR|WARP|MEMBAR|ERRBAR|NANOSLEEP|FENCE|WARPGROUP|B[A-Z]*SYNC|BSSY|BREAK"),
        ("scalar", r"U[A-Z]|R2UR|S2UR|BRA|EXIT|CALL|RET"),
        ("vector", r"[A-Z]"),
    ),
}
"""(kind, opcodes that begin so), the first that fits; LDGSTS copies global to shared and counts as global."""

Loop = tuple[str, ...]


def nvidia_listing(cubin: bytes) -> str:
    """SASS of a cubin, with labels; without the dataflow analysis, which took a third of 0.5 s and changed nothing."""
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(_NVDISASM), "-c", "--no-dataflow", file.name]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def hot_loop(listing: str, vendor: str) -> Loop:
    """Opcodes of the innermost loop with most matrix instructions, else most memory accesses; of all code if none."""
    blocks = _blocks(listing)
    loops = [loop for loop in _loops(blocks) if _weight(_opcodes(blocks, loop), vendor) > (0, 0)]  # others only spin
    inner = [loop for loop in loops if not any(other < loop for other in loops)]
    hottest = max(inner, key=lambda loop: _weight(_opcodes(blocks, loop), vendor), default=frozenset(blocks))
    return tuple(_opcodes(blocks, hottest))


def mix(opcodes: Iterable[str], vendor: str) -> dict[str, int]:
    """Instructions by kind: matrix, spill, shared, global, sync, vector, scalar."""
    return dict(Counter(_kind(opcode, vendor) for opcode in opcodes))


def _kind(opcode: str, vendor: str) -> str:
    return next((kind for kind, pattern in _KINDS[vendor] if re.match(pattern, opcode)), "other")


def _weight(opcodes: list[str], vendor: str) -> tuple[int, int]:
    found = mix(opcodes, vendor)
    return found.get("matrix", 0), found.get("global", 0) + found.get("shared", 0)


@dataclass
class _Block:
    opcodes: list[str] = field(default_factory=list)
    targets: list[int | str] = field(default_factory=list)


_LABEL = re.compile(r"^(\.L[\w$]+):")
_TARGET = re.compile(r"(\.L[\w$]+)")
_SASS = re.compile(r"^\s*/\*[0-9a-f]+\*/\s+(@\S+\s+)?([A-Z][\w.]*)(.*)")
_GCN = re.compile(r"^\s+()([vs]_\w+|ds_\w+|(?:buffer|global|flat|scratch|tensor)_\w+)\b(.*)")


def _blocks(listing: str) -> dict[int, _Block]:
    """Basic blocks in the listing's order; targets are block numbers."""
    blocks, labels = [_Block()], dict[str, int]()
    for line in listing.splitlines():
        if label := _LABEL.match(line):
            blocks[-1].targets.append(len(blocks))
            labels[label[1]] = len(blocks)
            blocks.append(_Block())
        elif found := _SASS.match(line) or _GCN.match(line):
            predicate, opcode, rest = found.groups()
            # AMD's loads into shared memory differ from others by their last operand alone.
            blocks[-1].opcodes.append(f"{opcode}.lds" if rest.rstrip().endswith(" lds") else opcode)
            if opcode.startswith(("BRA", "s_branch", "s_cbranch", "EXIT", "RET", "s_endpgm")):
                blocks[-1].targets += _TARGET.findall(rest)[:1]
                conditional = predicate or "cbranch" in opcode or re.match(r"\s*!?UP\d", rest)
                blocks.append(_Block())
                if conditional:
                    blocks[-2].targets.append(len(blocks) - 1)
    for block in blocks:
        block.targets = [there for t in block.targets if (there := labels.get(t) if isinstance(t, str) else t)]
    return dict(enumerate(blocks))


def _loops(blocks: dict[int, _Block]) -> list[frozenset[int]]:
    """Natural loops: where a block jumps to one that dominates it."""
    graph = networkx.DiGraph([(number, there) for number, block in blocks.items() for there in block.targets])
    graph.add_node(0)
    above = networkx.immediate_dominators(graph, 0)
    loops = []
    for tail, head in graph.edges:
        if tail in above and _dominates(above, head, tail):
            before = networkx.ancestors(graph.subgraph(graph.nodes - {head}), tail) if tail != head else set()
            loops.append(frozenset({head, tail} | before) & above.keys())
    return loops


def _dominates(above: dict[int, int], head: int, node: int) -> bool:
    while node != head and above.get(node, node) != node:
        node = above[node]
    return node == head


def _opcodes(blocks: dict[int, _Block], chosen: Iterable[int]) -> list[str]:
    return [opcode for number in sorted(chosen) for opcode in blocks[number].opcodes]
