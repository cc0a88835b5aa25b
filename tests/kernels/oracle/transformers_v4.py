"""transformers' own DeepSeek V4 decoder layers, given the weights of a case; every stage of their forward pass is kept.

`transformers` names its arguments and results by its own words; `Stages` gives them the names of our layer model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch
from layer.cases import Case
from layer.weights import Plan, Sizes, Weights, exact
from torch import Tensor
from transformers.cache_utils import DynamicCache
from transformers.masking_utils import create_sliding_window_causal_mask
from transformers.models.deepseek_v4.configuration_deepseek_v4 import DeepseekV4Config
from transformers.models.deepseek_v4.modeling_deepseek_v4 import DeepseekV4Model

ATTENTION = {0: "sliding_attention", 4: "compressed_sparse_attention", 128: "heavily_compressed_attention"}
YARN = {"type": "yarn", "factor": 16, "original_max_position_embeddings": 65536, "beta_fast": 32, "beta_slow": 1}

Stages = dict[str, list[Tensor]]
"""A stage's name, `<layer>.<stage>` -> its values, one for each forward pass of a request."""


def config(plans: Sequence[Plan], sizes: Sizes, window: int) -> DeepseekV4Config:
    """A configuration of layers like `plans`. Layer types and rotary parameters differ from transformers' defaults."""
    made = DeepseekV4Config(
        vocab_size=sizes.vocab,
        hidden_size=sizes.hidden,
        moe_intermediate_size=sizes.inner,
        num_hidden_layers=len(plans),
        num_attention_heads=sizes.heads,
        head_dim=512,
        q_lora_rank=sizes.q_lora,
        num_experts_per_tok=sizes.experts_per_token,
        n_routed_experts=sizes.experts,
        routed_scaling_factor=sizes.route_scale,
        o_groups=sizes.o_groups,
        o_lora_rank=sizes.o_lora,
        index_n_heads=sizes.index_heads,
        index_head_dim=128,
        index_topk=sizes.index_topk,
        sliding_window=window,
        layer_types=[ATTENTION[plan.ratio] for plan in plans],
        mlp_layer_types=["hash_moe" if plan.hashed else "moe" for plan in plans],
        rope_parameters={"rope_type": "yarn", **YARN},
        attn_implementation="eager",
        experts_implementation="eager",
    )
    made._attn_implementation = "eager"
    return made


def load(layer: Any, weights: Weights, plan: Plan, sizes: Sizes) -> None:
    """Copies the weights of one layer of ours into one of transformers'. AssertionError where any is left out."""
    w = {name: exact(value) for name, value in weights.items()}
    values = _attention_weights(layer.self_attn, w, plan, sizes) | _expert_weights(layer.mlp, w, plan, sizes)
    values |= {layer.input_layernorm.weight: w["attn_norm"], layer.post_attention_layernorm.weight: w["ffn_norm"]}
    for place, mixer in (("attn", layer.attn_hc), ("ffn", layer.ffn_hc)):
        parts = {mixer.fn: "fn", mixer.scale: "scale", mixer.base: "base"}
        values |= {parameter: w[f"{place}_mix.{part}"] for parameter, part in parts.items()}
    assert {id(parameter) for parameter in layer.parameters()} <= {id(parameter) for parameter in values}
    with torch.no_grad():
        for parameter, value in values.items():
            assert parameter.shape == value.shape
            parameter.copy_(value)


def _attention_weights(attention: Any, w: dict[str, Tensor], plan: Plan, sizes: Sizes) -> dict[Tensor, Tensor]:
    values = {
        attention.q_a_proj.weight: w["wqkv_a"][: sizes.q_lora],
        attention.kv_proj.weight: w["wqkv_a"][sizes.q_lora :],
        attention.q_a_norm.weight: w["q_norm"],
        attention.kv_norm.weight: w["kv_norm"],
        attention.q_b_proj.weight: w["wq_b"],
        attention.sinks: w["sink"],
        attention.o_a_proj.weight: w["wo_a"].flatten(0, 1),
        attention.o_b_proj.weight: w["wo_b"],
    }
    compressors = [("compress", attention.compressor)] if plan.ratio else []
    if plan.ratio == 4:
        indexer = attention.compressor.indexer
        compressors.append(("index", indexer))
        values[indexer.q_b_proj.weight] = w["index.wq_b"]
        values[indexer.scorer.weights_proj.weight] = w["index.weights"]
    for name, compressor in compressors:
        projections = w[f"{name}.w"].chunk(2)
        values[compressor.kv_proj.weight], values[compressor.gate_proj.weight] = projections
        values[compressor.position_bias] = w[f"{name}.ape"]
        values[compressor.kv_norm.weight] = w[f"{name}.norm"]
    return values


def _expert_weights(mlp: Any, w: dict[str, Tensor], plan: Plan, sizes: Sizes) -> dict[Tensor, Tensor]:
    shared_gate, shared_up = w["shared.w13"].split(sizes.inner)
    choice = {mlp.gate.tid2eid: w["hash"].long()} if plan.hashed else {mlp.gate.e_score_correction_bias: w["bias"]}
    return choice | {
        mlp.gate.weight: w["gate"],
        mlp.experts.gate_up_proj: w["w13"],
        mlp.experts.down_proj: w["w2"],
        mlp.shared_experts.gate_proj.weight: shared_gate,
        mlp.shared_experts.up_proj.weight: shared_up,
        mlp.shared_experts.down_proj.weight: w["shared.w2"],
    }


def record(layers: Sequence[Any], stages: Stages) -> None:
    """Hooks that append each stage's value to `stages` whenever a layer runs."""
    for number, layer in enumerate(layers):
        _record_layer(layer, _Recorder(f"{number}.", stages))


class _Recorder:
    def __init__(self, prefix: str, stages: Stages) -> None:
        self.prefix, self.stages = prefix, stages

    def __call__(self, module: Any, **values: Callable[[Any, Any], Tensor]) -> None:
        """`values`: stage, its dots written as two underscores -> its value from the module's inputs and results."""
        names = {name.replace("__", "."): value for name, value in values.items()}

        def hook(_: Any, inputs: Any, results: Any) -> None:
            for name, value in names.items():
                self.stages.setdefault(self.prefix + name, []).append(value(inputs, results).detach())

        module.register_forward_hook(hook)


def _record_layer(layer: Any, keep: _Recorder) -> None:
    attention, mlp = layer.self_attn, layer.mlp
    keep(
        layer.attn_hc,
        attn__post=lambda _, y: y[0][0],
        attn__comb=lambda _, y: y[1][0],
        attn__x=lambda _, y: y[2][0],
    )
    keep(layer.ffn_hc, ffn__post=lambda _, y: y[0][0], ffn__comb=lambda _, y: y[1][0], ffn__x=lambda _, y: y[2][0])
    keep(layer.input_layernorm, attn__h=lambda _, y: y[0])
    keep(layer.post_attention_layernorm, ffn__h=lambda _, y: y[0])
    keep(attention.q_a_norm, attn__latent=lambda _, y: y[0])
    keep(attention.kv_norm, attn__kv=lambda _, y: y[0])
    keep(
        attention.o_a_proj,
        attn__turned=lambda x, _: x[0][0].flatten(1),
        attn__low=lambda _, y: y[0].flatten(1),
    )
    keep(attention.o_b_proj, attn__out=lambda _, y: y[0])
    keep(mlp.gate, ffn__gate=lambda _, y: y[0], ffn__weights=lambda _, y: y[1], ffn__experts=lambda _, y: y[2])
    keep(mlp.shared_experts, shared__out=lambda _, y: y[0])
    keep(mlp, ffn__out=lambda _, y: y[0])
    keep(layer, ffn__streams=lambda _, y: _first(y)[0])
    if attention.compressor is not None:
        keep(attention.compressor, compress__entry=lambda _, y: y[0][0, 0], visible=_visible)
        if hasattr(attention.compressor, "indexer"):
            keep(attention.compressor.indexer.scorer, index__logits=lambda _, y: y[0])


def _first(result: Any) -> Tensor:
    return result if torch.is_tensor(result) else result[0]


def _visible(inputs: Any, results: Any) -> Tensor:
    """1 for each compressed entry that a token sees, [tokens, entries]: all of them where there is no mask."""
    entries, mask = results
    if mask is None:
        return torch.ones(inputs[0].shape[1], entries.shape[2])
    return (mask[0, 0] == 0).double()


def run(case: Case, window: int, cached: bool) -> list[Stages]:
    """The stages of each request: its sequence at once, or through transformers' cache in the scene's chunks."""
    made = config(case.plans, case.sizes, window)
    model = DeepseekV4Model(made).double().eval()
    for layer, weights, plan in zip(model.layers, case.weights, case.plans, strict=True):
        load(layer, weights, plan, case.sizes)
    stages: Stages = {}
    record(model.layers, stages)
    requests = []
    scene = case.scene
    for request, (offset, length) in enumerate(zip(scene.offsets, scene.lengths, strict=True)):
        rows = slice(offset, offset + length)
        chunks = [*scene.chunks[request], *[1] * scene.decoded] if cached else [length]
        _forward(model, case.streams[rows].double()[None], case.token_ids[rows][None], chunks, cached)
        requests.append(dict(stages))
        stages.clear()
    return requests


def _forward(model: Any, streams: Tensor, token_ids: Tensor, chunks: Sequence[int], cached: bool) -> None:
    cache, start = DynamicCache(config=model.config) if cached else None, 0
    for length in chunks:
        h, positions = streams[:, start : start + length], torch.arange(start, start + length)[None]
        mask = create_sliding_window_causal_mask(
            config=model.config, inputs_embeds=h[:, :, 0], attention_mask=None, cache=cache, position_ids=positions
        )
        angles = {kind: model.rotary_emb(h, position_ids=positions, layer_type=kind) for kind in ("main", "compress")}
        ids = token_ids[:, start : start + length]
        with torch.no_grad():
            for layer in model.layers:
                h = _first(
                    layer(
                        h,
                        position_embeddings=angles,
                        position_ids=positions,
                        attention_mask=mask,
                        input_ids=ids,
                        cache=cache,
                    )
                )
        start += length
