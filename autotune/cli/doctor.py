"""`autotune doctor`: what this machine can do, and what is missing."""

from __future__ import annotations

import argparse
import importlib.metadata
import os
import shutil
from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

from autotune import device as devices
from autotune import packages, registry, runtime, table
from autotune.cli.output import Commands, command, show_rows
from autotune.device import Device
from autotune.errors import AutotuneError, DeviceError, ToolchainError
from autotune.state import state_root
from autotune.toolchain import (
    CLUSTER,
    LEARN,
    PROVE,
    SHARE,
    TUNE,
    USES,
    Use,
    back_end,
    compilers_for,
    order,
    remedy,
    require,
    triton_version,
    was_tried,
)
from autotune.tuning.measurement.bench import Bench
from autotune.tuning.measurement.race import LOOKS

if TYPE_CHECKING:
    from autotune.tuning.session.noise import Noise

Diagnosis = tuple[str, bool, str]

_BACK_ENDS = {"nvidia": ("compile for NVIDIA", "sm_100"), "amd": ("compile for AMD", "gfx950")}
_PLAN = "plan for NPUs"
_MEASURE = "measure on a GPU"
_RECORD = "device record"
_OPTIONAL = {name for name, _ in _BACK_ENDS.values()} | {_PLAN, _MEASURE, _RECORD}
_OPTIONAL |= {use.name for use in (CLUSTER, SHARE, LEARN)}
"""Worth saying, no failure: a machine with no GPU tunes to the model, a Triton may be built for one vendor,
a record may round, an extra serves who asks for it, compilers for NPUs are brought on demand."""


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "doctor",
        "what this machine can do, and what is missing; with --timing, the smallest gain that its GPUs can tell",
        "  autotune doctor\n  autotune doctor --timing\n"
        "  autotune doctor --timing --bench simulated:0 --device mi355x   # a rehearsal",
        extra="",
    )
    parser.add_argument("--timing", action="store_true", help="race a kernel against itself and print the noise floor")
    parser.add_argument("--bench", metavar="BENCH", help="gpu (default) or simulated:SEED; with --timing")
    parser.add_argument("--device", help="the device that a simulated bench stands for")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    if arguments.timing:
        return _timing(arguments)
    rows = [{"check": name, "ok": "yes" if fine else "NO", "detail": detail} for name, fine, detail in _findings()]
    show_rows(rows, arguments.json)
    # An engine's image serves and need not tune.
    optional = _OPTIONAL | ({TUNE.name, PROVE.name} if packages.absent(packages.EXTRAS["tune"]) else set())
    return 1 if any(row["ok"] == "NO" and row["check"] not in optional for row in rows) else 0


def _timing(arguments: argparse.Namespace) -> int:
    packages.require(TUNE.extra)
    from autotune.tuning.measurement import gpu, hardware, simulated
    from autotune.tuning.session.noise import noise

    bench: Bench
    if arguments.bench in (None, "gpu"):
        device = devices.current_recorded()
        bench = gpu.Gpu(slots=len(hardware.present(device.name).numbers), kind=device.name)
    else:
        bench = simulated.parse(arguments.bench)
        device = devices.named(arguments.device or "mi355x")
    found = [
        (slot, noise_floor) for slot in range(bench.slots) for noise_floor in noise(bench, device, slot, state_root())
    ]
    rows = [_noise_row(bench, device, slot, noise_floor) for slot, noise_floor in found]
    flushed = f"{device.name}: inputs rotate over more than {device.last_level_mb:.0f} MB of last-level cache"
    show_rows(rows, arguments.json, f"{flushed}; floors in % after {', '.join(map(str, LOOKS))} blocks")
    return 0


def _noise_row(bench: Bench, device: Device, slot: int, noise_floor: Noise) -> dict[str, Any]:
    return {
        "bench": bench.name,
        "device": bench.table_device(device.name),
        "gpu": slot,
        "problem": noise_floor.problem,
        "us": round(noise_floor.us, 3),
        "spread %": round(100 * noise_floor.spread, 2),
        **{f"floor {blocks}": round(100 * floor, 2) for blocks, floor in zip(LOOKS, noise_floor.floors, strict=True)},
        "gain over itself %": round(100 * noise_floor.twin, 2),
        "clock MHz": noise_floor.clock_mhz,
        "throttled": noise_floor.throttled_by or "no",
    }


def _findings() -> Iterator[Diagnosis]:
    yield "packages", *_attempt(_versions)
    if not packages.absent(packages.LAUNCHERS):
        for name, arch in _BACK_ENDS.values():
            yield name, *_attempt(partial(_compilers, arch))
        yield _PLAN, *_attempt(_npu_compilers)
        for use in USES:
            yield use.name, *_attempt(partial(_use, use))
        yield _MEASURE, *_attempt(_gpus)
        yield _RECORD, *_attempt(_record)
    yield "kernels", True, f"{len(registry.names())}; `autotune list` names them"
    yield "tables", *_attempt(_tables)
    state = state_root()
    state.mkdir(parents=True, exist_ok=True)
    free_gb = shutil.disk_usage(state).free / 1e9
    writable = os.access(state, os.W_OK) and free_gb > 1
    yield "state folder", writable, f"{state}, {free_gb:.0f} GB free (AUTOTUNE_STATE names another)"


def _versions() -> str:
    """Raises PackageError where torch or Triton is absent."""
    packages.require_launchers()
    import torch

    versions = {"torch": torch.__version__, "triton": triton_version()}
    if not packages.absent(["optuna"]):
        versions["optuna"] = importlib.metadata.version("optuna")
    return ", ".join(f"{name} {version}" for name, version in versions.items())


def _compilers(arch: str) -> str:
    """Raises PackageError or ToolchainError where nothing can be compiled for `arch`."""
    packages.require(TUNE.extra)
    return compilers_for(arch)


def _npu_compilers() -> str:
    """Raises ToolchainError with the command that brings them."""
    from autotune.tuning.compilation.npu import tools

    return f"{tools.managed(state_root() / 'toolchains').name}; no machine code"


def _use(use: Use) -> str:
    """The compiler that does it. Raises PackageError or ToolchainError with what is lacking, and its remedy."""
    import torch

    triton = triton_version()
    require(use, triton)
    if order(torch.__version__) < order(use.oldest_torch):
        raise ToolchainError(f"torch {torch.__version__} is older than any tried: {use.oldest_torch} is the oldest")
    if use.extra:
        packages.require(use.extra)
    if use is PROVE:
        from autotune.tuning.interpreter.releases import missing_names

        if missing := missing_names():
            raise ToolchainError(f"the interpreter of triton {triton} has no {', '.join(missing)}; {remedy(use)}")
    if use is TUNE and not any(map(back_end, _BACK_ENDS)):
        raise ToolchainError(f"triton {triton} was built without a back end for either vendor; {remedy()}")
    return f"triton {triton}{'' if was_tried(triton) else f', newer than any tried; {remedy()}'}"


def _gpus() -> str:
    from autotune.tuning.measurement import hardware

    found = hardware.present(devices.current().name)
    return "; ".join((f"{len(found.numbers)} x {devices.current().name}", *found.others))


def _record() -> str:
    """Raises DeviceError where the record and the driver disagree."""
    import torch

    from autotune.tuning.measurement import hardware

    if not torch.cuda.is_available():
        return "no GPU to hold one against"
    device = devices.current()
    differ = list(hardware.differences(device, torch.cuda.current_device()))
    if differ:
        raise DeviceError(f"{devices.paths().get(device.name, device.name)}: {'; '.join(differ)}")
    if device.name not in devices.names():
        return f"{device.name} is {device.confidence}; default configs serve, and {devices.HOW_TO_ADD_THIS}"
    return f"{device.name} is as the driver tells"


def _tables() -> str:
    paths = sorted(runtime.tables_root().glob("*/*/*/*.json"))
    rows = sum(len(table.load(path).rows) for path in paths)
    return f"{len(paths)} tables with {rows} rows under {runtime.tables_root()}"


def _attempt(question: object) -> tuple[bool, str]:
    assert callable(question)
    try:
        return True, question()
    except (AutotuneError, OSError) as error:
        return False, str(error)
