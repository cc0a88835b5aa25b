"""The compilers that this package works with: which Triton release serves which use, and the names of what is here.

A new Triton release is one change here: the next entry of TRIED. Everything else (the Makefile, pyproject.toml,
the messages, `autotune doctor`, `autotune check`) reads this module or is held against it by a test. Importing it
imports neither Torch nor Triton, so that what Triton reads at import can still be set.
"""

from __future__ import annotations

import dataclasses
import os
import re
import subprocess
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from types import ModuleType

from autotune import arch as archs
from autotune.errors import DeviceError, ToolchainError, UsageError

TRIED = ("3.6.0", "3.7.1", "3.8.0", "3.9.0")
"""Triton releases, oldest first, on each of which tests/runtime/test_releases.py tunes and proves."""

NEWEST = TRIED[-1]
"""The release that the Makefile installs and that messages recommend."""

OLDEST_TORCH = "2.11.0"
"""The oldest torch on which the quick tests have passed: what every use but serving needs."""

_FP_FUSION = "TRITON_DEFAULT_FP_FUSION"


@dataclass(frozen=True)
class Use:
    """Something that an environment is for: the oldest releases that can do it, and the extra that it needs."""

    name: str
    oldest: str
    """Triton release."""
    lacks: str
    """Words that end a refusal: what an older release does not have."""
    extra: str = "tune"
    """One of `packages.EXTRAS`; empty where torch and Triton are enough."""
    oldest_torch: str = OLDEST_TORCH


SERVE = Use(
    "serve tuned configs", TRIED[0], "3.5.1 does not compile indexer/paged_logits", extra="", oldest_torch="2.9.1"
)
TUNE = Use("compile and tune", TRIED[0], "older releases were never tried")
PROVE = Use("prove configs in the interpreter", TRIED[0], "older interpreters were never tried")
MEASURE_FP4 = Use("measure FP4 on tcgen05", "3.7.1", "3.6 does not compile a loop of block-scaled products")
CLUSTER = Use("tune on a cluster", TRIED[0], "older releases were never tried", extra="ray")
SHARE = Use("share trials in PostgreSQL", TRIED[0], "older releases were never tried", extra="postgresql")
LEARN = Use("learn from measured trials", TRIED[0], "older releases were never tried", extra="learn")
USES = (SERVE, TUNE, PROVE, CLUSTER, SHARE, LEARN)


def release(version: str) -> tuple[int, int]:
    """Major and minor number: (3, 8) of "3.8.0", "3.8.0+git4cff872c", "3.8.0.post1" and "3.8.0rc2".

    Raises UsageError where `version` does not begin with two numbers.
    """
    numbers = re.match(r"(\d+)\.(\d+)", version)
    if not numbers:
        raise UsageError(f"Triton version {version!r}: expected a release such as {NEWEST}; {remedy()}")
    return int(numbers[1]), int(numbers[2])


def order(version: str) -> tuple[int, ...]:
    """Sorts final releases of any compiler by their numbers: 3.8.0 before 3.8.0.post1 before 3.10.0."""
    return tuple(int(number) for number in re.findall(r"\d+", version.partition("+")[0]))


def supports(use: Use, version: str) -> bool:
    """True if a Triton of this version can do it; versions newer than those tried are assumed to."""
    return release(version) >= release(use.oldest)


def require(use: Use, version: str) -> None:
    """Raises ToolchainError, with the remedy, where a Triton of this version is too old for `use`."""
    if not supports(use, version):
        raise ToolchainError(refusal(use, version))


def refusal(use: Use, version: str) -> str:
    """Words that say why a Triton of this version cannot do it, and the remedy."""
    return f"triton {version} is too old to {use.name}: {use.lacks}; {remedy(use)}"


def require_arch(arch: str, version: str) -> None:
    """Raises ToolchainError, with the remedy, where a Triton of this version is too old to compile for `arch`."""
    oldest = archs.named(arch).oldest_triton
    require(Use(f"compile for {arch}", oldest, "its LLVM does not know it"), version)


def was_tried(version: str) -> bool:
    """True if the release is no newer than the newest that the tests have run on."""
    return release(version) <= release(NEWEST)


def remedy(use: Use = TUNE) -> str:
    """Words for the end of an error message: which releases can, and the command that installs one."""
    first, last = (".".join(map(str, release(version))) for version in (use.oldest, NEWEST))
    known = f"{first} is" if first == last else f"{first} to {last} are"
    return f"Triton {known} known to work: pip install triton=={NEWEST}"


def compiler_environment() -> dict[str, str]:
    """Variables of every process that compiles, to be set before Triton is imported; what the caller has set stays.

    Triton up to 3.9 fuses multiply and add by default, and 3.10 will not. Tables are tied to one choice.
    """
    return {_FP_FUSION: os.environ.get(_FP_FUSION, "1")}


def triton_version() -> str:
    """Version of the Triton that this process imports; its distribution may have another name, as ROCm's has."""
    import triton

    return str(triton.__version__)


def recorded_triton(toolchain: str) -> str | None:
    """The Triton version in a row's toolchain: "3.8.0" of "triton 3.8.0, ptxas 13.0.88"; None where it names none."""
    named = re.match(r"triton (\d[^\s,]*)", toolchain)
    return named[1] if named else None


def back_end(vendor: str) -> ModuleType | None:
    """Triton's compiler of "amd" or "nvidia"; None where this Triton was built without it."""
    try:
        return import_module(f"triton.backends.{vendor}.compiler")
    except ImportError:
        return None


def launch_options(vendor: str) -> frozenset[str] | None:
    """Options that the back end of `vendor` takes beside the constexprs; None where this Triton was built without it.

    NPUs have no warps, and a plan for them takes the constexprs alone.

    ROCm's and CUDA's own builds of Triton may hold one vendor's back end alone; they tune for that vendor.
    """
    if vendor == "huawei":
        return frozenset()
    compiler = back_end(vendor)
    if compiler is None:
        return None
    options = compiler.HIPOptions if vendor == "amd" else compiler.CUDAOptions
    return frozenset(field.name for field in dataclasses.fields(options))


@cache
def compilers_for(arch: str) -> str:
    """`triton 3.9.0, ptxas 13.4.59` for NVIDIA, `triton 3.9.0` for AMD, whose LLVM is part of Triton.

    It goes into caches and rows. Raises ToolchainError where this Triton was built without the vendor's back end, or is
    too old for the arch, and DeviceError for an NPU, for which nothing makes machine code.
    """
    record, version = archs.named(arch), triton_version()
    if not record.is_gpu:
        raise DeviceError(f"no compiler makes machine code for {arch} here; {archs.PLANNED_ONLY}")
    require_arch(arch, version)
    compiler = back_end(record.vendor)
    if compiler is None:
        raise ToolchainError(
            f"triton {version} was built without {record.vendor}'s back end, which {arch} needs; {remedy()}"
        )
    if record.vendor == "amd":
        return f"triton {version}"
    ptxas = compiler.get_ptxas(record.capability).path
    text = subprocess.run([ptxas, "--version"], capture_output=True, text=True, check=True).stdout
    number = re.search(r"V([\d.]+)", text)
    return f"triton {version}, ptxas {number[1] if number else 'unknown'}"
