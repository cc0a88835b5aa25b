"""Arch records: all that is known of an instruction set and its compute unit, with source and confidence.

A new arch is one entry of `_RECORDS`; a new GPU of a known arch is one file in `devices/`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace

from autotune.errors import DeviceError


@dataclass(frozen=True)
class Multiprocessor:
    """Limits of an NVIDIA multiprocessor (SM): resident threads and blocks, registers of one thread."""

    threads: int
    blocks: int
    thread_registers: int = 255

    @property
    def warps(self) -> int:
        return self.threads // 32


@dataclass(frozen=True)
class ComputeUnit:
    """Limits of an AMD compute unit of four SIMDs: VGPRs of a SIMD lane and their granule, waves of a SIMD, granule of
    LDS in bytes, registers of one thread."""

    vgprs: int
    vgpr_granule: int
    waves: int
    lds_granule: int
    thread_registers: int

    @property
    def warps(self) -> int:
        return 4 * self.waves


@dataclass(frozen=True)
class AiCore:
    """Memories of a Huawei AI core, in bytes: of each of its `vector_cores` the unified buffer (UB), of its cube core
    L1, the two operand buffers (L0A, L0B) and the accumulators (L0C)."""

    vector_cores: int
    ub_bytes: int
    l1_bytes: int
    l0_bytes: int
    l0c_bytes: int

    @property
    def warps(self) -> int:
        """Raises DeviceError: a core runs one program at a time."""
        raise _has_no("warps")

    @property
    def thread_registers(self) -> int:
        """Raises DeviceError: its programs have no threads."""
        raise _has_no("threads with registers")


def _has_no(part: str) -> DeviceError:
    return DeviceError(f"an NPU has no {part}: occupancy, spills and the cost model are of GPUs; {PLANNED_ONLY}")


PLANNED_ONLY = "`autotune compile --target` and `autotune check --arch` plan kernels for NPUs, and nothing else does"
"""The remedy of every refusal of an NPU."""


@dataclass(frozen=True)
class Accumulation:
    """How matrix units add FP8 products to an fp32 sum where they keep fewer bits than fp32 has: one instruction aligns
    `terms` products and the sum so far to the largest exponent among them, cuts each off at `bits` fraction bits
    below it, adds them exactly, and cuts the result off at `bits` fraction bits of its own."""

    bits: int
    terms: int


@dataclass(frozen=True, eq=False)
class Arch:
    """One arch, as `gfx950` or `sm_100`."""

    name: str
    backend: str
    """Triton's: cuda or hip; npu for Huawei's, of which Triton itself has none."""
    warp_size: int
    limits: Multiprocessor | ComputeUnit | AiCore
    shared_bytes_per_block: int
    shared_bytes_per_unit: int
    fp8: str
    """The e4m3 format of the matrix units: e4m3fn (OCP), or e4m3fnuz."""
    native_fp4: bool
    """True if `tl.dot_scaled` of FP8 by FP4 becomes one matrix instruction; elsewhere it is emulated in bf16."""
    fp8_sums: Accumulation | None
    """None: to fp32 or better, as every kernel's error bound allows for, or there are no FP8 matrix units."""
    group_mma: str | None
    """The instruction that four warps share, with operands in shared memory and 64 rows at least: wgmma, tcgen05."""
    direct_to_lds: bool
    """AMD: whether loads go to LDS without passing registers, so that each stage has a buffer of its own."""
    ladder: Mapping[str, str] | None
    """Operand type (bf16, fp8, fp4) -> regular expression of its best matrix instruction; types that the matrix units
    lack are missing; None: not known, so nothing is judged."""
    stand_in: str
    """The device record that lends its rates to compile for this arch where no record has it."""
    figures: Mapping[str, str]
    """Field -> "how sure: from where", as in device records."""
    oldest_triton: str = "3.6.0"
    """The first of the releases in `toolchain.TRIED` that compiles for it; LLVM aborts the process in older ones."""

    @property
    def vendor(self) -> str:
        """One of VENDORS."""
        return VENDORS[self.backend]

    @property
    def is_gpu(self) -> bool:
        return not isinstance(self.limits, AiCore)

    @property
    def ai_core(self) -> AiCore:
        """The memories of an NPU's core. Raises DeviceError for a GPU."""
        if not isinstance(self.limits, AiCore):
            raise DeviceError(f"{self.name} is an arch of GPUs: it has no AI core; name one of {', '.join(npus())}")
        return self.limits

    @property
    def capability(self) -> int:
        """NVIDIA's compute capability without its point: 90 of sm_90."""
        return int(self.name.removeprefix("sm_"))

    @property
    def target(self) -> tuple[str, int | str, int]:
        """Arguments of Triton's GPUTarget: ("cuda", 90, 32), ("hip", "gfx950", 64), ("npu", "ascend950", 32)."""
        return self.backend, self.capability if self.backend == "cuda" else self.name, self.warp_size


VENDORS = {"cuda": "nvidia", "hip": "amd", "npu": "huawei"}
"""The vendor of each backend."""


def names(vendor: str | None = None) -> list[str]:
    """The known archs, of one vendor or of all: NVIDIA's, AMD's, Huawei's."""
    return [name for name, record in _RECORDS.items() if vendor in (None, record.vendor)]


def gpus() -> list[str]:
    """The archs that kernels are tuned and served on."""
    return [name for name, record in _RECORDS.items() if record.is_gpu]


def npus() -> list[str]:
    """The archs that kernels are only planned for."""
    return [name for name, record in _RECORDS.items() if not record.is_gpu]


def named(name: str) -> Arch:
    """The record of an arch. Raises DeviceError that says how to add one."""
    record = _RECORDS.get(name) or _DERIVED.get(name)
    if record is None:
        raise DeviceError(f"unknown arch {name!r}; {how_to_add(name)}")
    return record


def family(name: str) -> Arch:
    """The record of an arch, or of its nearest relation of the same generation, which then stands for it in this
    process: enough to serve default configs on a GPU that is here. Raises DeviceError where there is no relation.

    Of sm_87 it is sm_86, of gfx906 gfx908: the newest that is no newer, else the oldest. What its matrix units do best
    is not known.
    """
    if name in _RECORDS:
        return _RECORDS[name]
    version = _version(name)
    relations = [record for record in map(named, gpus()) if _version(record.name)[:2] == version[:2]]
    if not relations:
        raise DeviceError(f"this GPU has arch {name}, which has no record; {how_to_add(name)}")
    relations.sort(key=lambda record: _version(record.name))
    nearest = next((record for record in reversed(relations) if _version(record.name) <= version), relations[0])
    figures = dict.fromkeys(nearest.figures, f"derived: from its relation {nearest.name}")
    _DERIVED[name] = replace(nearest, name=name, ladder=None, figures=figures)
    return nearest


def _version(name: str) -> tuple[str, int, int]:
    """Vendor, generation, and the rest of an arch's number: ("sm_", 8, 6), ("gfx", 9, 0x0a), ("gfx", 12, 0x50)."""
    prefix, digits = ("sm_", name[3:]) if name.startswith("sm_") else ("gfx", name[3:])
    last = 1 if prefix == "sm_" else 2
    try:
        return prefix, int(digits[:-last]), int(digits[-last:], 16)
    except ValueError:
        return prefix, -1, 0


def how_to_add(name: str) -> str:
    """The remedy for an arch without a record: where it goes, and each field that it must state."""
    stated = ", ".join(field.name for field in fields(Arch) if field.name != "name")
    return f"known: {', '.join(names())}; to add {name}, give it a record in {__file__} with {stated}"


SERVED = ("gfx942", "gfx950", "sm_90", "sm_100", "sm_103")
"""Archs that engines serve the models on: where each default config must spill nothing and use the best instruction."""

_MMA_SIM = "MMA-Sim (Xie et al. 2025, arXiv 2511.10909); SageAttention2 (arXiv 2411.10958) found the same 13 bits"
_COMPILED = "measured: norm/rms_norm compiled with each release of toolchain.TRIED"
_PTX = "read: PTX ISA 9, and what Triton 3.9 emits"
_CUDA = {
    "backend": "read: Triton 3.9, backends/nvidia",
    "warp_size": "read: CUDA C++ Programming Guide",
    "limits": "read: cuda_occupancy.h of CUDA 13.5; threads from the CUDA C++ Programming Guide",
    "shared_bytes_per_block": "read: cuda_occupancy.h of CUDA 13.5, less the driver's 1 KB",
    "shared_bytes_per_unit": "read: cuda_occupancy.h of CUDA 13.5",
    "fp8": "read: PTX ISA 9",
    "native_fp4": _PTX,
    "fp8_sums": "read: 25 fraction bits, MMA-Sim (Xie et al. 2025, arXiv 2511.10909) in simulator/nv.py",
    "group_mma": _PTX,
    "direct_to_lds": "read: no LDS",
    "ladder": _PTX,
    "stand_in": "estimated: a device of the arch, or of the nearest relation",
    "oldest_triton": _COMPILED,
}
_AMD_ISA = "read: AMD's ISA documents, and what Triton 3.9 emits"
_HIP = {
    "backend": "read: Triton 3.9, backends/amd",
    "warp_size": "read: Triton 3.9, HIPOptions",
    "limits": "read: LLVM AMDGPUBaseInfo.cpp",
    "shared_bytes_per_block": "read: LLVM AMDGPUBaseInfo.cpp",
    "shared_bytes_per_unit": "read: LLVM AMDGPUBaseInfo.cpp",
    "fp8": "read: Triton 3.9, HIPOptions",
    "native_fp4": _AMD_ISA,
    "fp8_sums": "estimated: as on gfx942, 24 fraction bits in MMA-Sim (Xie et al. 2025, arXiv 2511.10909)",
    "group_mma": "read: no instruction that warps share",
    "direct_to_lds": "read: Triton 3.9, is_async_copy_enabled",
    "ladder": _AMD_ISA,
    "stand_in": "estimated: a device of the arch, or of the nearest relation",
    "oldest_triton": _COMPILED,
}

_MMA_SYNC = {"bf16": r"mma\.sync.*\.bf16\.bf16"}
_MMA_SYNC_FP8 = _MMA_SYNC | {"fp8": r"mma\.sync.*(\.e4m3\.e4m3|f8f6f4)"}
_TCGEN05 = {
    "bf16": r"tcgen05\.mma.*kind::f16",
    "fp8": r"tcgen05\.mma.*kind::(mx)?f8f6f4",
    "fp4": r"tcgen05\.mma.*kind::mxf4(nvf4)?\b",
}

_SM_80 = Arch(
    name="sm_80",
    backend="cuda",
    warp_size=32,
    limits=Multiprocessor(threads=2048, blocks=32),
    shared_bytes_per_block=163 << 10,
    shared_bytes_per_unit=164 << 10,
    fp8="e4m3fn",
    native_fp4=False,
    fp8_sums=None,
    group_mma=None,
    direct_to_lds=False,
    ladder=_MMA_SYNC,
    stand_in="a100",
    figures=_CUDA
    | {
        "fp8": "read: no FP8 in the matrix units; e4m3fn is what engines store",
        "fp8_sums": "read: no FP8 in the matrix units",
    },
)
_SM_86 = replace(
    _SM_80,
    name="sm_86",
    stand_in="a10",
    limits=Multiprocessor(threads=1536, blocks=16),
    shared_bytes_per_block=99 << 10,
    shared_bytes_per_unit=100 << 10,
)
_SM_89 = replace(
    _SM_80,
    name="sm_89",
    limits=Multiprocessor(threads=1536, blocks=24),
    shared_bytes_per_block=99 << 10,
    shared_bytes_per_unit=100 << 10,
    fp8_sums=Accumulation(bits=13, terms=16),
    ladder=_MMA_SYNC_FP8,
    stand_in="l40",
    figures=_CUDA | {"fp8_sums": f"read: {_MMA_SIM}; m16n8k32 adds 16 products at a time"},
)
_SM_90 = replace(
    _SM_80,
    name="sm_90",
    shared_bytes_per_block=227 << 10,
    shared_bytes_per_unit=228 << 10,
    fp8_sums=Accumulation(bits=13, terms=32),
    group_mma="wgmma",
    ladder={"bf16": r"wgmma.*\.bf16\.bf16", "fp8": r"wgmma.*\.e4m3\.e4m3"},
    stand_in="h100",
    figures=_CUDA | {"fp8_sums": f"read: {_MMA_SIM}; wgmma, while mma.sync widens FP8 to fp16 here"},
)
_SM_100 = replace(
    _SM_90,
    name="sm_100",
    native_fp4=True,
    fp8_sums=None,
    group_mma="tcgen05",
    ladder=_TCGEN05,
    stand_in="b200",
    figures=_CUDA,
)
_SM_103 = replace(_SM_100, name="sm_103", stand_in="b300")
_SM_107 = replace(
    _SM_100,
    name="sm_107",
    stand_in="vr200",
    oldest_triton="3.9.0",
    limits=Multiprocessor(threads=2048, blocks=16),
    shared_bytes_per_block=327 << 10,
    shared_bytes_per_unit=328 << 10,
    figures=_CUDA
    | {
        "fp8_sums": "estimated: as on sm_100",
        "limits": "read: cuda_occupancy.h of CUDA 13.5 for blocks; estimated: as many threads as on sm_100",
        "shared_bytes_per_block": "derived: 1 KB less than a multiprocessor has, as on every arch before",
        "stand_in": "unconfirmed: Rubin's figures as announced",
    },
)
_SM_110 = replace(
    _SM_100,
    name="sm_110",
    stand_in="thor",
    oldest_triton="3.7.1",
    limits=Multiprocessor(threads=1536, blocks=24),
    figures=_CUDA
    | {
        "fp8_sums": "estimated: as on sm_100",
        "limits": "read: cuda_occupancy.h of CUDA 13.5 for blocks; unconfirmed: threads, from memory of CUDA's tables",
    },
)
_SM_120 = replace(
    _SM_89,
    name="sm_120",
    fp8_sums=None,
    ladder=_MMA_SYNC_FP8 | {"fp4": r"mma\.sync.*kind::mxf4"},
    stand_in="rtx_5090",
    # Spills at 128 rows in bf16 (255 registers).
    figures=_CUDA | {"native_fp4": "read: FP4 by FP4 only; Triton 3.9 widens FP8 by FP4 to bf16"},
)
_SM_121 = replace(_SM_120, name="sm_121", stand_in="gb10")
_CDNA = ComputeUnit(vgprs=512, vgpr_granule=8, waves=8, lds_granule=512, thread_registers=512)
_GFX90A = Arch(
    name="gfx90a",
    backend="hip",
    warp_size=64,
    limits=_CDNA,
    shared_bytes_per_block=64 << 10,
    shared_bytes_per_unit=64 << 10,
    fp8="e4m3fn",
    native_fp4=False,
    fp8_sums=None,
    group_mma=None,
    direct_to_lds=False,
    ladder={"bf16": r"v_mfma_f32_\w+bf16_1k"},
    stand_in="mi250x",
    figures=_HIP
    | {
        "fp8": "read: no FP8 in the matrix units; Triton 3.9 widens it to fp16",
        "fp8_sums": "read: no FP8 in the matrix units",
    },
)
_GFX908 = replace(
    _GFX90A,
    name="gfx908",
    limits=ComputeUnit(vgprs=256, vgpr_granule=4, waves=10, lds_granule=512, thread_registers=256),
    ladder={"bf16": r"v_mfma_f32_(16x16x8|32x32x4)bf16"},
)
_GFX942 = replace(
    _GFX90A,
    name="gfx942",
    fp8="e4m3fnuz",
    ladder={"bf16": r"v_mfma_f32_\w+_bf16", "fp8": r"v_mfma_f32_\w+_fp8_fp8"},
    stand_in="mi300x",
    figures=_HIP | {"fp8_sums": "read: 24 fraction bits, MMA-Sim (Xie et al. 2025, arXiv 2511.10909)"},
)
_GFX950 = replace(
    _GFX942,
    name="gfx950",
    limits=replace(_CDNA, lds_granule=1280),
    shared_bytes_per_block=160 << 10,
    shared_bytes_per_unit=160 << 10,
    fp8="e4m3fn",
    native_fp4=True,
    direct_to_lds=True,
    ladder={
        "bf16": r"v_mfma_f32_(16x16x32|32x32x16)_bf16",
        "fp8": r"v_mfma_(scale_)?f32_\w+_f8f6f4",
        "fp4": r"v_mfma_scale_f32_\w+_f8f6f4",
    },
    stand_in="mi350x",
    figures=_HIP,
)
_RDNA = ComputeUnit(vgprs=1536, vgpr_granule=24, waves=16, lds_granule=512, thread_registers=256)
_GFX1201 = replace(
    _GFX942,
    name="gfx1201",
    warp_size=32,
    limits=_RDNA,
    shared_bytes_per_unit=128 << 10,
    fp8="e4m3fn",
    ladder={"bf16": r"v_wmma_f32_\w+_bf16", "fp8": r"v_wmma_f32_\w+_fp8_fp8"},
    stand_in="r9700",
    figures=_HIP,
)
_GFX1200 = replace(_GFX1201, name="gfx1200")
_GFX1100 = replace(_GFX1201, name="gfx1100", ladder={"bf16": r"v_wmma_f32_\w+_bf16"}, figures=_GFX90A.figures)
_GFX1151 = replace(_GFX1100, name="gfx1151", stand_in="strix_halo")
_GFX1250 = replace(
    _GFX1201,
    name="gfx1250",
    limits=ComputeUnit(vgprs=1024, vgpr_granule=16, waves=16, lds_granule=2048, thread_registers=1024),
    shared_bytes_per_block=320 << 10,
    shared_bytes_per_unit=320 << 10,
    native_fp4=True,
    direct_to_lds=True,
    ladder={
        "bf16": r"v_wmma_f32_16x16x32_bf16",
        "fp8": r"v_wmma_(f32_16x16x128_fp8_fp8|scale_f32_\w+_f8f6f4)",
        "fp4": r"v_wmma_scale_f32_\w+_(f8f6f4|f4)",
    },
    stand_in="gfx1250",
    figures=_HIP | {"ladder": "estimated: the widest names in LLVM's VOP3PInstructions.td; no ISA document is public"},
)

_TARGET_SPEC = "read: dlti.target_system_spec in what bishengir-compile 1.2.0 writes"
_NPU = {
    "backend": "read: triton-ascend 3.2.0",
    "warp_size": "estimated: no warps; Triton's front end asks for a number, and nothing here reads it",
    "limits": _TARGET_SPEC,
    "shared_bytes_per_block": f"{_TARGET_SPEC}: UB_SIZE of a vector core",
    "shared_bytes_per_unit": "derived: UB_SIZE of two vector cores",
    "fp8": "read: no FP8 in the cube core; e4m3fn is what engines store",
    "native_fp4": "read: tl.dot_scaled of triton-ascend 3.2.0 takes bf16 and fp16 only",
    "fp8_sums": "read: no FP8 in the cube core",
    "group_mma": "read: no instruction that warps share",
    "direct_to_lds": "read: no LDS",
    "ladder": "measured: calls in what bishengir-compile 1.2.0 planned for gemm/bf16_linear",
    "stand_in": "estimated: the device of the arch whose platform file is public",
    "oldest_triton": "measured: the only release whose TTIR was given to triton-adapter-opt 3.2.0",
}
_ASCEND910B = Arch(
    name="ascend910b",
    backend="npu",
    warp_size=32,
    limits=AiCore(vector_cores=2, ub_bytes=192 << 10, l1_bytes=512 << 10, l0_bytes=64 << 10, l0c_bytes=128 << 10),
    shared_bytes_per_block=192 << 10,
    shared_bytes_per_unit=384 << 10,
    fp8="e4m3fn",
    native_fp4=False,
    fp8_sums=None,
    group_mma=None,
    direct_to_lds=False,
    ladder={"bf16": r"mma_tile_bfloat16_t"},
    stand_in="ascend910b2",
    figures=_NPU,
    oldest_triton="3.9.0",
)
_ASCEND950 = replace(
    _ASCEND910B,
    name="ascend950",
    limits=AiCore(vector_cores=2, ub_bytes=248 << 10, l1_bytes=512 << 10, l0_bytes=64 << 10, l0c_bytes=256 << 10),
    shared_bytes_per_block=248 << 10,
    shared_bytes_per_unit=496 << 10,
    ladder={"bf16": r"mma_tile_bfloat16_t", "fp8": r"mma_tile_float8_e4m3_t"},
    stand_in="ascend950pr",
    figures=_NPU
    | {
        "fp8": "measured: tl.dot of e4m3fn is planned as mma_tile_float8_e4m3_t_to_float",
        "fp8_sums": "unconfirmed: taken as fp32; nothing public says how the cube core adds",
        "ladder": "measured: calls in what bishengir-compile-a5 1.2.0 planned for bf16 and FP8 products",
    },
)

_RECORDS = {
    record.name: record
    for record in (
        *(_SM_80, _SM_86, _SM_89, _SM_90, _SM_100, _SM_103, _SM_107, _SM_110, _SM_120, _SM_121),
        *(_GFX908, _GFX90A, _GFX942, _GFX950, _GFX1100, _GFX1151, _GFX1200, _GFX1201, _GFX1250),
        *(_ASCEND910B, _ASCEND950),
    )
}

_DERIVED: dict[str, Arch] = {}
"""Archs of GPUs of this machine that have no record, after their relations."""
