"""The plans of one call: each launch of its kernel, through front end, adapter and planner, or where it stopped."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from triton.runtime import driver
from triton.runtime.jit import JITFunction

from autotune import device as devices
from autotune import registry
from autotune.config import Config, Problem, build
from autotune.device import Device
from autotune.errors import CompileFailed
from autotune.kernel import Kernel
from autotune.state import state_root
from autotune.toolchain import require_arch, triton_version
from autotune.tuning.compilation import launch
from autotune.tuning.compilation.complaint import LONGEST, last_line
from autotune.tuning.compilation.npu import adaptations, front_end, hivm, linalg
from autotune.tuning.compilation.npu.hivm import Plan
from autotune.tuning.compilation.npu.linalg import DiscreteLoop
from autotune.tuning.compilation.npu.tools import Stopped, Tools, managed, to_hivm, to_linalg
from autotune.tuning.workers.worker import Job


@dataclass(frozen=True)
class LaunchPlan:
    """One launch: its plan, or the stage at which it stopped and why. `ttir` is the front end's code, for checks."""

    function: str
    plan: Plan | None = None
    loops: tuple[DiscreteLoop, ...] = ()
    stage: str = ""
    why: str = ""
    ttir: str = ""
    notes: tuple[str, ...] = ()
    """Changes that were made before the compilers saw the code."""

    def as_json(self) -> dict[str, Any]:
        loops = [loop.as_json() for loop in self.loops]
        return {**vars(self), "plan": self.plan and self.plan.as_json(), "loops": loops, "notes": list(self.notes)}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> LaunchPlan:
        plan = data["plan"] and Plan.from_json(data["plan"])
        loops = tuple(DiscreteLoop(**loop) for loop in data["loops"])
        return cls(**{**data, "plan": plan, "loops": loops, "notes": tuple(data["notes"])})


def plan_launches(
    kernel: Kernel[Any], problem: Problem, config: Config, device: Device, tools: Tools
) -> list[LaunchPlan]:
    """The plan of each launch of one call on an NPU, the kernel's own first; one that stops does not stop the others.

    Raises ToolchainError where this Triton is too old.
    """
    require_arch(device.arch, triton_version())
    driver.set_active(launch.StubDriver(front_end.target_of(device)))
    original = JITFunction.run
    planned: list[tuple[JITFunction, LaunchPlan]] = []

    def plan(function: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:  # noqa: ANN401
        function.device_caches.clear()
        name = function.__name__
        try:
            ttir = original(function, *args, grid=grid, warmup=True, **kwargs).asm["ttir"]
        except Exception as error:  # front ends raise anything
            planned.append((function, LaunchPlan(name, stage="front end", why=_reason(error))))
            return
        planned.append((function, _planned(name, _text(ttir), device, tools)))

    with launch.running(plan):
        kernel.launch(*launch.meta_inputs(problem), config=config, device=device)
    return launch.own_first(kernel, planned)


def _planned(function: str, ttir: str, device: Device, tools: Tools) -> LaunchPlan:
    chip = front_end.chip_of(device)
    adapted, notes = adaptations.adapted(ttir)
    launch = LaunchPlan(function, ttir=ttir, notes=notes)
    try:
        lower = to_linalg(adapted, chip, tools)
        launch = replace(launch, loops=linalg.discrete_loops(lower, linalg.parameters(adapted)))
        return replace(launch, plan=hivm.read(to_hivm(lower, chip, tools)))
    except Stopped as stopped:
        return replace(launch, stage=stopped.at, why=stopped.why)
    except CompileFailed as failure:
        return replace(launch, stage="reader", why=str(failure))


def _text(ttir: bytes | str) -> str:
    return ttir.decode() if isinstance(ttir, bytes) else ttir


def _reason(error: BaseException) -> str:
    """Return the words of the innermost of a chain of errors: the outer ones are the calls that led to it."""
    while error.__cause__ is not None:
        error = error.__cause__
    return f"{type(error).__name__}: {last_line(str(error))}"[:LONGEST]


def plan_job(job: Job) -> dict[str, Any]:
    """`{"launches": ...}` of a job's call, as JSON without their TTIR, by the managed compilers.

    Raises ToolchainError where they are absent or this Triton is too old.
    """
    kernel, device = registry.load(job.kernel), devices.target(job.device)
    problem = build(kernel.problem, dict(job.problem), job.kernel)
    tools = managed(state_root() / "toolchains")
    launches = plan_launches(kernel, problem, job.config, device, tools)
    return {"launches": [{**planned.as_json(), "ttir": ""} for planned in launches]}
