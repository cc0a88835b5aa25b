"""State of a GPU at work by its driver: the clock, and the reasons that hold it down.

Asked of NVML through pynvml or of amdsmi, where one is installed. Each has errors of its own, of which none may fail a
measurement: an answer that does not come is None.
"""

from __future__ import annotations

from contextlib import suppress
from functools import cache
from typing import Any

import torch

_NVML = {0x8: "hardware slowdown", 0x20: "software thermal", 0x40: "hardware thermal", 0x80: "power brake"}
"""Bits of nvmlClocksEventReasons (nvml.h). Left out is the power cap (0x4), which every large product meets."""
_AMDSMI = {
    "active_prochot_thrm": "processor hot",
    "active_socket_thrm": "socket thermal",
    "active_vr_thrm": "voltage regulator thermal",
    "active_hbm_thrm": "HBM thermal",
}
"""Fields of amdsmi_get_violation_status. Left out is the power cap (active_ppt_pwr)."""


def clock_mhz(index: int) -> int | None:
    with suppress(Exception):
        return int(torch.cuda.clock_rate(index)) or None
    return None


def held_back(index: int) -> tuple[str, ...] | None:
    """Why the GPU runs slower than its load alone would make it; None where no driver library tells."""
    for ask in (_nvml, _amdsmi):
        with suppress(Exception):
            return ask(index)
    return None


def _nvml(index: int) -> tuple[str, ...]:
    import pynvml

    # The old name was taken over by the new one in release 12.535.
    ask = getattr(pynvml, "nvmlDeviceGetCurrentClocksEventReasons", None)
    bits = (ask or pynvml.nvmlDeviceGetCurrentClocksThrottleReasons)(_nvml_handle(index))
    return tuple(reason for bit, reason in _NVML.items() if bits & bit)


@cache
def _nvml_handle(index: int) -> Any:  # noqa: ANN401
    import pynvml

    pynvml.nvmlInit()
    # NVML does not know CUDA_VISIBLE_DEVICES: GPUs have other numbers there.
    return pynvml.nvmlDeviceGetHandleByUUID(f"GPU-{torch.cuda.get_device_properties(index).uuid}".encode())


def _amdsmi(index: int) -> tuple[str, ...]:
    import amdsmi

    told = amdsmi.amdsmi_get_violation_status(_amdsmi_handle(index))
    known = {reason: told[name] for name, reason in _AMDSMI.items() if told.get(name) in (True, False)}
    if not known:
        raise LookupError("this driver tells no violations")
    return tuple(reason for reason, active in known.items() if active)


@cache
def _amdsmi_handle(index: int) -> Any:  # noqa: ANN401
    import amdsmi

    amdsmi.amdsmi_init()
    slot: Any = torch.cuda.get_device_properties(index)
    place = f"{slot.pci_domain_id:04x}:{slot.pci_bus_id:02x}:{slot.pci_device_id:02x}.0"
    return amdsmi.amdsmi_get_processor_handle_from_bdf(place)
