import pytest

from autotune import device, registry
from autotune.config import Config
from autotune.tuning import launch, resources

GEMM = registry.load("gemm/fp8_block_scaled")


def compiled(name, m=64, n=2048, k=7168, **changes):
    gpu = device.named(name)
    problem = GEMM.problem(m, n, k, gpu.fp8)
    config = Config({**GEMM.default(problem, gpu), **changes})
    return resources.read(launch.compile_launches(GEMM, problem, config, gpu), gpu)


@pytest.mark.parametrize(
    ("name", "instruction"),
    [
        ("h100", "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3"),
        ("b200", "tcgen05.mma.cta_group::1.kind::f8f6f4"),
        ("mi300x", "v_mfma_f32_16x16x32_fp8_fp8"),
        ("mi355x", "v_mfma_f32_16x16x128_f8f6f4"),
    ],
)
def test_the_default_uses_the_fp8_matrix_unit_and_spills_nothing(name, instruction):
    found = compiled(name)
    assert instruction in dict(found.matrix_instructions)
    assert found.spills == 0
    assert found.programs_per_unit >= 1
    assert found.code_bytes > 0


def test_equal_code_is_recognised_across_problems_and_different_code_is_not():
    assert compiled("mi355x", m=64).code == compiled("mi355x", m=33).code
    assert compiled("mi355x", n=2048).code == compiled("mi355x", n=4096, SPLIT_K=4).code
    assert compiled("mi355x").code != compiled("mi355x", GROUP_M=1).code


def test_signatures_are_equal_exactly_where_triton_makes_one_binary():
    gpu = device.named("mi355x")
    config = GEMM.default(GEMM.problem(64, 2048, 7168), gpu)

    def signature(m, n):
        return [one.signature for one in launch.launches(GEMM, GEMM.problem(m, n, 7168), config, gpu)]

    assert signature(64, 2048) == signature(1, 4096)
    assert signature(64, 2048)[0] != signature(64, 2056)[0]  # n no longer divisible by 16


def test_a_spill_is_seen():
    found = compiled("mi300x", m=8192, BLOCK_M=256, BLOCK_N=128, SPLIT_K=1, num_warps=4, num_stages=1, waves_per_eu=2)
    assert found.spills > 0
    assert found.stack_bytes > 0


def test_launches_carry_the_grid():
    gpu = device.named("mi355x")
    problem = GEMM.problem(64, 2048, 7168)
    config = Config({**GEMM.default(problem, gpu), "SPLIT_K": 4})
    main, reduction = launch.launches(GEMM, problem, config, gpu)
    assert (main.grid, reduction.function) == ((16, 4), "add_partials")
