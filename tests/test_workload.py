"""Numbers against the published configurations and the shapes that SGLang's sharding gives."""

import pytest

from autotune import device, registry, workload
from autotune.errors import UsageError
from autotune.workload.calls import dense_shapes
from autotune.workload.inventory import HOT_PATHS
from autotune.workload.model import V3_2, V4_FLASH, V4_PRO
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


@pytest.mark.parametrize(("model", "tensor"), SHAPES, ids=lambda v: getattr(v, "name", v))
def test_dense_shapes(model, tensor):
    found = {(n, k) for n, k, _ in dense_shapes(model, Parallelism(tensor)).values()}
    assert SHAPES[model, tensor] <= found


def test_launches_a_step():
    shapes = dense_shapes(V4_PRO, Parallelism(8))
    assert sum(per_step for _, _, per_step in shapes.values()) == 61 * 5 + 30 == 335


def tokens(phase, parallelism):
    return [(s.tokens, s.expert_tokens) for s in steps(named("8k1k"), parallelism) if s.phase == phase]


def test_tokens_of_a_step():
    assert tokens("decode", Parallelism(8)) == [(c, c) for c in (1, 2, 4, 8, 16, 32, 64)]
    assert tokens("prefill", Parallelism(8)) == [(m, m) for m in (4096, 6144, 7168, 8192)]


def test_under_data_parallel_attention_experts_see_the_gathered_tokens():
    assert tokens("decode", Parallelism(8, data_attention=True)) == [
        (c // 8, c) for c in (64, 128, 256, 512, 1024, 2048)
    ]
    assert tokens("prefill", Parallelism(8, data_attention=True))[-1] == (8192, 65536)


def test_under_expert_parallelism_a_rank_gets_its_share_of_choices():
    whole = Parallelism(8, expert=8, data_attention=True)
    assert tokens("decode", whole)[:3] == [(8, 8), (16, 16), (32, 32)]  # 6 choices each: 6 c / 8 rows a rank


def test_attention_and_shared_expert_are_whole_under_data_parallelism():
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
def test_problems_of_the_kernels_that_the_workload_calls(name):
    for model in (V4_PRO, V4_FLASH):
        for gpu in map(device.named, ("mi300x", "b200")):
            found = workload.problems(registry.load(name), model, named("8k1k"), Parallelism(8), gpu)
            assert found
            assert {problem.dtype for problem in found} == {gpu.fp8}
            assert all(weight > 0 for weight in found.values())


def test_every_hot_path_has_kernels_or_a_reason():
    assert [path.number for path in HOT_PATHS] == list(range(1, 26))
    assert all(path.kernels or path.missing for path in HOT_PATHS)
    served = {name for path in HOT_PATHS for name in path.kernels}
    assert served == set(registry.names())


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
        workload.model.named("deepseek-v4-prp")
    with pytest.raises(UsageError, match="did you mean '1k8k'"):
        workload.scenario.named("1k8kk")
