"""The bench that `--bench` names."""

from __future__ import annotations

import sys

from autotune.device import Device
from autotune.errors import UsageError
from autotune.tuning.measurement.bench import Bench


def named(text: str | None, device: Device, remote: bool = False) -> Bench | None:
    """The bench called `text`; without a name the GPUs of this machine that are `device`s, if any.

    Those of another kind are left alone, and named on stderr.

    `remote`: a cluster measures, and only it knows its GPUs. Raises UsageError.
    """
    from autotune.tuning.measurement import gpu, hardware, simulated

    if text == "none":
        return None
    if text not in (None, "gpu"):
        return simulated.parse(str(text))
    if text == "gpu" and remote:
        return gpu.Gpu(slots=1, kind=device.name)  # ray_executor asks the cluster how many there are
    found = hardware.present(device.name)
    others = ", ".join(found.others)
    if found.numbers:
        if others:
            print(f"{device.name}: {others}; left alone", file=sys.stderr)
        return gpu.Gpu(slots=len(found.numbers), kind=device.name)
    if text == "gpu":
        raise UsageError(f"--bench gpu: --device says {device.name}, but {others or 'no GPU is visible to torch'}")
    return None
