"""Names of devices: as users, other projects and drivers spell them, and what a name that means none may mean."""

from __future__ import annotations

import re
from collections.abc import Sequence

from autotune import arch as archs
from autotune.device_record import Device


def plain(name: str) -> str:
    """`name` without case and marks: MI300X and mi-300x are one."""
    return re.sub(r"[^a-z0-9]", "", name.lower())


def spellings(records: Sequence[Device]) -> dict[str, str]:
    """The plain form of each name of a record, and of other projects' names for it -> its name."""
    aliases = {plain(alias): device.name for device in records for _, given in device.aliases for alias in given}
    return aliases | {plain(device.name): device.name for device in records}


def called_arch(name: str) -> str | None:
    """The arch that `name` spells: sm_90, SM90, gfx950."""
    return next((arch for arch in archs.names() if plain(arch) == plain(name)), None)


def how_to_add(name: str) -> str:
    """The remedy for a GPU without a record."""
    return f"to add it: `autotune devices add {name} --like RECORD --set compute_units=N`, or --from-this-gpu on it"


def hint(name: str, records: Sequence[Device]) -> str:
    """The devices of an arch, or the device that `name` spells otherwise (letters and first number agree), or all; and
    how to add one.

    Letters alone would not do: mi100 is close to sm_100, and B200 to H200, which are other GPUs.
    """
    arch = called_arch(name)
    if arch:
        devices = [device.name for device in records if device.arch == arch]
        return f"; it is an arch, of these devices: {', '.join(devices) or 'none'}"

    def model(text: str) -> str:
        return "".join(re.findall(r"[a-z]+|\d+", text)[:2])

    asked = plain(name)
    known = {plain(word): word for word in archs.names()} | spellings(records)
    near = sorted({word for spelled, word in known.items() if model(spelled) == model(asked)})
    if near:
        return f"; did you mean {' or '.join(map(repr, near))}? If it is none of these, {how_to_add(asked)}"
    if re.match(r"(sm|gfx|ascend)\d", asked):
        return f"; {archs.how_to_add(name)}"
    gpus = [record.name for record in records if record.architecture.is_gpu]
    return f"; known: {', '.join(gpus)}; {how_to_add(asked)}"
