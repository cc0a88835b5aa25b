"""Public reports of a Triton release that made a kernel slower, each as a small kernel of our own.

Kernels follow the words and figures of the report, never its code. Sizes are smaller than the report's where only their
divisibility by 16 reaches the compiler: then the binary is the same, and the interpreter proves it in seconds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Case:
    """One kernel, call and pair of releases; `regresses` is what the report says of it, else it is a control."""

    name: str
    thread: str
    kernel: str
    sizes: Mapping[str, int]
    device: str
    before: str
    after: str
    reported: str
    regresses: bool
    changes: Mapping[str, int] = field(default_factory=dict)
    """Parameters in which the config differs from the kernel's default one."""


@dataclass(frozen=True)
class Unreachable:
    """A report that this exam cannot ask about, and the reason."""

    thread: str
    reported: str
    reason: str


_LAYER_NORM = {"rows": 512, "cols": 15360}
_PROJECTION = {"m": 256, "n": 32, "k": 512}
_GRADIENT = {"groups": 2, "tokens": 256, "m": 512, "n": 512}
# Caches are larger than 2 GiB, as those that serve: then the AMD back end may not use 32-bit buffer offsets.
_PAGED = {"length": 64, "heads": 2, "group": 16, "dim": 256, "pages": 2**18}
_EXTEND = {"length": 128, "prefix": 128, "heads": 2, "slots": 2**21}
_SPARSE = {"batch": 24, "heads": 64, "tokens": 256}
_DECODE = {"blocks": 4, "rows": 32, "n": 5760, "k": 2880, "experts": 32}
_PREFILL = {**_DECODE, "blocks": 80, "rows": 64}

CASES = (
    Case(
        "layer norm of 15360 fp16",
        "triton-lang/triton#11127",
        "layer_norm",
        _LAYER_NORM,
        "b200",
        "3.6.0",
        "3.7.0",
        "57-64 -> 90 us; 64 -> 72 registers halve the occupancy",
        True,
    ),
    Case(
        "projection in TF32x3, four stages",
        "triton-lang/triton#11526",
        "tf32x3_gemm",
        _PROJECTION,
        "l40",
        "3.7.1",
        "3.8.0",
        "twice the shared memory; configs no longer fit an L40",
        True,
        {"num_stages": 4},
    ),
    Case(
        "weight gradient, 256x256x64",
        "AMD-AGI/Primus-Turbo#471",
        "weight_gradient",
        _GRADIENT,
        "mi300x",
        "3.7.1",
        "3.8.0",
        "1.68 -> 9.12 ms; 65 registers spilled",
        True,
    ),
    Case(
        "weight gradient, 256x256x32",
        "AMD-AGI/Primus-Turbo#471",
        "weight_gradient",
        _GRADIENT,
        "mi300x",
        "3.7.1",
        "3.8.0",
        "no spills, the mend",
        False,
        {"BLOCK_K": 32},
    ),
    Case(
        "paged prefill, head of 256",
        "ROCm/aiter#4137",
        "paged_attention",
        _PAGED,
        "mi355x",
        "3.6.0",
        "3.7.0",
        "4.44 -> 17.91 ms; 5 -> 87 values spilled (triton#11249)",
        True,
    ),
    Case(
        "paged prefill, head of 256",
        "ROCm/aiter#5409",
        "paged_attention",
        _PAGED,
        "mi355x",
        "3.6.0",
        "3.8.0",
        "4 -> 12 ms; scratch in the loop over keys",
        True,
    ),
    Case(
        "skinny GEMM, 32 rows, 8 waves",
        "ROCm/aiter#5137",
        "skinny_gemm",
        {"m": 32, "n": 1280, "k": 8192},
        "mi355x",
        "3.7.1",
        "3.8.0",
        "spills; +242 % speed with 4 waves",
        True,
    ),
    Case(
        "skinny GEMM, 256 rows, 6 waves",
        "ROCm/aiter#5137",
        "skinny_gemm",
        {"m": 256, "n": 1280, "k": 8192},
        "mi355x",
        "3.7.1",
        "3.8.0",
        "spills; +157 % speed with 4 waves",
        True,
        {"BLOCK_M": 128, "BLOCK_N": 64, "BLOCK_K": 128, "num_warps": 8, "waves_per_eu": 6},
    ),
    Case(
        "skinny GEMM, 32 rows, 4 waves",
        "ROCm/aiter#5137",
        "skinny_gemm",
        {"m": 32, "n": 1280, "k": 8192},
        "mi355x",
        "3.7.1",
        "3.8.0",
        "no spills, the mend",
        False,
        {"waves_per_eu": 4},
    ),
    Case(
        "MXFP4 experts, decode tile",
        "ROCm/triton#970",
        "mxfp4_experts",
        _DECODE,
        "mi300x",
        "3.6.0",
        "3.8.0",
        "82.3 -> 134.6 us",
        True,
    ),
    Case(
        "MXFP4 experts, decode tile",
        "ROCm/triton#970",
        "mxfp4_experts",
        _DECODE,
        "mi300x",
        "3.6.0",
        "3.7.1",
        "82.3 -> 80.4 us without the trackers flag, as on PyPI",
        False,
    ),
    Case(
        "MXFP4 experts, prefill tile",
        "ROCm/triton#970",
        "mxfp4_experts",
        _PREFILL,
        "mi300x",
        "3.6.0",
        "3.7.1",
        "577 and 581 us: not affected",
        False,
    ),
    Case(
        "extend attention, 64 keys a step",
        "sgl-project/sglang#34741",
        "extend_attention",
        _EXTEND,
        "mi355x",
        "3.6.0",
        "3.7.1",
        "5.99 -> 13.78 ms; 483 -> 512 registers, 472 B of scratch",
        True,
    ),
    Case(
        "extend attention, 32 keys a step",
        "sgl-project/sglang#34741",
        "extend_attention",
        _EXTEND,
        "mi355x",
        "3.6.0",
        "3.7.1",
        "no spills, the mend",
        False,
        {"BLOCK_N": 32},
    ),
    Case(
        "sparse decode, 4 warps",
        "triton-lang/triton#11373",
        "sparse_decode",
        _SPARSE,
        "a100",
        "3.6.0",
        "3.7.1",
        "1885 -> 3761 us",
        True,
    ),
    Case(
        "sparse decode, 8 warps",
        "triton-lang/triton#11373",
        "sparse_decode",
        _SPARSE,
        "a100",
        "3.6.0",
        "3.7.1",
        "1901 -> 1931 us",
        False,
        {"num_warps": 8},
    ),
)

_OLD = "releases before 3.6 are not supported"
UNREACHABLE = (
    Unreachable("stackav-oss/conch#20", "3.1 -> 3.2: paged attention +50 % on H100, none on A10", _OLD),
    Unreachable("sgl-project/sglang#20023", "one MoE kernel over 3.4, 3.5 and 3.6", _OLD),
    Unreachable("triton-lang/triton#9757", "3.5 -> 3.6: gated delta rule +35 % on H20", _OLD),
    Unreachable("triton-lang/triton#9703", "3.5.1 -> 3.6.0: descriptor load and reduction", _OLD),
    Unreachable("vllm-project/vllm#43153", "3.4 -> 3.6: MoE in int4 at half speed on MI355X", _OLD),
    Unreachable(
        "triton-lang/triton#11763",
        "MXFP4 GEMM at half speed on MI350X by one LLVM flag",
        "no release on PyPI sets the flag; AMD's own wheels do",
    ),
    Unreachable(
        "triton-lang/triton#11663",
        "skinny GEMMs on MI350X with an LLVM flag and without",
        "no pair of releases: one compiler, with the flag and without",
    ),
    Unreachable(
        "intel/intel-xpu-backend-for-triton#7778", "3.7.1 -> 3.7.2: MoE +50 % on a B60", "a back end that is not here"
    ),
    Unreachable(
        "state-spaces/mamba#904", "ptxas error C7907 on sm_100", "no pair of releases: sm_90 is compared with sm_100"
    ),
    Unreachable(
        "triton-lang/triton#1756",
        "sin and cos always spill",
        "no pair of releases: the stack is that of their slow path",
    ),
)
