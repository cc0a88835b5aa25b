"""Model records: the numbers of DeepSeek's published configurations."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.errors import UsageError, did_you_mean


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
    """Field names are those of config.json; None or 0 where a model has no such thing."""

    name: str
    source: str
    hidden_size: int
    num_hidden_layers: int
    num_nextn_predict_layers: int
    num_attention_heads: int
    num_key_value_heads: int
    head_dim: int
    """Of one key row: 448 + 64 RoPE in V4, latent 512 + 64 RoPE in V3.2."""
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
    rms_norm_eps: float = 1e-6
    topk_method: str = "noaux_tc"
    norm_topk_prob: bool = True
    n_group: int = 1
    topk_group: int = 1
    intermediate_size: int = 0
    """Of the dense feed-forward layers, which only V3.2 has."""
    first_k_dense_replace: int = 0
    kv_lora_rank: int = 0
    qk_nope_head_dim: int = 0
    v_head_dim: int = 0
    weight_block_size: tuple[int, int] = (128, 128)
    scale_fmt: str = "ue8m0"

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
    def indexer_layers(self) -> int:
        """Layers that select keys by the lightning indexer: CSA in V4, all in V3.2."""
        return self.csa_layers if self.compress_ratios else self.num_hidden_layers

    @property
    def moe_layers(self) -> int:
        return self.num_hidden_layers - self.first_k_dense_replace

    @property
    def is_v4(self) -> bool:
        return bool(self.compress_ratios)


_V4 = {
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
    source="transformers configuration_deepseek_v4.py defaults",
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

V3_2 = Model(
    name="deepseek-v3.2",
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
    yarn=Yarn(40, 4096, 32, 1, mscale=1.0),
    n_group=8,
    topk_group=4,
    intermediate_size=18432,
    first_k_dense_replace=3,
    kv_lora_rank=512,
    qk_nope_head_dim=128,
    v_head_dim=128,
)

MODELS = {model.name: model for model in (V4_PRO, V4_FLASH, V3_2)}


def named(name: str) -> Model:
    """Raises UsageError."""
    if name not in MODELS:
        raise UsageError(f"unknown model {name!r}{did_you_mean(name, MODELS)}")
    return MODELS[name]
