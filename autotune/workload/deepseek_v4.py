"""The kernel calls of one forward step of DeepSeek V4: layers in their order, MTP layers as ops `mtp.*`."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Iterator

from autotune.config import Scalar
from autotune.workload.feed_forward import head, mixture
from autotune.workload.model import Model, Yarn
from autotune.workload.rank import GEMM, INDEX_PAGE, NORM, Call, Rank

FUSED_TOKENS = 64
"""Up to here SGLang's MI355X path fuses the mix after one sublayer with that before the next."""
_ENTRIES = {4: 64, 128: 2}
"""Compressed entries in a page of 256 tokens, by ratio."""


def calls(rank: Rank) -> Iterator[Call]:
    """All calls of a step on one rank."""
    model = rank.model
    yield from _metadata(rank)
    yield from _layers(rank, model.layer_ratios, model.num_hash_layers)
    yield from head(rank)
    predicted = model.compress_ratios[model.num_hidden_layers :]
    if predicted:
        yield from _as_mtp(_predict(rank, len(predicted)))
        yield from _as_mtp(_layers(rank, predicted, 0))
        yield from _as_mtp(head(rank, len(predicted)))


def _metadata(rank: Rank) -> Iterator[Call]:
    """Key lists and plans: once a step, shared by its layers."""
    step, window = rank.step, rank.model.sliding_window
    if rank.is_decode:
        yield rank.call(23, "metadata/window_indices", "window", 1, tokens=step.tokens, window=window)
    else:
        requests = step.requests
        yield rank.call(23, "metadata/chunk_indices", "window", 1, tokens=step.tokens, requests=requests, window=window)
        for ratio in (4, 128):
            plan, room = "metadata/compress_plan", _closing(rank, ratio)
            yield rank.call(23, plan, f"plan{ratio}", 1, requests=requests, ratio=ratio, capacity=room)
    yield _all_entries(rank, 128)
    if not _selects(rank):
        yield _all_entries(rank, 4)


def _all_entries(rank: Rank, ratio: int) -> Call:
    width, page = _entries(rank, ratio), _ENTRIES[ratio]
    return rank.all_entries(f"entries{ratio}", ratio, width, page)


def _layers(rank: Rank, ratios: tuple[int, ...], hashed: int) -> Iterator[Call]:
    layers = len(ratios)
    yield from _streams(rank, 2 * layers)
    yield from _attention_norm(rank, ratios)
    yield from _projections(rank, layers)
    for ratio in sorted(set(ratios)):
        count = ratios.count(ratio)
        if ratio:
            yield from _compressor(rank, f"compressor{ratio}", ratio, rank.model.head_dim, count)
        if ratio == 4:
            yield from _indexer(rank, count)
        yield _attention(rank, ratio, count)
    yield from _output(rank, layers)
    yield from mixture(rank, hashed, layers - hashed)


def _streams(rank: Rank, sublayers: int) -> Iterator[Call]:
    tokens, dim = rank.step.tokens, rank.model.hidden_size
    fused = sublayers - 1 if tokens <= FUSED_TOKENS else 0
    yield rank.call(1, "hyperconnection/mhc_pre", "hc_pre", sublayers - fused, tokens=tokens, dim=dim)
    if fused:
        yield rank.call(2, "hyperconnection/mhc_post_pre", "hc_post_pre", fused, tokens=tokens, dim=dim)
    yield rank.call(2, "hyperconnection/mhc_post", "hc_post", sublayers - fused, tokens=tokens, dim=dim)


def _attention_norm(rank: Rank, ratios: tuple[int, ...]) -> Iterator[Call]:
    # Compressors read the norm in bf16, beside the FP8 that the projection reads.
    plain = ratios.count(0)
    for normed, count in ((False, plain), (True, len(ratios) - plain)):
        if count:
            yield rank.norm_quant("attn_norm", count, normed=normed)


def _projections(rank: Rank, layers: int) -> Iterator[Call]:
    model, tokens = rank.model, rank.step.tokens
    latent, width = model.q_lora_rank, model.head_dim
    yield rank.gemm("wqkv_a", latent + width, model.hidden_size, layers)
    yield rank.call(
        4, "norm/qkv_rms_norm", "qkv_norm", layers, tokens=tokens, q_cols=latent, kv_cols=width, ue8m0=rank.ue8m0
    )
    yield rank.gemm("wq_b", rank.heads * width, latent, layers)
    layout, page = _layout(rank), _page(rank, model.sliding_window)
    yield rank.call(
        9, "rope/qk_prep", "qk_prep", layers, tokens=tokens, heads=rank.heads, layout=layout, page_size=page
    )


def _compressor(rank: Rank, op: str, ratio: int, width: int, layers: int) -> Iterator[Call]:
    tokens, requests = rank.step.tokens, rank.step.requests
    overlap = 2 if ratio == 4 else 1
    yield rank.linear(f"{op}.wkv_gate", 2 * overlap * width, layers)
    pooled: dict[str, Scalar] = {"tokens": tokens, "ratio": ratio, "d": width}
    if rank.is_decode:
        windows = tokens
        yield rank.call(8, "compressor/decode_pool", f"{op}.pool", layers, **pooled)
    else:
        windows = _closing(rank, ratio)
        yield rank.call(8, "compressor/prefill_pool", f"{op}.pool", layers, windows=windows, **pooled)
        yield rank.call(8, "compressor/state_write", f"{op}.state", layers, requests=requests, **pooled)
    if width == rank.model.index_head_dim:
        store, fp4 = "compressor/index_key_store", _fp4_index(rank)
        yield rank.call(8, store, f"{op}.store", layers, windows=windows, fp4=fp4, page_size=INDEX_PAGE)
    else:
        store, layout, page = "compressor/norm_rope_store", _layout(rank), _page(rank, _ENTRIES[ratio])
        yield rank.call(8, store, f"{op}.store", layers, windows=windows, layout=layout, page_size=page)


def _indexer(rank: Rank, layers: int) -> Iterator[Call]:
    model, tokens, fp4 = rank.model, rank.step.tokens, _fp4_index(rank)
    heads, width = model.index_n_heads, model.index_head_dim
    yield from _compressor(rank, "indexer.compressor", 4, width, layers)
    if not _selects(rank):
        return  # every entry is chosen: only later, longer steps need this one's keys
    yield rank.gemm("indexer.wq_b", heads * width, model.q_lora_rank, layers)
    yield rank.linear("indexer.weights_proj", heads, layers)
    yield rank.call(10, "indexer/query_prep", "indexer.query", layers, tokens=tokens, heads=heads, fp4=fp4)
    yield from rank.chosen_keys(_entries(rank, 4), fp4, layers)


def _attention(rank: Rank, ratio: int, layers: int) -> Call:
    window = min(rank.model.sliding_window, rank.step.context)
    if ratio == 4:
        entries = min(_entries(rank, ratio), rank.model.index_topk)
    elif ratio:
        entries = _entries(rank, ratio)
    else:
        # A prefilled window reaches back into the ring, where nothing else is cached.
        entries = 0 if rank.is_decode else window
    page = _page(rank, _ENTRIES.get(ratio, window))
    size: dict[str, Scalar] = {"tokens": rank.step.tokens, "heads": rank.heads, "keys": window, "extra_keys": entries}
    op, size["layout"] = f"attention{ratio}", _layout(rank)
    if rank.is_decode:
        caches: dict[str, Scalar] = {"page_size": _page(rank, window), "extra_page_size": page}
        return rank.call(13, "attention/sparse_decode", op, layers, **size, **caches)
    return rank.call(14, "attention/sparse_prefill", op, layers, page_size=page, **size)


def _output(rank: Rank, layers: int) -> Iterator[Call]:
    model, tokens = rank.model, rank.step.tokens
    groups = model.o_groups // rank.parallelism.attention
    each = model.num_attention_heads * model.head_dim // model.o_groups
    yield rank.call(
        15, "rope/inverse_rope", "inverse_rope", layers,
        tokens=tokens, heads=rank.heads, quantised=True, ue8m0=rank.ue8m0,
    )  # fmt: skip
    yield rank.call(
        16, "gemm/fp8_grouped", "wo_a", layers,
        m=tokens, groups=groups, n=model.o_lora_rank, k=each, ue8m0=rank.ue8m0,
    )  # fmt: skip
    yield rank.quant("wo_b.quant", groups * model.o_lora_rank, layers)
    yield rank.gemm("wo_b", model.hidden_size, groups * model.o_lora_rank, layers, path=17)


def _predict(rank: Rank, layers: int) -> Iterator[Call]:
    """h_proj(hnorm(streams)) + e_proj(enorm(embedding)): four rows a token, and one."""
    model, tokens = rank.model, rank.step.tokens
    dim = model.hidden_size
    for op, rows in (("e", tokens), ("h", model.hc_mult * tokens)):
        yield rank.call(4, NORM, f"{op}norm", layers, rows=rows, cols=dim, ue8m0=rank.ue8m0)
        yield rank.call(6, GEMM, f"{op}_proj", layers, m=rows, n=dim, k=dim, ue8m0=rank.ue8m0)


def _as_mtp(found: Iterable[Call]) -> Iterator[Call]:
    return (dataclasses.replace(call, op=f"mtp.{call.op}") for call in found)


def _layout(rank: Rank) -> str:
    """FlashMLA's 584 B rows on NVIDIA; on AMD rows and scales apart, the pool of SGLang's `unified_kv_triton`."""
    return "fp8" if rank.device.is_amd else "fp8_584"


def _page(rank: Rank, entries: int) -> int:
    return 1 if rank.device.is_amd else entries


def _fp4_index(rank: Rank) -> bool:
    return rank.device.has_native_fp4


def _entries(rank: Rank, ratio: int) -> int:
    """Compressed entries that the step's last token can see."""
    return max(1, rank.step.context // ratio)


def _selects(rank: Rank) -> bool:
    """Up to index_topk entries the choice is all of them, and logits are left out."""
    return _entries(rank, 4) > rank.model.index_topk


def _closing(rank: Rank, ratio: int) -> int:
    """Windows that close in a prefill step."""
    return max(1, rank.step.tokens // ratio)


_V4 = {
    "calls": calls,
    "routing_weight_in_activation": True,
    "num_nextn_predict_layers": 1,
    "num_key_value_heads": 1,
    "head_dim": 512,
    "qk_rope_head_dim": 64,
    "o_lora_rank": 1024,
    "n_shared_experts": 1,
    "num_experts_per_tok": 6,
    "scoring_func": "sqrtsoftplus",
    "num_hash_layers": 3,
    "index_n_heads": 64,
    "index_head_dim": 128,
    "vocab_size": 129280,
    "rope_theta": 10000,
    "expert_dtype": "fp4",
    "scale_fmt": "ue8m0",
    "sliding_window": 128,
    "hc_mult": 4,
    "hc_sinkhorn_iters": 20,
    "hc_eps": 1e-6,
    "swiglu_limit": 10.0,
    "compress_rope_theta": 160000,
    "yarn": Yarn(16, 65536, 32, 1),
    "max_position_embeddings": 1048576,
}

V4_PRO = Model(
    name="deepseek-v4-pro",
    source="DeepSeek-V4-Pro config.json",
    hidden_size=7168,
    num_hidden_layers=61,
    num_attention_heads=128,
    q_lora_rank=1536,
    o_groups=16,
    n_routed_experts=384,
    moe_intermediate_size=3072,
    routed_scaling_factor=2.5,
    index_topk=1024,
    compress_ratios=(128, 128, *(4, 128) * 29, 4, 0),
    **_V4,  # type: ignore[arg-type]
)

V4_FLASH = Model(
    name="deepseek-v4-flash",
    source="transformers configuration_deepseek_v4.py defaults; layer ratios as Megatron's public recipe for V4-Flash,"
    " whose order is not that of transformers' default layer types",
    hidden_size=4096,
    num_hidden_layers=43,
    num_attention_heads=64,
    q_lora_rank=1024,
    o_groups=8,
    n_routed_experts=256,
    moe_intermediate_size=2048,
    routed_scaling_factor=1.5,
    index_topk=512,
    compress_ratios=(0, 0, *(4, 128) * 20, 4, 0),
    **_V4,  # type: ignore[arg-type]
)

MODELS = (V4_PRO, V4_FLASH)
