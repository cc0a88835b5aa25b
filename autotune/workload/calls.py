"""The kernel calls of one forward step on one rank. Shapes: the inventory's sharding, as SGLang shards V4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autotune.config import Problem, Scalar, build
from autotune.device import Device
from autotune.kernel import Kernel
from autotune.workload.model import Model
from autotune.workload.scenario import Parallelism, Scenario, decode_tokens, prefill_tokens

GEMM = "gemm/fp8_block_scaled"
NORM = "norm/rms_norm_quant"
EXPERTS = "moe/mxfp4_grouped_gemm"


@dataclass(frozen=True)
class Call:
    """`per_step` launches of `kernel` in one forward step; `op` is the weight or place in the model."""

    kernel: str
    phase: str
    op: str
    problem: Mapping[str, Scalar]
    per_step: int


def calls(model: Model, scenario: Scenario, parallelism: Parallelism, device: Device) -> tuple[Call, ...]:
    """All calls of a decode step at each concurrency and of a prefill step at each length."""
    found: list[Call] = []
    for phase, tokens in (
        ("decode", decode_tokens(scenario, parallelism)),
        ("prefill", prefill_tokens(scenario)),
    ):
        for count in tokens:
            found += _gemms(model, parallelism, device, phase, count)
            found += _norms(model, device, phase, count)
            found += _experts(model, parallelism, device, phase, count)
    return tuple(found)


def problems(
    kernel: Kernel[Any], model: Model, scenario: Scenario, parallelism: Parallelism, device: Device
) -> dict[Problem, int]:
    """The distinct problems of `kernel`, with launches a step as weights."""
    weights: Counter[Problem] = Counter()
    for call in calls(model, scenario, parallelism, device):
        if call.kernel == kernel.name:
            weights[build(kernel.problem, call.problem, f"workload {model.name}")] += call.per_step
    return dict(weights)


def dense_shapes(model: Model, parallelism: Parallelism) -> dict[str, tuple[int, int, int]]:
    """FP8 dense GEMMs: op -> (n, k, launches a step), MTP's own layer left out."""
    hidden, layers = model.hidden_size, model.num_hidden_layers
    split, experts = parallelism.attention, parallelism.tensor if parallelism.expert == 1 else 1
    shared = model.moe_intermediate_size * model.n_shared_experts // experts
    rows = {
        "indexer.wq_b": (model.index_n_heads * model.index_head_dim, model.q_lora_rank, model.indexer_layers),
        "shared.w13": (2 * shared, hidden, model.moe_layers),
        "shared.w2": (hidden, shared, model.moe_layers),
    }
    if model.is_v4:
        rows |= {
            "wqkv_a": (model.q_lora_rank + model.head_dim, hidden, layers),
            "wq_b": (model.num_attention_heads * model.head_dim // split, model.q_lora_rank, layers),
            "wo_b": (hidden, model.o_groups * model.o_lora_rank // split, layers),
        }
        return rows
    heads = model.num_attention_heads // split
    dense = model.intermediate_size // parallelism.tensor
    query = model.qk_nope_head_dim + model.qk_rope_head_dim
    return rows | {
        "wqkv_a": (model.q_lora_rank + model.kv_lora_rank + model.qk_rope_head_dim, hidden, layers),
        "wq_b": (heads * query, model.q_lora_rank, layers),
        "wk": (model.index_head_dim, hidden, layers),
        "wo": (hidden, heads * model.v_head_dim, layers),
        "dense.w13": (2 * dense, hidden, model.first_k_dense_replace),
        "dense.w2": (hidden, dense, model.first_k_dense_replace),
    }


def _gemms(model: Model, parallelism: Parallelism, device: Device, phase: str, tokens: int) -> Iterator[Call]:
    shapes = dense_shapes(model, parallelism)
    if model.num_nextn_predict_layers:
        shapes["mtp.proj"] = (model.hidden_size, model.hidden_size, 2 * model.num_nextn_predict_layers)
    for op, (n, k, per_step) in shapes.items():
        if k % 128 == 0:  # a 1x128 scale group must be whole; others are padded by the engine
            yield Call(GEMM, phase, op, {"m": tokens, "n": n, "k": k, "dtype": device.fp8}, per_step)


def _norms(model: Model, device: Device, phase: str, tokens: int) -> Iterator[Call]:
    # AMD's dense kernels take fp32 scales; NVIDIA's block-scaled ones powers of two.
    shared: dict[str, Scalar] = {"rows": tokens, "ue8m0": not device.is_amd, "dtype": device.fp8}
    # V4 adds the residual in its hyper-connections, not in the norm.
    adds = not model.is_v4
    layers = model.num_hidden_layers
    yield Call(NORM, phase, "attn_norm", {"cols": model.hidden_size, "residual": adds, **shared}, layers)
    yield Call(NORM, phase, "ffn_norm", {"cols": model.hidden_size, "residual": adds, **shared}, layers)
    yield Call(NORM, phase, "q_norm", {"cols": model.q_lora_rank, "residual": False, **shared}, layers)


def _experts(model: Model, parallelism: Parallelism, device: Device, phase: str, tokens: int) -> Iterator[Call]:
    if model.expert_dtype != "fp4":
        return
    inner = model.moe_intermediate_size // (parallelism.tensor if parallelism.expert == 1 else 1)
    shared: dict[str, Scalar] = {
        "tokens": tokens,
        "topk": model.num_experts_per_tok,
        "experts": model.n_routed_experts // parallelism.expert,
        "dtype": device.fp8,
    }
    layers = model.moe_layers
    yield Call(EXPERTS, phase, "w13", {"n": 2 * inner, "k": model.hidden_size, "gathers": True, **shared}, layers)
    yield Call(EXPERTS, phase, "w2", {"n": model.hidden_size, "k": inner, "gathers": False, **shared}, layers)
