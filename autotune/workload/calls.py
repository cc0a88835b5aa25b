"""The kernel calls of one forward step on one rank. Shapes: the inventory's sharding, as SGLang shards V4."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from autotune.config import Problem, Scalar, build
from autotune.device import Device
from autotune.errors import UsageError
from autotune.kernel import Kernel
from autotune.workload.model import Model
from autotune.workload.scenario import Parallelism, Scenario, Step, steps

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
    """All calls of every step of `scenario`. Raises UsageError where the model cannot be split so."""
    check(model, parallelism)
    found: list[Call] = []
    for step in steps(scenario, parallelism):
        found += _gemms(model, parallelism, device, step)
        found += _norms(model, device, step)
        found += _experts(model, parallelism, device, step)
    return tuple(found)


def check(model: Model, parallelism: Parallelism) -> None:
    """Raises UsageError unless every split is whole, and whole in scale blocks where it divides K."""
    width = model.moe_intermediate_size
    rules = [
        ("attention heads", model.num_attention_heads, parallelism.attention, 1),
        ("routed experts", model.n_routed_experts, parallelism.expert, 1),
        ("shared expert columns", width * model.n_shared_experts, parallelism.shared, 128),
        ("routed expert columns", width, parallelism.expert_width, 32 if model.expert_dtype == "fp4" else 128),
    ]
    if model.is_v4:
        rules.append(("output groups", model.o_groups, parallelism.attention, 1))
    else:
        rules.append(("dense feed-forward columns", model.intermediate_size, parallelism.tensor, 128))
    for what, size, ways, block in rules:
        if ways < 1 or size % (ways * block):
            raise UsageError(
                f"{model.name}: {size} {what} cannot be split {ways} ways"
                + (f" in blocks of {block}" if block > 1 else "")
                + "; choose another --tp or --ep"
            )


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
    split = parallelism.attention
    shared = model.moe_intermediate_size * model.n_shared_experts // parallelism.shared
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


def _gemms(model: Model, parallelism: Parallelism, device: Device, step: Step) -> Iterator[Call]:
    shapes = dense_shapes(model, parallelism)
    if model.num_nextn_predict_layers:
        shapes["mtp.proj"] = (model.hidden_size, model.hidden_size, 2 * model.num_nextn_predict_layers)
    for op, (n, k, per_step) in shapes.items():
        yield Call(GEMM, step.phase, op, {"m": step.tokens, "n": n, "k": k, "dtype": device.fp8}, per_step)


def _norms(model: Model, device: Device, step: Step) -> Iterator[Call]:
    # AMD's dense kernels take fp32 scales; NVIDIA's block-scaled ones powers of two.
    same: dict[str, Scalar] = {"rows": step.tokens, "ue8m0": not device.is_amd, "dtype": device.fp8}
    # V4 adds the residual in its hyper-connections, not in the norm.
    adds = not model.is_v4
    layers = model.num_hidden_layers
    yield Call(NORM, step.phase, "attn_norm", {"cols": model.hidden_size, "residual": adds, **same}, layers)
    yield Call(NORM, step.phase, "ffn_norm", {"cols": model.hidden_size, "residual": adds, **same}, layers)
    yield Call(NORM, step.phase, "q_norm", {"cols": model.q_lora_rank, "residual": False, **same}, layers)


def _experts(model: Model, parallelism: Parallelism, device: Device, step: Step) -> Iterator[Call]:
    if model.expert_dtype != "fp4":
        return
    inner = model.moe_intermediate_size // parallelism.expert_width
    same: dict[str, Scalar] = {
        "tokens": step.expert_tokens,
        "topk": model.num_experts_per_tok,
        "experts": model.n_routed_experts // parallelism.expert,
        "dtype": device.fp8,
    }
    layers = model.moe_layers
    w13: dict[str, Scalar] = {"n": 2 * inner, "k": model.hidden_size, "gathers": True}
    w2: dict[str, Scalar] = {"n": model.hidden_size, "k": inner, "gathers": False}
    yield Call(EXPERTS, step.phase, "w13", w13 | same, layers)
    yield Call(EXPERTS, step.phase, "w2", w2 | same, layers)
