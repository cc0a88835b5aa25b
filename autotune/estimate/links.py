"""Links between the GPUs of one scale-up domain: bandwidth of a GPU, and how many GPUs reach one another so."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.device import Device
from autotune.errors import UsageError

_SPECS = "InferenceX gpu-specs.ts at 39a9911, scaleUpBandwidth and scaleUpWorldSize"


@dataclass(frozen=True)
class Link:
    """Peak bandwidth of one GPU in one direction, and the number of GPUs in the domain."""

    gb_s: float
    gpus: int
    source: str


LINKS = {
    **dict.fromkeys(("h100", "h200"), Link(450, 8, f"{_SPECS}: NVLink 4")),
    "h20": Link(450, 8, "NVIDIA's H20 datasheet: NVLink 900 GB/s in both directions"),
    **dict.fromkeys(("b200", "b300"), Link(900, 8, f"{_SPECS}: NVLink 5")),
    **dict.fromkeys(("gb200", "gb300"), Link(900, 72, f"{_SPECS}: NVLink 5, NVL72")),
    "vr200": Link(1800, 72, "NVIDIA's Vera Rubin announcement: NVLink 6, 3.6 TB/s in both directions"),
    **dict.fromkeys(("mi300x", "mi325x"), Link(448, 8, f"{_SPECS}: Infinity Fabric, full mesh")),
    "mi455x": Link(1800, 72, "AMD's Helios announcement: 260 TB/s in both directions for 72 GPUs"),
    "mi355x": Link(538, 8, f"{_SPECS}: Infinity Fabric, full mesh"),
}
"""By device; a device that is not here cannot be estimated on more than one GPU."""


def link(device: Device, ranks: int) -> Link:
    """Return the link over which `ranks` GPUs reach one another. Raises UsageError where no figure is here for them."""
    if device.name not in LINKS:
        raise UsageError(
            f"{device.name}: no figure of its links, which {ranks} ranks need; known: {', '.join(LINKS)}; give --tp 1"
        )
    joined = LINKS[device.name]
    if ranks > joined.gpus:
        raise UsageError(
            f"{device.name}: links join at most {joined.gpus} GPUs, got {ranks} ranks; give --tp and --ep of at most "
            f"{joined.gpus}, as the network between domains is not modeled"
        )
    return joined
