"""Hidden size and top-k of the fused MoE layers that engines ship configs for: their file names record neither.

A name has the experts (all, one device's share, or all and a fused shared one), one device's share of the intermediate
size, and the dtype. Mostly one public model that the engines serve has these; its `config.json` on Hugging Face says
the rest. A layer of no known model gets what most models have. So does E=128,N=512 (Llama 4 Maverick over 16 devices?),
the only one that was left out because its winners contradict it.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Layers:
    """MoE layers of one model, or of two with like experts, however they were split over devices."""

    model: str
    dtype: str
    experts: tuple[int, ...]
    intermediate: tuple[int, ...]
    hidden: int
    top_k: int


LAYERS = (
    Layers("GLM-4.5", "fp8_tensor", (160,), (192, 384, 768), 5120, 8),
    Layers("GLM-4.5, shared expert fused", "fp8_tensor", (161,), (384,), 5120, 9),
    Layers("Qwen3.5-397B-A17B", "fp8_tensor", (512,), (512,), 4096, 10),
    Layers("Mixtral 8x7B", "bf16", (8,), (1792, 3584, 7168, 14336), 4096, 2),
    Layers("Mixtral 8x22B", "bf16", (8,), (2048, 4096, 8192, 16384), 6144, 2),
    Layers("Jamba 1.5 Mini", "bf16", (16,), (1792, 7168), 4096, 2),
    Layers("DBRX", "bf16", (16,), (1344, 2688), 6144, 4),
    Layers("Llama 4 Scout", "bf16", (16,), (1024, 2048), 5120, 1),
    Layers("Llama 4 Scout, shared expert fused", "bf16", (20, 24), (1024, 2048), 5120, 2),
    Layers("Llama 4 Maverick", "bf16", (128,), (1024,), 5120, 1),
    Layers("LFM2-8B-A1B", "bf16", (32,), (224, 448, 1792), 2048, 4),
    Layers("LFM2-24B-A2B", "bf16", (64,), (768, 1536), 2048, 4),
    Layers("Qwen1.5-MoE-A2.7B", "bf16", (60,), (176, 1408), 2048, 4),
    Layers("Qwen2-57B-A14B", "bf16", (64,), (320, 640, 1280, 2560), 3584, 8),
    Layers("Qwen3-30B-A3B", "bf16", (32, 128), (96, 768), 2048, 8),
    Layers("Qwen3-235B-A22B", "bf16", (128,), (192,), 4096, 8),
    Layers("Qwen3.5-35B-A3B", "bf16", (256,), (512,), 2048, 8),
    Layers("Qwen3-Next-80B-A3B", "bf16", (512,), (64, 128, 256), 2048, 10),
    Layers("Granite 4 Tiny Preview", "bf16", (62,), (128, 256, 512), 1536, 6),
    Layers("Granite 4 Small", "bf16", (72,), (384, 768), 4096, 10),
    Layers("ERNIE 4.5 21B-A3B", "bf16", (64,), (384,), 2560, 6),
    Layers("ERNIE 4.5 300B-A47B", "bf16", (64,), (896,), 8192, 8),
    Layers("Gemma 4 26B-A4B", "bf16", (128,), (352, 704), 2816, 8),
    Layers("Nemotron 3 Nano", "bf16", (16, 32, 64, 128), (464, 928, 1856), 2688, 6),
    Layers("Nemotron 3 Super", "bf16", (64, 128, 256, 512), (1344, 2688), 1024, 22),
    Layers("GLM-4.5", "bf16", (20,), (1536,), 5120, 8),
    Layers("GLM-4.5, shared expert fused", "bf16", (161,), (192,), 5120, 9),
    Layers("DeepSeek-V2", "bf16", (160,), (192,), 5120, 6),
    Layers("DeepSeek-V3", "bf16", (256,), (256,), 7168, 8),
    Layers("DeepSeek-V3, shared expert fused", "bf16", (272, 288), (64,), 7168, 9),
    Layers("DeepSeek-V3", "fp8", (32, 72, 256), (256, 2048), 7168, 8),
    Layers("DeepSeek-V3, shared expert fused", "fp8", (257, 264, 272), (128, 256, 512), 7168, 9),
    Layers("Kimi K2", "fp8", (384,), (128, 256), 7168, 8),
    Layers("Qwen3-30B-A3B", "fp8", (64, 128), (768,), 2048, 8),
    Layers("Qwen3-235B-A22B", "fp8", (128,), (384,), 4096, 8),
    Layers("Qwen3-Coder-480B-A35B", "fp8", (20, 40, 160), (640, 2560), 6144, 8),
    Layers("Qwen3-Next-80B-A3B", "fp8", (512,), (128, 256), 2048, 10),
    Layers("Qwen3.5-397B-A17B, shared expert fused", "fp8", (513,), (512,), 4096, 11),
    Layers("LLaDA-MoE 7B-A1B", "fp8", (64,), (512, 1024), 2048, 8),
    Layers("MiniMax-M2", "fp8", (256,), (384,), 3072, 8),
    Layers("Mixtral 8x22B", "fp8", (8,), (2048,), 6144, 2),
)


def hidden_and_top_k(dtype: str, experts: int, intermediate: int) -> tuple[int, int]:
    """Hidden size and top-k of the layer that a file of this name is for; FP8 scaled after the sum mostly as bf16."""
    dtypes = (dtype,) if dtype != "fp8_tensor" else (dtype, "bf16")
    for known in LAYERS:
        if known.dtype in dtypes and experts in known.experts and intermediate in known.intermediate:
            return known.hidden, known.top_k
    return 4096, min(experts, 2) if experts <= 16 else 8
