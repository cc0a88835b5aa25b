"""The hot paths of DeepSeek V4 and V3.2 by number, the kernels that serve them, and what is not served."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class HotPath:
    """`kernels` serve it; `missing` says what they do not, and why."""

    number: int
    title: str
    kernels: tuple[str, ...] = ()
    missing: str = ""

    @property
    def status(self) -> str:
        return "out" if not self.kernels else "partly" if self.missing else "kernel"


def _path(number: int, title: str, kernels: str = "", missing: str = "") -> HotPath:
    return HotPath(number, title, tuple(kernels.split()), missing)


HOT_PATHS = (
    _path(1, "mHC input mix", "hyperconnection/mhc_pre hyperconnection/mhc_post_pre"),
    _path(2, "mHC output mix", "hyperconnection/mhc_post hyperconnection/mhc_post_pre"),
    _path(3, "mHC head", "hyperconnection/mhc_head"),
    _path(4, "RMSNorm and its fusions", "norm/rms_norm norm/rms_norm_quant norm/qkv_rms_norm"),
    _path(5, "activation quantisation", "quant/fp8_group_quant quant/mx_quant"),
    _path(6, "FP8 block-scaled GEMM", "gemm/fp8_block_scaled"),
    _path(7, "skinny bf16 GEMMs", "gemm/bf16_linear"),
    _path(
        8,
        "compressor",
        "compressor/decode_pool compressor/prefill_pool compressor/state_write compressor/norm_rope_store "
        "compressor/index_key_store",
    ),
    _path(9, "query and key preparation", "rope/qk_prep rope/mla_prep norm/qkv_rms_norm"),
    _path(10, "indexer queries and keys", "indexer/query_prep indexer/key_prep norm/layer_norm"),
    _path(11, "indexer logits", "indexer/key_gather indexer/ragged_logits indexer/paged_logits"),
    _path(12, "top-k and index translation", "indexer/topk"),
    _path(13, "sparse attention, decode", "attention/sparse_decode attention/sparse_mla attention/dense_mqa"),
    _path(14, "sparse attention, prefill", "attention/sparse_prefill"),
    _path(15, "inverse RoPE", "rope/inverse_rope"),
    _path(16, "grouped output projection", "gemm/bf16_grouped gemm/fp8_grouped"),
    _path(17, "output projection", "gemm/fp8_block_scaled", "its all-reduce is a collective (K25)"),
    _path(18, "router", "moe/router"),
    _path(19, "alignment of slots to blocks", "moe/align"),
    _path(
        20,
        "routed experts",
        "moe/mxfp4_grouped_gemm moe/fp8_grouped_gemm moe/bf16_grouped_gemm moe/combine gemm/mxfp8_mxfp4",
    ),
    _path(21, "clamped SwiGLU", "moe/swiglu_quant"),
    _path(22, "shared expert", "gemm/fp8_block_scaled moe/swiglu_quant"),
    _path(
        23,
        "metadata and index builders",
        "metadata/window_indices metadata/chunk_indices metadata/compressed_indices metadata/compress_plan",
    ),
    _path(
        24,
        "language-model head and sampling",
        "gemm/bf16_linear sampling/greedy sampling/top_k_top_p",
        "the embedding is one torch gather of rows, with nothing to choose",
    ),
    _path(25, "collectives", "", "communication libraries own them; Triton cannot express them"),
)
