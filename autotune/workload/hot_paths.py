"""The hot paths of DeepSeek V4 and V3.2 by number, and what no kernel does of them.

Which kernels serve a path stands in their search spaces: see `autotune.tuning.kernel_facts`.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HotPath:
    """One path of a forward step; `missing` says what kernels leave to others, and why."""

    number: int
    title: str
    missing: str = ""


HOT_PATHS = (
    HotPath(1, "mHC input mix"),
    HotPath(2, "mHC output mix"),
    HotPath(3, "mHC head"),
    HotPath(4, "RMSNorm and its fusions"),
    HotPath(5, "activation quantisation"),
    HotPath(6, "FP8 block-scaled GEMM"),
    HotPath(7, "skinny bf16 GEMMs"),
    HotPath(8, "compressor"),
    HotPath(9, "query and key preparation"),
    HotPath(10, "indexer queries and keys"),
    HotPath(11, "indexer logits"),
    HotPath(12, "top-k and index translation"),
    HotPath(13, "sparse attention, decode"),
    HotPath(14, "sparse attention, prefill"),
    HotPath(15, "inverse RoPE"),
    HotPath(16, "grouped output projection"),
    HotPath(17, "output projection", "its all-reduce is a collective (K25)"),
    HotPath(18, "router"),
    HotPath(19, "alignment of slots to blocks"),
    HotPath(20, "routed experts"),
    HotPath(21, "clamped SwiGLU"),
    HotPath(22, "shared expert"),
    HotPath(23, "metadata and index builders"),
    HotPath(
        24, "language-model head and sampling", "the embedding is one torch gather of rows, with nothing to choose"
    ),
    HotPath(25, "collectives", "communication libraries own them; Triton cannot express them"),
)
