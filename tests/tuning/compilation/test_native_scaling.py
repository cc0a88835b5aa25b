"""FP8 by FP8 with e8m0 scales becomes matrix instructions that scale by blocks, and sums stay where they are added."""

from collections import Counter

import pytest

from autotune import device, registry
from autotune.config import Config
from autotune.tuning.compilation import launch, resources
from autotune.tuning.compilation.instructions import hot_loop, nvidia_listing
from autotune.tuning.cost_model.model import predict

DENSE, GROUPED, EXPERTS = "gemm/fp8_block_scaled", "gemm/fp8_grouped", "moe/fp8_grouped_gemm"
SIZES = {
    DENSE: {"m": 8192, "n": 2048, "k": 7168},
    GROUPED: {"m": 8192, "groups": 2, "n": 1024, "k": 4096},
    EXPERTS: {"tokens": 8192, "topk": 8, "experts": 256, "n": 512, "k": 7168},
}
# Triton 3.6 writes `.scale_vec::1X` behind it, 3.9 `.block32`.
SCALED = {
    "sm_100": "tcgen05.mma.cta_group::1.kind::mxf8f6f4.block_scale",
    "sm_103": "tcgen05.mma.cta_group::1.kind::mxf8f6f4.block_scale",
    "gfx950": "v_mfma_scale_f32_16x16x128_f8f6f4",
}


def compiled(name, arch, *, ue8m0, **changes):
    """Resources and opcodes of the hot loop, without the widths of NVIDIA's."""
    kernel, gpu = registry.load(name), device.of_arch(arch)
    problem = kernel.problem(**SIZES[name], ue8m0=ue8m0)
    config = Config({**kernel.default(problem, gpu), **changes})
    assert kernel.reject(problem, config, gpu) is None
    binary = launch.compile_launches(kernel, problem, config, gpu)[0]
    listing = binary.asm["amdgcn"] if gpu.is_amd else nvidia_listing(binary.asm["cubin"])
    loop = hot_loop(listing, gpu.vendor)
    return resources.read([binary], gpu), Counter(loop if gpu.is_amd else (opcode.split(".")[0] for opcode in loop))


@pytest.mark.parametrize(
    ("name", "arch"),
    [
        (DENSE, "sm_100"),
        (GROUPED, "gfx950"),
        pytest.param(DENSE, "gfx950", marks=pytest.mark.slow),
        pytest.param(DENSE, "sm_103", marks=pytest.mark.slow),
        pytest.param(GROUPED, "sm_100", marks=pytest.mark.slow),
        pytest.param(GROUPED, "sm_103", marks=pytest.mark.slow),
        pytest.param(EXPERTS, "sm_100", marks=pytest.mark.slow),
        pytest.param(EXPERTS, "sm_103", marks=pytest.mark.slow),
        pytest.param(EXPERTS, "gfx950", marks=pytest.mark.slow),
    ],
)
def test_matrix_instruction_applies_e8m0_scales(name, arch):
    found, loop = compiled(name, arch, ue8m0=True)
    assert all(name.startswith(SCALED[arch]) for name, _ in found.matrix_instructions)
    assert found.spills == 0
    # tcgen05.ld is LDTM: without it the sums are read once, after the loop; no lane multiplies them within it.
    outside = {"LDTM", "FFMA", "FFMA2", "FMUL", "FMUL2", "v_fma_f32", "v_pk_fma_f32", "v_mul_f32_e32"} & set(loop)
    assert not outside
    assert loop["UTCQMMA"] or loop[SCALED[arch]]


@pytest.mark.parametrize(
    ("arch", "by_lanes"), [("sm_100", {"LDTM", "FFMA2"}), pytest.param("gfx950", {"v_fma_f32"}, marks=pytest.mark.slow)]
)
def test_fp32_scales_are_promoted_in_every_step(arch, by_lanes):
    found, loop = compiled(DENSE, arch, ue8m0=False)
    assert not any("scale" in instruction for instruction, _ in found.matrix_instructions)
    assert by_lanes <= set(loop)


@pytest.mark.parametrize(
    ("arch", "ue8m0", "changes", "reason"),
    [
        ("sm_100", False, {}, "takes e8m0 scales"),
        ("sm_90", True, {}, "no matrix instruction of h100 scales"),
        ("sm_100", True, {"BLOCK_M": 64}, "needs BLOCK_M=128"),
        ("gfx950", True, {"BLOCK_M": 16}, None),
        ("gfx950", True, {"BLOCK_M": 64, "BLOCK_N": 64, "BLOCK_K": 256}, None),
        ("gfx950", True, {"NATIVE_SCALING": False, "BLOCK_K": 256}, "must divide the scale group"),
    ],
)
def test_native_scaling_is_refused_where_it_is_not_native(arch, ue8m0, changes, reason):
    kernel, gpu = registry.load(DENSE), device.of_arch(arch)
    problem = kernel.problem(64, 2048, 7168, ue8m0=ue8m0)
    config = Config({**kernel.default(problem, gpu), "NATIVE_SCALING": True, "num_warps": 4, **changes})
    said = kernel.reject(problem, config, gpu)
    assert said is None if reason is None else reason in said


def test_scales_outside_the_instruction_cost_lane_time():
    kernel, gpu = registry.load(DENSE), device.of_arch("sm_100")
    problem = kernel.problem(8192, 2048, 7168, ue8m0=True)
    native = kernel.default(problem, gpu)
    promoted = Config({**native, "NATIVE_SCALING": False})
    works = [kernel.work(problem, config, gpu) for config in (native, promoted)]
    assert [work.dtype for work in works] == ["fp8_tensor", "fp8"]
    faster, slower = (predict(work, native, gpu).us for work in works)
    assert 1.3 * faster < slower
