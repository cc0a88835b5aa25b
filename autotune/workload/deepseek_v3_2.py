"""The kernel calls of one forward step of DeepSeek V3.2: absorbed MLA over keys that the indexer chose."""

from __future__ import annotations

from collections.abc import Iterator

from autotune.workload.feed_forward import dense, head, mixture
from autotune.workload.model import Model, Yarn
from autotune.workload.rank import INDEX_PAGE, Call, Rank


def calls(rank: Rank) -> Iterator[Call]:
    """All calls of a step on one rank."""
    model = rank.model
    layers = model.num_hidden_layers
    if not _selects(rank):
        yield _all_keys(rank)
    yield from _projections(rank, layers)
    yield from _indexer(rank, layers)
    yield from _attention(rank, layers)
    yield from dense(rank, model.first_k_dense_replace)
    yield from mixture(rank, hashed=0, scored=model.moe_layers)
    yield from head(rank)


def _all_keys(rank: Rank) -> Call:
    return rank.all_entries("keys", 1, rank.step.context, INDEX_PAGE)


def _projections(rank: Rank, layers: int) -> Iterator[Call]:
    model, tokens = rank.model, rank.step.tokens
    latent, rope = model.q_lora_rank, model.qk_rope_head_dim
    # The indexer's weights read the norm in bf16, beside the FP8 that the projections read.
    yield rank.norm_quant("attn_norm", layers, normed=True)
    yield rank.gemm("wqkv_a", latent + model.kv_lora_rank + rope, model.hidden_size, layers)
    yield rank.call(
        4, "norm/qkv_rms_norm", "qkv_norm", layers,
        tokens=tokens, q_cols=latent, kv_cols=model.kv_lora_rank, rest_cols=rope, ue8m0=rank.ue8m0,
    )  # fmt: skip
    yield rank.gemm("wq_b", rank.heads * (model.qk_nope_head_dim + rope), latent, layers)
    yield rank.call(9, "rope/mla_prep", "qk_prep", layers, tokens=tokens, heads=rank.heads)


def _indexer(rank: Rank, layers: int) -> Iterator[Call]:
    model, tokens = rank.model, rank.step.tokens
    heads, width = model.index_n_heads, model.index_head_dim
    yield rank.gemm("indexer.wk", width, model.hidden_size, layers)
    yield rank.call(10, "indexer/key_prep", "indexer.key", layers, tokens=tokens, page_size=INDEX_PAGE)
    if _selects(rank):
        yield rank.gemm("indexer.wq_b", heads * width, model.q_lora_rank, layers)
        yield rank.linear("indexer.weights_proj", heads, layers)
        yield rank.call(10, "indexer/query_prep", "indexer.query", layers, tokens=tokens, heads=heads, rope_first=True)
        yield from rank.chosen_keys(rank.step.context, fp4=False, layers=layers)


def _attention(rank: Rank, layers: int) -> Iterator[Call]:
    model, tokens, heads = rank.model, rank.step.tokens, rank.heads
    latent, absorb = model.kv_lora_rank, "gemm/bf16_grouped"
    yield rank.call(16, absorb, "q_absorb", layers, m=tokens, groups=heads, n=latent, k=model.qk_nope_head_dim)
    keys = min(model.index_topk, rank.step.context)
    yield rank.call(13, "attention/sparse_mla", "attention", layers, tokens=tokens, heads=heads, keys=keys)
    yield rank.call(16, absorb, "o_absorb", layers, m=tokens, groups=heads, n=model.v_head_dim, k=latent)
    yield rank.quant("wo.quant", heads * model.v_head_dim, layers)
    yield rank.gemm("wo", model.hidden_size, heads * model.v_head_dim, layers, path=17)


def _selects(rank: Rank) -> bool:
    """Up to index_topk keys the choice is all of them, and logits are left out."""
    return rank.step.context > rank.model.index_topk


V3_2 = Model(
    name="deepseek-v3.2",
    calls=calls,
    source="DeepSeek-V3.2-Exp inference/config_671B_v3.2.json",
    hidden_size=7168,
    num_hidden_layers=61,
    num_nextn_predict_layers=0,
    num_attention_heads=128,
    num_key_value_heads=1,
    head_dim=576,
    qk_rope_head_dim=64,
    q_lora_rank=1536,
    o_lora_rank=0,
    o_groups=1,
    n_routed_experts=256,
    n_shared_experts=1,
    num_experts_per_tok=8,
    moe_intermediate_size=2048,
    routed_scaling_factor=2.5,
    scoring_func="sigmoid",
    num_hash_layers=0,
    index_n_heads=64,
    index_head_dim=128,
    index_topk=2048,
    vocab_size=129280,
    rope_theta=10000,
    expert_dtype="fp8",
    scale_fmt="ue8m0",
    yarn=Yarn(40, 4096, 32, 1, mscale=1.0),
    n_group=8,
    topk_group=4,
    intermediate_size=18432,
    first_k_dense_replace=3,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    v_head_dim=128,
)

MODELS = (V3_2,)
