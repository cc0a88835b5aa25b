"""Run in the interpreter: what was counted of each kernel beside what its formula says, as JSON."""

import json
import sys

from autotune import device, registry
from autotune.tuning.interpreter.counting import count

PROBLEMS = {
    "attention/dense_mqa": {"tokens": 256, "heads": 16, "keys": 512},
    "attention/sparse_decode": {"tokens": 16, "heads": 16, "keys": 128, "extra_keys": 512},
    "attention/sparse_mla": {"tokens": 16, "heads": 16, "keys": 512},
    "attention/sparse_prefill": {"tokens": 256, "heads": 16, "keys": 128, "extra_keys": 512},
    "compressor/decode_pool": {"tokens": 64, "ratio": 4, "d": 512, "pattern": "any"},
    "compressor/index_key_store": {"windows": 256},
    "compressor/norm_rope_store": {"windows": 256},
    "compressor/prefill_pool": {"tokens": 1024, "windows": 256, "ratio": 4, "d": 512},
    "compressor/state_write": {"tokens": 1024, "requests": 1, "ratio": 4, "d": 512, "start": 2},
    "gemm/bf16_grouped": {"m": 512, "groups": 2, "n": 512, "k": 1024},
    "gemm/bf16_linear": {"m": 512, "n": 512, "k": 1024},
    "gemm/fp8_block_scaled": {"m": 512, "n": 512, "k": 1024},
    "gemm/fp8_grouped": {"m": 512, "groups": 2, "n": 512, "k": 1024},
    "gemm/mxfp8_mxfp4": {"m": 512, "n": 512, "k": 1024},
    "hyperconnection/mhc_head": {"tokens": 512, "dim": 1024},
    "hyperconnection/mhc_post": {"tokens": 512, "dim": 1024},
    "hyperconnection/mhc_post_pre": {"tokens": 512, "dim": 1024},
    "hyperconnection/mhc_pre": {"tokens": 512, "dim": 1024},
    "indexer/key_gather": {"requests": 1, "keys": 2048, "pages": 32},
    "indexer/key_prep": {"tokens": 512},
    "indexer/paged_logits": {"tokens": 16, "heads": 64, "pages": 16},
    "indexer/query_prep": {"tokens": 256},
    "indexer/ragged_logits": {"tokens": 512, "heads": 64, "keys": 1024},
    "indexer/topk": {"tokens": 16, "n": 8192, "k": 512},
    "metadata/chunk_indices": {"tokens": 2048, "requests": 1},
    "metadata/compress_plan": {"requests": 16, "ratio": 4, "capacity": 512},
    "metadata/compressed_indices": {"tokens": 64, "width": 1024, "ratio": 4, "page_size": 64, "pages": 256},
    "metadata/window_indices": {"tokens": 2048},
    "moe/align": {"tokens": 128, "topk": 6, "experts": 48, "block_m": 64},
    "moe/bf16_grouped_gemm": {"tokens": 64, "topk": 4, "experts": 8, "n": 256, "k": 512},
    "moe/combine": {"tokens": 256, "topk": 6, "dim": 2048},
    "moe/fp8_grouped_gemm": {"tokens": 64, "topk": 4, "experts": 8, "n": 256, "k": 512},
    "moe/mxfp4_grouped_gemm": {"tokens": 64, "topk": 4, "experts": 8, "n": 256, "k": 512},
    "moe/router": {"tokens": 256, "experts": 384, "topk": 6},
    "moe/swiglu_quant": {"rows": 512, "inner": 2048},
    "norm/layer_norm": {"rows": 1024, "cols": 128},
    "norm/qkv_rms_norm": {"tokens": 256, "q_cols": 1536, "kv_cols": 512},
    "norm/rms_norm": {"rows": 256, "cols": 7168},
    "norm/rms_norm_quant": {"rows": 256, "cols": 7168},
    "quant/fp8_group_quant": {"rows": 512, "cols": 2048},
    "quant/mx_quant": {"rows": 512, "cols": 2048},
    "rope/inverse_rope": {"tokens": 256, "heads": 16},
    "rope/mla_prep": {"tokens": 256, "heads": 16},
    "rope/qk_prep": {"tokens": 256, "heads": 16},
    "sampling/greedy": {"rows": 16, "vocab": 32768},
    "sampling/top_k_top_p": {"rows": 4, "vocab": 8192},
}
"""Sizes at which tiles are full, as formulas mean them, and that the interpreter bears."""


def main(gpu, names):
    rows = {}
    for name in names or PROBLEMS:
        kernel = registry.load(name)
        drawn = {"dtype": gpu.fp8} if "dtype" in kernel.problem.__dataclass_fields__ else {}
        problem = kernel.problem(**PROBLEMS[name], **drawn)
        config = kernel.default(problem, gpu)
        said = kernel.work(problem, config, gpu)
        counts = count(kernel, problem, config, gpu)
        rows[name] = {
            "said": vars(said),
            "counted": vars(counts.work(said.dtype)),
            "programs_run": counts.main.counted,
            "flops": counts.main.flops,
            "atomics": sum(launch.atomics for launch in counts.launches),
            "arguments": {argument: vars(traffic) for argument, traffic in counts.main.arguments.items()},
        }
    print(json.dumps(rows))


if __name__ == "__main__":
    main(device.named(sys.argv[1]), sys.argv[2:])
