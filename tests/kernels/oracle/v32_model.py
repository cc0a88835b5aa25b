"""transformers' own DeepSeek V3.2 with the weights of our layers' case: embedding, both layers, norm and logits."""

from __future__ import annotations

from typing import Any

import torch
from layer.v32.cases import Case
from layer.v32.weights import LATENT, PLAIN, ROPE
from layer.weights import KEY, Weights, exact
from torch import Tensor
from transformers.cache_utils import DynamicCache
from transformers.models.deepseek_v32.configuration_deepseek_v32 import DeepseekV32Config
from transformers.models.deepseek_v32.modeling_deepseek_v32 import DeepseekV32ForCausalLM

YARN = {"factor": 40.0, "original_max_position_embeddings": 4096, "beta_fast": 32, "beta_slow": 1}


def logits(case: Case, cached: bool) -> Tensor:
    """Logits [tokens, vocab] of all requests: each sequence at once, or through a cache in the scene's chunks."""
    model = _model(case)
    scene, parts = case.scene, []
    for request, (offset, length) in enumerate(zip(scene.offsets, scene.lengths, strict=True)):
        ids = case.token_ids[offset : offset + length][None]
        chunks = [*scene.chunks[request], *[1] * scene.decoded] if cached else [length]
        cache, start = DynamicCache(config=model.config) if cached else None, 0
        for count in chunks:
            with torch.no_grad():
                step = model(input_ids=ids[:, start : start + count], cache=cache, use_cache=cached)
            parts.append(step.logits[0])
            start += count
    return torch.cat(parts)


def _model(case: Case) -> Any:
    model = DeepseekV32ForCausalLM(_config(case)).double().eval()
    model.config._attn_implementation = model.model.config._attn_implementation = "eager"
    *layers, ends = case.weights
    values = {
        model.model.embed_tokens.weight: exact(ends["embedding"]),
        model.model.norm.weight: exact(ends["norm"]),
        model.lm_head.weight: exact(ends["lm_head"]),
    }
    for layer, weights in zip(model.model.layers, layers, strict=True):
        values |= _layer(layer, weights)
    assert {id(parameter) for parameter in model.parameters()} <= {id(parameter) for parameter in values}
    with torch.no_grad():
        for parameter, value in values.items():
            assert parameter.shape == value.shape
            parameter.copy_(value)
    return model


def _config(case: Case) -> DeepseekV32Config:
    sizes = case.sizes
    return DeepseekV32Config(
        vocab_size=sizes.vocab,
        hidden_size=sizes.hidden,
        intermediate_size=sizes.dense_inner,
        moe_intermediate_size=sizes.inner,
        num_hidden_layers=len(case.plans),
        num_attention_heads=sizes.heads,
        num_key_value_heads=sizes.heads,
        n_routed_experts=sizes.experts,
        num_experts_per_tok=sizes.experts_per_token,
        routed_scaling_factor=sizes.route_scale,
        n_group=8,
        topk_group=4,
        q_lora_rank=sizes.q_lora,
        kv_lora_rank=LATENT,
        qk_nope_head_dim=PLAIN,
        qk_rope_head_dim=ROPE,
        v_head_dim=PLAIN,
        index_n_heads=sizes.index_heads,
        index_head_dim=KEY,
        index_topk=sizes.index_topk,
        mlp_layer_types=["dense" if plan.dense else "sparse" for plan in case.plans],
        rope_parameters={"rope_type": "yarn", "rope_theta": 10000.0, "mscale": 1.0, "mscale_all_dim": 1.0, **YARN},
        attn_implementation="eager",
        experts_implementation="eager",
    )


def _layer(layer: Any, weights: Weights) -> dict[Tensor, Tensor]:
    w = {name: exact(value) for name, value in weights.items()}
    attention, indexer = layer.self_attn, layer.self_attn.indexer
    q_lora = attention.q_lora_rank
    by_head = torch.cat((w["w_key"].mT, w["w_value"]), 1)
    return {
        layer.input_layernorm.weight: w["attn_norm"],
        layer.post_attention_layernorm.weight: w["ffn_norm"],
        attention.q_a_proj.weight: w["wqkv_a"][:q_lora],
        attention.kv_a_proj_with_mqa.weight: w["wqkv_a"][q_lora:],
        attention.q_a_layernorm.weight: w["q_norm"],
        attention.kv_a_layernorm.weight: w["kv_norm"],
        attention.q_b_proj.weight: w["wq_b"],
        attention.kv_b_proj.weight: by_head.flatten(0, 1),
        attention.o_proj.weight: w["wo"],
        indexer.wq_b.weight: w["index.wq_b"],
        indexer.wk.weight: w["index.wk"],
        indexer.k_norm.weight: w["index.norm"],
        indexer.k_norm.bias: w["index.bias"],
        indexer.weights_proj.weight: w["index.weights"],
        **(_mlp(layer.mlp, w, "dense") if "dense.w13" in w else _experts(layer.mlp, w)),
    }


def _experts(mlp: Any, w: dict[str, Tensor]) -> dict[Tensor, Tensor]:
    return {
        mlp.gate.weight: w["gate"],
        mlp.gate.e_score_correction_bias: w["bias"],
        mlp.experts.gate_up_proj: w["w13"],
        mlp.experts.down_proj: w["w2"],
        **_mlp(mlp.shared_experts, w, "shared"),
    }


def _mlp(mlp: Any, w: dict[str, Tensor], name: str) -> dict[Tensor, Tensor]:
    gate, up = w[f"{name}.w13"].chunk(2)
    return {mlp.gate_proj.weight: gate, mlp.up_proj.weight: up, mlp.down_proj.weight: w[f"{name}.w2"]}
