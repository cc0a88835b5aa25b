import pytest

from autotune import arch as archs
from autotune import device, registry
from autotune.config import Config, describe
from autotune.kernel import Work
from autotune.tuning import space
from autotune.tuning.compilation import launch, matrix, resources

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
def test_default_uses_fp8_matrix_unit_and_spills_nothing(name, instruction):
    found = compiled(name)
    assert instruction in dict(found.matrix_instructions)
    assert found.spills == 0
    assert found.programs_per_unit >= 1
    assert found.code_bytes > 0


def test_only_equal_code_is_recognised_across_problems():
    assert compiled("mi355x", m=64).code == compiled("mi355x", m=33).code
    assert compiled("mi355x", n=2048).code == compiled("mi355x", n=4096, SPLIT_K=4).code
    assert compiled("mi355x").code != compiled("mi355x", GROUP_M=1).code


def test_signatures_are_equal_where_triton_makes_one_binary():
    gpu = device.named("mi355x")
    config = GEMM.default(GEMM.problem(64, 2048, 7168), gpu)

    def signature(m, n):
        return [one.signature for one in launch.launches(GEMM, GEMM.problem(m, n, 7168), config, gpu)]

    assert signature(64, 2048) == signature(1, 4096)
    assert signature(64, 2048)[0] != signature(64, 2056)[0]  # n no longer divisible by 16


def test_spill_is_seen():
    found = compiled("mi300x", m=8192, BLOCK_M=256, BLOCK_N=128, SPLIT_K=1, num_warps=4, num_stages=1, waves_per_eu=2)
    assert found.spills > 0
    assert found.stack_bytes > 0


def test_launches_carry_grid():
    gpu = device.named("mi355x")
    problem = GEMM.problem(64, 2048, 7168)
    config = Config({**GEMM.default(problem, gpu), "SPLIT_K": 4})
    main, sums = launch.launches(GEMM, problem, config, gpu)
    assert (main.grid, sums.function) == ((16, 4), "_add_parts")


@pytest.mark.parametrize(("name", "launched"), [("h200", 1), ("b200", 1), ("mi300x", 2)])
def test_second_launch_adds_parts_where_no_barrier_orders_stores(name, launched):
    gpu, problem = device.named(name), GEMM.problem(64, 2048, 7168)
    config = Config({**GEMM.default(problem, gpu), "SPLIT_K": 4})
    assert GEMM.work(problem, config, gpu).launches == launched
    assert len(launch.launches(GEMM, problem, config, gpu)) == launched


def defaults(name, arch):
    """The distinct calls of a kernel's default configs on the models' problems."""
    kernel, gpu = registry.load(name), device.of_arch(arch)
    calls = {}
    for problem in space.load(kernel, gpu).compile:
        config = kernel.default(problem, gpu)
        assert kernel.reject(problem, config, gpu) is None, describe(problem)
        signatures = tuple(one.signature for one in launch.launches(kernel, problem, config, gpu))
        calls.setdefault((signatures, config), problem)
    return kernel, gpu, [(problem, config) for (_, config), problem in calls.items()]


def check_default(kernel, gpu, problem, config):
    place = f"{kernel.name} {describe(problem)} on {gpu.arch} with {config}"
    found = [resources.read([binary], gpu) for binary in launch.compile_launches(kernel, problem, config, gpu)]
    assert [one.spills for one in found] == [0] * len(found), place
    used = dict(found[0].matrix_instructions)
    assert matrix.shortfall(used, kernel.work(problem, config, gpu), config, gpu) is None, place


@pytest.mark.parametrize("name", ["gemm/mxfp8_mxfp4", "moe/mxfp4_grouped_gemm"])
def test_mxfp4_products_are_native_on_rubin(name):
    kernel, gpu = registry.load(name), device.target("sm_107")
    problem = space.load(kernel, gpu).compile[0]
    config = kernel.default(problem, gpu)
    found = resources.read(launch.compile_launches(kernel, problem, config, gpu), gpu)
    assert found.spills == 0
    assert set(dict(found.matrix_instructions)) == {"tcgen05.mma.cta_group::1.kind::mxf8f6f4.block_scale.block32"}
    assert matrix.shortfall(dict(found.matrix_instructions), kernel.work(problem, config, gpu), config, gpu) is None


@pytest.mark.parametrize("name", ["gemm/mxfp8_mxfp4", "moe/mxfp4_grouped_gemm"])
@pytest.mark.parametrize(("gpu", "rows", "native"), [("b200", 64, False), ("b200", 128, True), ("mi355x", 16, True)])
def test_work_knows_which_mxfp4_tiles_are_widened(name, gpu, rows, native):
    kernel, gpu = registry.load(name), device.named(gpu)
    problem = space.load(kernel, gpu).compile[0]
    config = Config({**kernel.default(problem, gpu), "BLOCK_M": rows})
    found = resources.read(launch.compile_launches(kernel, problem, config, gpu), gpu)
    work = kernel.work(problem, config, gpu)
    assert any("f8f6f4" in name for name, _ in found.matrix_instructions) == native
    assert (work.lane_operations_per_program == 0) == native
    assert work.widened_to == (None if native else "bf16")
    assert (matrix.shortfall(dict(found.matrix_instructions), work, config, gpu) is None) == native


@pytest.mark.slow
@pytest.mark.parametrize("arch", sorted({*archs.gpus()} - {*archs.SERVED}))
@pytest.mark.parametrize("name", ["gemm/bf16_linear", "norm/rms_norm", "attention/sparse_decode"])
def test_kernels_compile_on_archs_that_are_not_served_on(name, arch):
    kernel, gpu = registry.load(name), device.target(arch)
    problem = space.load(kernel, gpu).compile[0]
    config = kernel.default(problem, gpu)
    assert resources.read(launch.compile_launches(kernel, problem, config, gpu), gpu).programs_per_unit >= 1


def matrix_kernels():
    gpu = device.of_arch("gfx950")
    for name in registry.names():
        kernel = registry.load(name)
        problem = space.load(kernel, gpu).compile[0]
        if kernel.work(problem, kernel.default(problem, gpu), gpu).dtype != "fp32":
            yield name


@pytest.mark.parametrize(("index", "name"), list(enumerate(matrix_kernels())))
def test_default_spills_nothing_and_multiplies_best(index, name):
    # One arch a kernel, in turn, and its first problem: the whole cross below takes some 15 minutes on one core.
    kernel, gpu, calls = defaults(name, archs.SERVED[index % len(archs.SERVED)])
    check_default(kernel, gpu, *calls[0])


@pytest.mark.slow
@pytest.mark.parametrize("arch", archs.SERVED)
@pytest.mark.parametrize("name", registry.names())
def test_no_default_spills_or_is_emulated_on_any_arch(name, arch):
    kernel, gpu, calls = defaults(name, arch)
    for problem, config in calls:
        check_default(kernel, gpu, problem, config)


@pytest.mark.parametrize(
    ("arch", "dtype", "block_m", "instruction", "why"),
    [
        ("sm_90", "fp8", 64, "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3", None),
        ("sm_90", "fp8", 16, "mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32", "emulated"),
        ("sm_90", "bf16", 16, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", None),
        ("sm_90", "bf16", 64, "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32", "is not"),
        ("sm_100", "fp4", 128, "tcgen05.mma.cta_group::1.kind::mxf4.block_scale.block32", None),
        ("sm_100", "fp8", 128, "tcgen05.mma.cta_group::1.kind::f16", "emulated"),
        ("gfx950", "fp8", 64, "v_mfma_f32_16x16x32_bf16", "emulated"),
        ("gfx950", "fp4", 64, "v_mfma_scale_f32_16x16x128_f8f6f4", None),
        ("gfx950", "bf16", 64, "v_mfma_f32_16x16x16_bf16", "is not"),
        ("gfx942", "fp8", 64, "v_mfma_f32_16x16x32_fp8_fp8", None),
        ("gfx942", "fp4", 64, "v_mfma_f32_16x16x16_bf16", "has no"),
        ("gfx942", "bf16", 64, None, "no matrix instruction"),
    ],
)
def test_emulation_is_told_from_best_instruction(arch, dtype, block_m, instruction, why):
    work = Work(1, 1.0, 1.0, 1.0, 1, dtype)
    found = [instruction] if instruction else []
    said = matrix.shortfall(found, work, Config(BLOCK_M=block_m), device.of_arch(arch))
    assert said is None if why is None else why in said
