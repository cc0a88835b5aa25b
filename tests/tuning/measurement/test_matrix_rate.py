"""The loop that measures matrix units has the matrix instructions of each arch."""

import re

import pytest
import triton
from triton.compiler import ASTSource

from autotune import device
from autotune.toolchain import triton_version
from autotune.tuning.compilation.launch import target_of
from autotune.tuning.measurement.device_rates import BLOCK, MATRIX_KERNELS, matrix_dtypes

POINTERS = {"fp4": "*u8", "bf16": "*bf16", "tf32": "*fp32"}
FP8 = {"e4m3fn": "*fp8e4nv", "e4m3fnuz": "*fp8e4b8"}


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("gpu", "dtype", "instruction"),
    [
        ("h200", "fp8", r"wgmma\.mma_async\S*\.e4m3\.e4m3"),
        ("h200", "tf32", r"wgmma\.mma_async\S*\.tf32"),
        ("b200", "fp4", r"tcgen05\.mma\S*mxf4\.block_scale"),
        ("b200", "bf16", r"tcgen05\.mma\S*kind::f16"),
        ("mi300x", "fp8", r"v_mfma_f32_32x32x16_fp8_fp8"),
        ("mi355x", "fp4", r"v_mfma_scale_f32_\w+_f8f6f4"),
        ("mi355x", "bf16", r"v_mfma_f32_32x32x16_bf16"),
        ("a100", "bf16", r"mma\.sync\S*\.bf16"),
    ],
)
def test_matrix_loop_uses_best_instruction(gpu, dtype, instruction):
    here = device.named(gpu)
    if dtype not in matrix_dtypes(here, triton_version()):
        pytest.skip(f"Triton {triton_version()} compiles no {dtype} loop for {here.arch}")
    pointer = FP8[here.fp8] if dtype == "fp8" else POINTERS[dtype]
    signature = {"out_ptr": "*fp32", "a_ptr": pointer, "b_ptr": pointer, "loops": "i32", "BLOCK": "constexpr"}
    source = ASTSource(MATRIX_KERNELS[dtype], signature, {(4,): BLOCK})
    asm = triton.compile(source, target=target_of(here.arch), options={"num_warps": 8}).asm
    assert re.search(instruction, asm.get("ptx") or asm["amdgcn"])


def test_fp4_loop_of_tcgen05_needs_newer_triton():
    assert "fp4" not in matrix_dtypes(device.named("b200"), "3.6.0")
    assert "fp4" in matrix_dtypes(device.named("b200"), "3.7.1")
    assert "fp4" in matrix_dtypes(device.named("mi355x"), "3.6.0")
