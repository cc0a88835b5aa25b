"""Numbers against the published configurations and the shapes that SGLang's sharding gives."""

from collections import Counter

import pytest

from autotune import device, registry, workload
from autotune.errors import UsageError
from autotune.tuning import kernel_facts
from autotune.workload.deepseek_v3_2 import V3_2
from autotune.workload.deepseek_v4 import V4_FLASH, V4_PRO
from autotune.workload.hot_paths import HOT_PATHS
from autotune.workload.rank import Rank
from autotune.workload.scenario import Parallelism, named, steps


def test_layers():
    assert (V4_PRO.hca_layers, V4_PRO.csa_layers, V4_PRO.window_layers) == (31, 30, 0)
    assert (V4_FLASH.hca_layers, V4_FLASH.csa_layers, V4_FLASH.window_layers) == (20, 21, 2)
    assert (len(V4_PRO.compress_ratios), len(V4_FLASH.compress_ratios)) == (62, 44)
    assert V3_2.moe_layers == 58


SHAPES = {
    (V4_PRO, 1): {(2048, 7168), (65536, 1536), (8192, 1536), (7168, 16384), (6144, 7168), (7168, 3072)},
    (V4_PRO, 4): {(2048, 7168), (16384, 1536), (8192, 1536), (7168, 4096), (1536, 7168), (7168, 768)},
    (V4_PRO, 8): {(2048, 7168), (8192, 1536), (7168, 2048), (768, 7168), (7168, 384)},
    (V4_FLASH, 1): {(1536, 4096), (32768, 1024), (8192, 1024), (4096, 8192), (4096, 4096), (4096, 2048)},
    (V4_FLASH, 8): {(1536, 4096), (4096, 1024), (8192, 1024), (512, 4096), (4096, 256)},
    (V3_2, 8): {(2112, 7168), (3072, 1536), (8192, 1536), (128, 7168), (7168, 2048), (4608, 7168), (7168, 2304)},
}


def step(model, parallelism, phase="decode", index=-1):
    """The calls of one step of a phase, the largest unless `index` says another."""
    one = [s for s in steps(named("8k1k"), parallelism) if s.phase == phase][index]
    return list(model.calls(Rank(model, parallelism, device.named("mi355x"), one)))


def dense_shapes(model, parallelism):
    return {
        call.op: (call.problem["n"], call.problem["k"], call.per_step)
        for call in step(model, parallelism)
        if call.kernel == "gemm/fp8_block_scaled"
    }


@pytest.mark.parametrize(("model", "tensor"), SHAPES, ids=lambda v: getattr(v, "name", v))
def test_dense_shapes(model, tensor):
    found = {(n, k) for n, k, _ in dense_shapes(model, Parallelism(tensor)).values()}
    assert SHAPES[model, tensor] <= found


def test_launches_step():
    shapes = dense_shapes(V4_PRO, Parallelism(8))
    assert sum(count for op, (_, _, count) in shapes.items() if not op.startswith("mtp.")) == 61 * 5 + 30 == 335


def tokens(phase, parallelism):
    return [(s.tokens, s.expert_tokens) for s in steps(named("8k1k"), parallelism) if s.phase == phase]


def test_tokens_of_step():
    assert tokens("decode", Parallelism(8)) == [(c, c) for c in (1, 2, 4, 8, 16, 32, 64)]
    assert tokens("prefill", Parallelism(8)) == [(m, m) for m in (4096, 6144, 7168, 8192)]


def test_data_parallel_experts_see_gathered_tokens():
    assert tokens("decode", Parallelism(8, data_attention=True)) == [
        (c // 8, c) for c in (64, 128, 256, 512, 1024, 2048)
    ]
    assert tokens("prefill", Parallelism(8, data_attention=True))[-1] == (8192, 65536)


def test_under_expert_parallelism_rank_gets_its_share_of_choices():
    whole = Parallelism(8, expert=8, data_attention=True)
    assert tokens("decode", whole)[:3] == [(8, 8), (16, 16), (32, 32)]  # 6 choices each: 6 c / 8 rows a rank


def test_data_parallelism_keeps_attention_whole():
    shapes = dense_shapes(V4_PRO, Parallelism(8, data_attention=True))
    assert shapes["wq_b"][:2] == (65536, 1536)
    assert (shapes["shared.w13"][:2], shapes["shared.w2"][:2]) == ((6144, 7168), (7168, 3072))


@pytest.mark.parametrize(
    ("model", "parallelism", "message"),
    [
        (V4_PRO, Parallelism(3), "128 attention heads cannot be split 3 ways"),
        (V4_PRO, Parallelism(32), "3072 shared expert columns cannot be split 32 ways in blocks of 128"),
        (V4_FLASH, Parallelism(16), "8 output groups cannot be split 16 ways"),
        (V4_FLASH, Parallelism(8, expert=7), "256 routed experts cannot be split 7 ways"),
        (V3_2, Parallelism(32), "2048 shared expert columns cannot be split 32 ways"),
        (V4_PRO, Parallelism(8, expert=0), "cannot be split 0 ways"),
    ],
)
def test_splits_that_are_not_whole_are_refused(model, parallelism, message):
    with pytest.raises(UsageError, match=message):
        workload.calls(model, named("8k1k"), parallelism, device.named("mi355x"))


@pytest.mark.parametrize("name", ["gemm/fp8_block_scaled", "moe/mxfp4_grouped_gemm", "norm/rms_norm_quant"])
def test_problems_of_kernels_that_workload_calls(name):
    for model in (V4_PRO, V4_FLASH):
        for gpu in map(device.named, ("mi300x", "b200")):
            found = workload.problems(registry.load(name), model, named("8k1k"), Parallelism(8), gpu)
            assert found
            assert {problem.dtype for problem in found} == {gpu.fp8}
            assert all(weight > 0 for weight in found.values())


def test_every_hot_path_has_kernels_or_reason():
    assert [path.number for path in HOT_PATHS] == list(range(1, 26))
    serving = kernel_facts.by_hot_path()
    assert all(serving[path.number] or path.missing for path in HOT_PATHS)
    assert {name for names in serving.values() for name in names} == set(registry.names())


MODELS = (V4_PRO, V4_FLASH, V3_2)
SPLITS = (Parallelism(8), Parallelism(8, data_attention=True), Parallelism(8, expert=8, data_attention=True))


@pytest.mark.parametrize("gpu_name", ["mi300x", "mi355x", "h100", "b200"])
@pytest.mark.parametrize("model", MODELS, ids=lambda model: model.name)
def test_forward_step_is_covered_call_by_call(model, gpu_name):
    gpu = device.named(gpu_name)
    serving = kernel_facts.by_hot_path()
    for parallelism in SPLITS:
        for call in workload.calls(model, named("8k1k"), parallelism, gpu):
            assert call.kernel in serving[call.path], call
            kernel = registry.load(call.kernel)
            problem = workload.problem_of(call, kernel, gpu)
            assert call.per_step > 0
            assert kernel.reject(problem, kernel.default(problem, gpu), gpu) is None, call


def test_every_hot_path_is_called_or_has_a_reason():
    found = [
        call
        for model in MODELS
        for parallelism in SPLITS
        for gpu in ("mi355x", "b200")
        for call in workload.calls(model, named("8k1k"), parallelism, device.named(gpu))
    ]
    uncalled = {name for name in registry.names() if kernel_facts.read(name).not_called}
    assert {call.path for call in found} == {number for number, names in kernel_facts.by_hot_path().items() if names}
    assert {call.kernel for call in found} | uncalled == set(registry.names())


def launches(model, phase):
    """Launches a step by kernel, MTP's apart."""
    counts = Counter()
    for call in step(model, Parallelism(8), phase):
        if not call.op.startswith("mtp."):
            counts[call.kernel] += call.per_step
    return counts


@pytest.mark.parametrize(("model", "csa", "hca", "window"), [(V4_PRO, 30, 31, 0), (V4_FLASH, 21, 20, 2)])
def test_step_of_v4_runs_each_layer_once(model, csa, hca, window):
    layers = csa + hca + window
    decode, prefill = launches(model, "decode"), launches(model, "prefill")
    for found in (decode, prefill):
        assert found["hyperconnection/mhc_head"] == 1
        assert found["norm/rms_norm_quant"] == 2 * layers
        assert found["gemm/fp8_grouped"] == found["rope/qk_prep"] == found["rope/inverse_rope"] == layers
        assert found["gemm/bf16_linear"] == hca + 3 * csa + layers + 1  # compressors, weights_proj, gate, lm_head
        assert found["compressor/norm_rope_store"] == csa + hca
        assert found["compressor/index_key_store"] == found["indexer/topk"] == csa
        assert found["moe/router"] == found["moe/align"] == found["moe/combine"] == layers
        assert found["moe/mxfp4_grouped_gemm"] == 2 * layers
    assert decode["attention/sparse_decode"] == prefill["attention/sparse_prefill"] == layers
    assert decode["compressor/decode_pool"] == prefill["compressor/prefill_pool"] == hca + 2 * csa
    assert decode["indexer/paged_logits"] == prefill["indexer/ragged_logits"] == csa
    # 64 tokens are mixed by the fused kernel, 8192 by two.
    assert decode["hyperconnection/mhc_post_pre"] == 2 * layers - 1
    assert prefill["hyperconnection/mhc_pre"] == prefill["hyperconnection/mhc_post"] == 2 * layers


def test_step_of_v3_2_runs_each_layer_once():
    for phase in ("decode", "prefill"):
        found = launches(V3_2, phase)
        assert found["attention/sparse_mla"] == found["rope/mla_prep"] == found["indexer/topk"] == 61
        assert found["gemm/bf16_grouped"] == 2 * 61
        assert found["moe/fp8_grouped_gemm"] == 2 * 58
        assert found["moe/swiglu_quant"] == 2 * 58 + 3
        assert found["gemm/fp8_block_scaled"] == 5 * 61 + 2 * 58 + 2 * 3


def test_short_contexts_choose_all_entries_without_logits():
    found = {call.kernel for call in step(V4_PRO, Parallelism(8), "prefill", index=0)}  # 4096 tokens, 1024 entries
    assert "indexer/topk" not in found
    assert "indexer/ragged_logits" not in found
    assert "compressor/index_key_store" in found  # later steps need the keys


def test_experts_are_sharded_by_width_or_by_number():
    kernel = registry.load("moe/mxfp4_grouped_gemm")
    gpu = device.named("mi355x")
    wide = workload.problems(kernel, V4_PRO, named("8k1k"), Parallelism(8), gpu)
    many = workload.problems(kernel, V4_PRO, named("8k1k"), Parallelism(8, expert=8), gpu)
    assert {(p.experts, p.n, p.k) for p in wide} == {(384, 768, 7168), (384, 7168, 384)}
    assert {(p.experts, p.n, p.k) for p in many} == {(48, 6144, 7168), (48, 7168, 3072)}
    assert not workload.problems(kernel, V3_2, named("8k1k"), Parallelism(8), gpu)


def test_unknown_names():
    with pytest.raises(UsageError, match="did you mean 'deepseek-v4-pro'"):
        workload.models.named("deepseek-v4-prp")
    with pytest.raises(UsageError, match="did you mean '1k8k'"):
        workload.scenario.named("1k8kk")
