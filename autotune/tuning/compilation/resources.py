"""Resources of a binary, read from the binary itself without a GPU."""

from __future__ import annotations

import hashlib
import io
import re
import subprocess
import tempfile
from collections import Counter
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import triton
from elftools.elf.elffile import ELFFile

from autotune.device import Device
from autotune.errors import DoesNotFit
from autotune.tuning.compilation.occupancy import programs_per_unit

_CUOBJDUMP = Path(triton.__file__).parent / "backends/nvidia/bin/cuobjdump"
_MATRIX = re.compile(r"\b(v_s?mfma[a-z_]*_\w+|v_s?wmma\w+|(?:wgmma\.mma_async|tcgen05\.mma|mma\.sync)[.\w:]*)")


@dataclass(frozen=True)
class Resources:
    """Resources of the first launch of `compile_launches`: registers per thread, bytes per program, static counts."""

    registers: int
    spills: int
    """Registers spilled (AMD), or bytes of stack (NVIDIA, where the assembler reports spills as stack)."""
    stack_bytes: int
    shared_bytes: int
    tmem_columns: int
    matrix_instructions: tuple[tuple[str, int], ...]
    code_bytes: int
    num_warps: int
    programs_per_unit: int
    code: str
    """Hash over machine code and launch attributes of all launches: the same hash runs the same."""

    def as_json(self) -> dict[str, Any]:
        return {**asdict(self), "matrix_instructions": dict(self.matrix_instructions)}

    @property
    def evidence(self) -> dict[str, Any]:
        """Spills and names of the matrix instructions, which a row keeps of the binary that was proved."""
        return {"spills": self.spills, "matrix": [name for name, _ in self.matrix_instructions]}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Resources:
        return cls(**{**data, "matrix_instructions": tuple(data["matrix_instructions"].items())})


def read(binaries: list[Any], device: Device) -> Resources:
    """Resources of a call's CompiledKernels. Raises DoesNotFit where the device cannot hold a program."""
    main = binaries[0]
    amd = device.is_amd
    text = main.asm["amdgcn" if amd else "ptx"]
    registers, spills, stack = _amd(text) if amd else _nvidia(main.asm["cubin"])
    metadata = main.metadata
    tmem = int(getattr(metadata, "tmem_size", 0) or 0)
    resident = programs_per_unit(device, registers, metadata.shared, metadata.num_warps, tmem)
    if resident < 1:
        raise DoesNotFit(
            f"{registers} registers, {metadata.shared} B shared memory and {metadata.num_warps} warps do not fit "
            f"{device.arch} ({device.shared_bytes_per_block} B a block); take smaller blocks or fewer stages"
        )
    codes = [_code(binary.asm["hsaco" if amd else "cubin"]) for binary in binaries]
    return Resources(
        registers=registers,
        spills=spills,
        stack_bytes=stack,
        shared_bytes=metadata.shared,
        tmem_columns=tmem,
        matrix_instructions=tuple(sorted(Counter(_MATRIX.findall(text)).items())),
        code_bytes=sum(map(len, codes)),
        num_warps=metadata.num_warps,
        programs_per_unit=resident,
        code=_hash(codes, [(b.metadata.shared, b.metadata.num_warps, b.metadata.num_ctas) for b in binaries]),
    )


def _hash(codes: list[bytes], attributes: list[tuple[int, ...]]) -> str:
    digest = hashlib.sha256(repr(attributes).encode())
    for code in codes:
        digest.update(code)
    return digest.hexdigest()[:16]


def _code(binary: bytes) -> bytes:
    """Machine code sections only: debug information and symbol tables differ between equal kernels."""
    sections = ELFFile(io.BytesIO(binary)).iter_sections()
    return b"".join(section.data() for section in sections if section.name.startswith(".text"))


def _amd(text: str) -> tuple[int, int, int]:
    def field(name: str) -> int:
        return max((int(n) for n in re.findall(rf"\.{name}:?\s+(\d+)", text)), default=0)

    # .vgpr_count is the total with accumulation registers on gfx90a and later.
    return field("vgpr_count"), field("vgpr_spill_count"), field("private_segment_fixed_size")


def _nvidia(cubin: bytes) -> tuple[int, int, int]:
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [str(_CUOBJDUMP), "--dump-resource-usage", file.name]
        output = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    registers = max(int(n) for n in re.findall(r"REG:(\d+)", output))
    stack = max(int(n) for n in re.findall(r"STACK:(\d+)", output))
    return registers, stack, stack
