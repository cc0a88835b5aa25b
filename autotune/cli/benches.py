"""The bench that `--bench` names."""

from __future__ import annotations

from autotune import device as devices
from autotune.device import Device
from autotune.errors import DeviceError, UsageError
from autotune.tuning.measurement.bench import Bench


def named(text: str | None, device: Device, remote: bool = False) -> Bench | None:
    """The bench called `text`; without a name the GPUs of this machine where they are `device`s, else none.

    `remote`: a cluster measures, and only it knows its GPUs. Raises UsageError.
    """
    from autotune.tuning.measurement import gpu, simulated

    if text == "none":
        return None
    if text not in (None, "gpu"):
        return simulated.parse(str(text))
    if text == "gpu" and remote:
        return gpu.Gpu(slots=1)  # ray_pool asks the cluster how many there are
    try:
        here = devices.current()
    except DeviceError as error:
        if text == "gpu":
            raise UsageError(f"--bench gpu: {error}") from error
        return None
    if here != device:
        if text == "gpu":
            raise UsageError(f"--bench gpu: --device says {device.name}, the GPU in this machine is {here.name}")
        return None
    return gpu.Gpu(slots=gpu.count())
