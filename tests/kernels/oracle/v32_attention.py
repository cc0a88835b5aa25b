"""DeepSeek V3.2's attention, put together from the references of our kernels, beside transformers' own module."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from transformers.models.deepseek_v32.configuration_deepseek_v32 import DeepseekV32Config
from transformers.models.deepseek_v32.modeling_deepseek_v32 import DeepseekV32Model

from autotune.kernels._rope import reference_rope, reference_rotate, rope_table
from autotune.kernels.attention._problem import expect_attention
from autotune.kernels.attention.sparse_mla import SCALE
from autotune.kernels.indexer._logits import expect_logits

TOKENS, HIDDEN, HEADS, INDEX_HEADS, TOP_K = 60, 256, 4, 8, 9
LATENT, PLAIN, ROPE, INDEX_WIDTH = 512, 128, 64, 128
YARN_FACTOR = 40.0
EPS = 1e-6


@dataclass(frozen=True)
class Attention:
    """Chosen keys of each token, as sets of positions, and the output [tokens, hidden]."""

    chosen: list[set[int]]
    out: Tensor


def attention_module(seed: int) -> tuple[Any, Any]:
    """(model, its only layer's attention), weights drawn, in float64."""
    torch.manual_seed(seed)
    config = DeepseekV32Config(
        vocab_size=64,
        hidden_size=HIDDEN,
        intermediate_size=64,
        moe_intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=HEADS,
        num_key_value_heads=HEADS,
        n_routed_experts=8,
        n_group=8,
        topk_group=4,
        q_lora_rank=128,
        kv_lora_rank=LATENT,
        index_n_heads=INDEX_HEADS,
        index_topk=TOP_K,
        num_experts_per_tok=2,
        rope_parameters={
            "rope_type": "yarn",
            "rope_theta": 10000.0,
            "factor": YARN_FACTOR,
            "original_max_position_embeddings": 4096,
            "beta_fast": 32,
            "beta_slow": 1,
            "mscale": 1.0,
            "mscale_all_dim": 1.0,
        },
        attn_implementation="eager",
    )
    model = DeepseekV32Model(config).double().eval()
    attention = model.layers[0].self_attn
    for parameter in attention.parameters():
        drawn = torch.randn_like(parameter)
        parameter.data = drawn * parameter.shape[-1] ** -0.5 if parameter.ndim > 1 else 1.0 + 0.2 * drawn
    attention.indexer.k_norm.bias.data.normal_()
    return model, attention


def theirs(model: Any, attention: Any, x: Tensor) -> Attention:
    """Attention of transformers over x float64 [tokens, hidden]."""
    positions = torch.arange(TOKENS)
    angles = model.rotary_emb(x[None], positions[None])
    mask = torch.where(positions[None] <= positions[:, None], 0.0, float("-inf"))[None, None].double()
    chosen: list[Tensor] = []
    attention.indexer.register_forward_hook(lambda _, __, result: chosen.append(result))
    with torch.no_grad():
        out = attention(x[None], angles, mask)[0][0]
    return Attention([set(chosen[0][0, t].tolist()) & set(range(t + 1)) for t in range(TOKENS)], out)


def ours(attention: Any, x: Tensor, index_halves: bool = True) -> Attention:
    """The same from our references: mla_prep, query_prep, key_prep, ragged_logits, topk and sparse_mla.

    `index_halves`: the indexer's rotary pairs are halves, those of attention are neighbours.
    """
    table = rope_table(TOKENS, 10000.0, (int(YARN_FACTOR), 4096, 32, 1)).double()
    by_head = table[:, None]
    latent_q = _rms_norm(x @ attention.q_a_proj.weight.T, attention.q_a_layernorm.weight)
    q = (latent_q @ attention.q_b_proj.weight.T).unflatten(1, (HEADS, PLAIN + ROPE))
    latent, key_rope = (x @ attention.kv_a_proj_with_mqa.weight.T).split((LATENT, ROPE), 1)
    latent = _rms_norm(latent, attention.kv_a_layernorm.weight)
    w_key, w_value = attention.kv_b_proj.weight.unflatten(0, (HEADS, 2 * PLAIN)).chunk(2, 1)
    q_plain = torch.einsum("thd,hdc->thc", q[..., :PLAIN], w_key)
    q_rope = reference_rotate(q[..., PLAIN:], by_head.expand(-1, HEADS, -1))
    keys = torch.cat((latent, reference_rotate(key_rope, table)), 1)
    chosen = _chosen(attention.indexer, x, latent_q, table, index_halves)
    scale = SCALE * (0.1 * math.log(YARN_FACTOR) + 1) ** 2
    o = expect_attention(torch.cat((q_plain, q_rope), 2), keys[chosen.clamp_min(0)], chosen >= 0, scale, None)[0].value
    out = torch.einsum("thc,hdc->thd", o, w_value).flatten(1) @ attention.o_proj.weight.T
    return Attention([set(row[row >= 0].tolist()) for row in chosen], out)


def _chosen(indexer: Any, x: Tensor, latent_q: Tensor, table: Tensor, halves: bool) -> Tensor:
    """Positions of the keys that each token attends to, best first, -1 where it has fewer than TOP_K."""
    positions = torch.arange(TOKENS)
    q = (latent_q @ indexer.wq_b.weight.T).unflatten(1, (INDEX_HEADS, INDEX_WIDTH))
    q = reference_rope(q, table[:, None].expand(-1, INDEX_HEADS, -1), first=halves)
    norm = indexer.k_norm
    k = torch.nn.functional.layer_norm(x @ indexer.wk.weight.T, (INDEX_WIDTH,), norm.weight, norm.bias, EPS)
    k = reference_rope(k, table, first=halves)
    weights = (x @ indexer.weights_proj.weight.T) * INDEX_WIDTH**-0.5 * INDEX_HEADS**-0.5
    logits = expect_logits(q, None, weights, k, positions[None] <= positions[:, None]).value
    best = logits.sort(dim=1, descending=True, stable=True).indices[:, :TOP_K]
    return torch.where(torch.arange(TOP_K) <= positions[:, None], best, -1)


def _rms_norm(x: Tensor, weight: Tensor) -> Tensor:
    return x * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS) * weight
