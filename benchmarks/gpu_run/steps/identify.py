"""Who is there: versions, what torch and the driver say of the GPU, and the record that stands for it."""

from __future__ import annotations

import platform
import subprocess

import torch

from autotune.toolchain import triton_version
from benchmarks.gpu_run.context import Context

_DRIVER = (
    ("nvidia-smi", "-q"),
    ("nvidia-smi", "--query-compute-apps=pid,used_memory", "--format=csv"),
    ("rocm-smi", "--showall"),
)


def run(context: Context) -> None:
    versions = {"python": platform.python_version(), "torch": torch.__version__, "triton": triton_version()}
    built = {"cuda": torch.version.cuda, "hip": torch.version.hip}
    context.add("versions", **versions, **built, device=context.device.name, bench=context.bench_name)
    if context.is_gpu:
        properties = torch.cuda.get_device_properties(0)
        names = [name for name in dir(properties) if not name.startswith("_")]
        context.add("properties", **{name: str(getattr(properties, name)) for name in names})
    for command in _DRIVER:
        try:
            told = subprocess.run(command, capture_output=True, text=True, timeout=max(1.0, context.left()))
        except (OSError, subprocess.TimeoutExpired) as error:
            context.add(" ".join(command), absent=repr(error))
        else:
            context.add(" ".join(command), text=told.stdout[:20000])
