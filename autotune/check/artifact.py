"""The result of compiling one call with one toolchain: resources, hot loop, front-end code, or the failure.

For an NPU it is the plan of each launch in place of resources and hot loop.
"""

from __future__ import annotations

import base64
import hashlib
import re
from collections.abc import Iterable
from dataclasses import dataclass, replace
from types import SimpleNamespace
from typing import Any

from autotune.device import Device
from autotune.errors import DoesNotFit
from autotune.tuning.compilation import resources
from autotune.tuning.compilation.instructions import Loop, hot_loop, mix, nvidia_listing
from autotune.tuning.compilation.npu import findings
from autotune.tuning.compilation.npu.planning import LaunchPlan
from autotune.tuning.compilation.resources import Resources


@dataclass(frozen=True)
class Build:
    """`failed` is empty, or why there is no binary that the device can run; `stage` is then `compile` or `fit`."""

    toolchain: str
    seconds: float
    """Processor time of the compiler."""
    frontend: str
    """Hash of the front end's code (TTIR) without names and source locations."""
    loop: Loop | None = None
    """Opcodes of the heaviest launch's hot loop; None until they are read."""
    resources: Resources | None = None
    failed: str = ""
    stage: str = ""
    late: bool = False
    """True if it was killed at the time limit."""
    plans: tuple[LaunchPlan, ...] = ()
    """Plan of each launch on an NPU, the kernel's own first."""

    @property
    def loop_mix(self) -> dict[str, int]:
        loop = self.loop or ()
        return mix(loop, "amd" if any(opcode.startswith("s_") for opcode in loop) else "nvidia")

    def as_json(self) -> dict[str, Any]:
        found = self.resources.as_json() if self.resources else None
        plans = [launch.as_json() for launch in self.plans]
        return {**self.__dict__, "loop": self.loop and list(self.loop), "resources": found, "plans": plans}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Build:
        found = Resources.from_json(data["resources"]) if data["resources"] else None
        loop, plans = data["loop"] and tuple(data["loop"]), tuple(map(LaunchPlan.from_json, data["plans"]))
        return cls(**{**data, "loop": loop, "resources": found, "plans": plans})


def of_answer(answer: dict[str, Any], device: Device, toolchain: str) -> Build:
    """Reads the binaries of a `compile` answer, both sides of a check by this one reader."""
    if "failed" in answer:
        late = bool(answer.get("late"))
        return Build(toolchain, 0.0, "", failed=answer["failed"], stage="compile", late=late)
    if "launches" in answer:
        return _planned(answer, device)
    binaries = [_binary(binary) for binary in answer["binaries"]]
    made = Build(answer["toolchain"], round(answer["seconds"], 2), _frontend(binary.asm["ttir"] for binary in binaries))
    try:
        return replace(made, resources=resources.read(binaries, device))
    except DoesNotFit as failure:
        return replace(made, failed=str(failure), stage="fit")


def _planned(answer: dict[str, Any], device: Device) -> Build:
    """Reads a `compile` answer of an NPU; the call has failed where one of its launches has no plan."""
    launches = [LaunchPlan.from_json(launch) for launch in answer["launches"]]
    plans = tuple(replace(launch, ttir="") for launch in launches)
    frontend = _frontend(launch.ttir for launch in launches)
    made = Build(answer["toolchain"], round(answer["seconds"], 2), frontend, plans=plans)
    stopped = next((launch for launch in plans if launch.plan is None), None)
    if stopped is None:
        return made
    why = findings.stop(stopped.why, answer["config"], device.arch)
    return replace(made, failed=f"{stopped.function}, {stopped.stage}: {why}", stage="compile")


def _frontend(codes: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(map(_nameless, codes)).encode()).hexdigest()[:16]


def code_of(answer: dict[str, Any], device: Device) -> bytes:
    """Return the input of `loop_of` from a `compile` answer: AMD's assembly or NVIDIA's cubin."""
    main = _binary(answer["binaries"][0]).asm
    return str(main["amdgcn"]).encode() if device.is_amd else bytes(main["cubin"])


def loop_of(code: bytes, device: Device) -> Loop:
    """The hot loop; disassembling a cubin takes as long as half a compile."""
    return hot_loop(code.decode() if device.is_amd else nvidia_listing(code), device.vendor)


def _binary(plain: dict[str, Any]) -> SimpleNamespace:
    codes = {name: base64.b64decode(code) for name, code in plain["codes"].items()}
    attributes = {name: plain[name] for name in ("shared", "num_warps", "num_ctas", "tmem_size")}
    return SimpleNamespace(asm={**plain["texts"], **codes}, metadata=SimpleNamespace(**attributes))


_PLACE = re.compile(r"\s*loc\((?:[^()\"]|\"[^\"]*\"|\([^()]*\))*\)")
_NAME = re.compile(r"%[\w#:]+")
_CONSTANT = re.compile(r"^\s*(%\w+) = arith\.constant (.*)\n", re.MULTILINE)
_FUNCTION = re.compile(r"^(?=\s*tt\.func)", re.MULTILINE)


def _nameless(ttir: str) -> str:
    """Releases name values, order constants and record source places differently; none changes what is computed."""
    kept = "\n".join(line for line in ttir.splitlines() if not line.startswith("#loc"))
    return "".join(map(_nameless_function, _FUNCTION.split(_PLACE.sub("", kept))))


def _nameless_function(text: str) -> str:
    names = {name: f"({value})" for name, value in _CONSTANT.findall(text)}
    return _NAME.sub(lambda found: names.setdefault(found[0], f"%{len(names)}"), _CONSTANT.sub("", text))
