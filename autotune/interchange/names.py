"""What engines call the GPUs of our records: the marketing names in their file names. Sources: the shipped files."""

from __future__ import annotations

ENGINE_NAMES: dict[str, tuple[str, ...]] = {
    "a100": ("NVIDIA_A100-SXM4-80GB",),
    "b200": ("NVIDIA_B200",),
    "b300": ("NVIDIA_B300_SXM6_AC",),
    "gb200": ("NVIDIA_GB200",),
    "gb300": ("NVIDIA_GB300",),
    "h100": ("NVIDIA_H100_80GB_HBM3",),
    "h20": ("NVIDIA_H20",),
    "h200": ("NVIDIA_H200",),
    "l40": ("NVIDIA_L40",),
    "l40s": ("NVIDIA_L40S",),
    "mi300x": ("AMD_Instinct_MI300X", "AMD_Instinct_MI300X_OAM"),
    "mi325x": ("AMD_Instinct_MI325X", "AMD_Instinct_MI325_OAM"),
    "mi350x": ("AMD_Instinct_MI350_OAM", "AMD_Instinct_MI350X"),
    "mi355x": ("AMD_Instinct_MI355_OAM", "AMD_Instinct_MI355X"),
    "r9700": ("AMD_Radeon_R9700",),
    "rtx_4090": ("NVIDIA_GeForce_RTX_4090",),
    "rtx_5090": ("NVIDIA_GeForce_RTX_5090",),
    "rtx_pro_6000": (
        "NVIDIA_RTX_PRO_6000_Blackwell_Server_Edition",
        "NVIDIA_RTX_PRO_6000_Blackwell_Workstation_Edition",
    ),
}
"""Device record -> names, the usual one first; a driver decides which of them an engine sees, so all are written."""

DEVICE_OF = {name: device for device, names in ENGINE_NAMES.items() for name in names}
