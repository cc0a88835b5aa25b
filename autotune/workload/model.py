"""A model's record: the numbers of its published configuration, and the kernel calls of its forward step."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from autotune.workload.rank import Call, Rank


@dataclass(frozen=True)
class Yarn:
    """RoPE scaling of the layers with compressed keys (V4), or of all layers (V3.2)."""

    factor: int
    original_max_position_embeddings: int
    beta_fast: int
    beta_slow: int
    mscale: float = 0.0
    """V3.2 multiplies the softmax scale by (0.1 mscale ln(factor) + 1) squared; V4 does not."""


@dataclass(frozen=True)
class Model:
    """Field names are those of config.json; None, 0 or False where a model has no such thing."""

    name: str
    source: str
    calls: Callable[[Rank], Iterator[Call]] = field(repr=False)
    """All kernel calls of one step on one rank."""
    hidden_size: int
    num_hidden_layers: int
    num_nextn_predict_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    """Width of one key row: 448 + 64 RoPE in V4, latent 512 + 64 RoPE in V3.2."""
    qk_rope_head_dim: int
    q_lora_rank: int
    o_lora_rank: int
    """V4's grouped output projection; 0 in V3.2."""
    o_groups: int
    n_routed_experts: int
    n_shared_experts: int
    num_experts_per_tok: int
    moe_intermediate_size: int
    routed_scaling_factor: float
    scoring_func: str
    num_hash_layers: int
    index_n_heads: int
    index_head_dim: int
    index_topk: int
    vocab_size: int
    rope_theta: int
    expert_dtype: str
    scale_fmt: str
    """`quantization_config.scale_fmt`: ue8m0 where scales of FP8 weights and activations are powers of two."""
    compress_ratios: tuple[int, ...] = ()
    """By layer, MTP layers last: 4 is CSA, 128 is HCA, 0 is the sliding window alone."""
    sliding_window: int = 0
    hc_mult: int = 1
    hc_sinkhorn_iters: int = 0
    hc_eps: float = 0.0
    swiglu_limit: float | None = None
    compress_rope_theta: int = 0
    yarn: Yarn | None = None
    max_position_embeddings: int = 163840
    n_group: int = 1
    topk_group: int = 1
    intermediate_size: int = 0
    """Width of the dense feed-forward layers, which only V3.2 has."""
    first_k_dense_replace: int = 0
    kv_lora_rank: int = 0
    routing_weight_in_activation: bool = False
    """The activation between the expert GEMMs is scaled by the routing weight; else the sum over experts is."""
    qk_nope_head_dim: int = 0
    v_head_dim: int = 0

    @property
    def layer_ratios(self) -> tuple[int, ...]:
        """`compress_ratios` without the MTP layers."""
        return self.compress_ratios[: self.num_hidden_layers]

    @property
    def csa_layers(self) -> int:
        return self.layer_ratios.count(4)

    @property
    def hca_layers(self) -> int:
        return self.layer_ratios.count(128)

    @property
    def window_layers(self) -> int:
        return self.layer_ratios.count(0)

    @property
    def moe_layers(self) -> int:
        return self.num_hidden_layers - self.first_k_dense_replace

    @property
    def has_hyperconnections(self) -> bool:
        """True where residual streams are mixed apart from the norms, which then add nothing."""
        return self.hc_mult > 1

    @property
    def router_rule(self) -> str:
        """`scoring` of `moe/router`, for layers that route by score."""
        return f"grouped_{self.scoring_func}" if self.n_group > 1 else self.scoring_func
