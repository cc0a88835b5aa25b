"""Tasks of workers: compile a Job, prove it right, or measure it. Failures of the config come back as values."""

from __future__ import annotations

import os
import time
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any

from autotune import device as devices
from autotune import registry
from autotune.config import Config, Key, P, build
from autotune.device import Device
from autotune.errors import CandidateFailed, CompileFailed, MachineError, WrongResult
from autotune.state import Cache
from autotune.tuning.measurement.bench import Bench, Check, Measurement, Meter, OutOfMemory, Sticky
from autotune.tuning.session.blame import reason
from autotune.tuning.workers.process import LastAnswer
from autotune.tuning.workers.worker import Job

if TYPE_CHECKING:
    from autotune.kernel import Kernel


def compile_job(job: Job) -> dict[str, Any]:
    """`{"resources": ...}` or `{"failed": why}`, and `cpu_s` that it took, children included.

    Raises MachineError where this machine cannot compile.
    """
    before = _cpu_s()
    return {**_compiled(job), "cpu_s": _cpu_s() - before}


def _cpu_s() -> float:
    times = os.times()
    return times.user + times.system + times.children_user + times.children_system


def _compiled(job: Job) -> dict[str, Any]:
    from autotune.tuning.compilation import machine, resources
    from autotune.tuning.compilation.launch import compile_launches

    kernel, device = registry.load(job.kernel), devices.target(job.device)
    problem = build(kernel.problem, dict(job.problem), job.kernel)
    if device.vendor == "nvidia":
        machine.check_named_assemblers()
    try:
        binaries = compile_launches(kernel, problem, job.config, device)
        return {"resources": resources.read(binaries, device).as_json()}
    except CompileFailed as failure:
        return {"failed": str(failure)}
    except Exception as error:  # compilers raise anything
        failed = {"failed": reason(error)}
        machine.check(device.arch)
        return failed


def loop_job(job: Job) -> dict[str, Any]:
    """`{"loop": fields of LoopFacts}` of the kernel's own launch, or `{"failed": why}`.

    Raises MachineError where this machine cannot compile.
    """
    from autotune.tuning.compilation import machine
    from autotune.tuning.compilation.instructions import hot_loop, nvidia_listing
    from autotune.tuning.compilation.launch import compile_launches
    from autotune.tuning.compilation.loop_facts import facts_of
    from autotune.tuning.compilation.resources import read

    kernel, device = registry.load(job.kernel), devices.target(job.device)
    problem = build(kernel.problem, dict(job.problem), job.kernel)
    try:
        binaries = compile_launches(kernel, problem, job.config, device)
        read(binaries, device)  # code of a config that does not fit is a trap
        code = binaries[0].asm
        listing = code["amdgcn"] if device.is_amd else nvidia_listing(code["cubin"])
        return {"loop": asdict(facts_of(hot_loop(listing, device.vendor), device.vendor))}
    except CompileFailed as failure:
        return {"failed": str(failure)}
    except Exception as error:  # compilers raise anything
        failed = {"failed": reason(error)}
        machine.check(device.arch)
        return failed


def check_machine(arch: str) -> None:
    """Raises MachineError where no config could be compiled for `arch` here."""
    from autotune.tuning.compilation import machine

    machine.check(arch)


def validate_job(job: Job) -> dict[str, Any]:
    """`{"error": largest share of the error budget}` or `{"failed": why}`, in the corrected interpreter.

    The error of a job about addresses alone is None.
    """
    from autotune.tuning import space
    from autotune.tuning.validation.cases import cases_of
    from autotune.tuning.validation.validate import validate

    kernel, device = registry.load(job.kernel), devices.named(job.device)
    problem = build(kernel.problem, dict(job.problem), job.kernel)
    try:
        if job.addresses:
            return _addressed(kernel, problem, job.config, device)
        cases = cases_of(kernel, problem, job.config, device, space.load(kernel, device).check)
        return {"error": validate(kernel, problem, job.config, device, cases)}
    except WrongResult as failure:
        return {"failed": str(failure)}
    except Exception as error:  # an interpreter crash is a failed proof
        return {"failed": reason(error)}


def _addressed(kernel: Kernel[P], problem: P, config: Config, device: Device) -> dict[str, Any]:
    from autotune.tuning import kernel_facts
    from autotune.tuning.interpreter.index_bounds import declared
    from autotune.tuning.validation.validate import validate_addresses

    validate_addresses(kernel, problem, config, device, declared(kernel_facts.read(kernel.name).largest_index))
    return {"error": None}


@dataclass(frozen=True)
class RowsJob:
    """Job: check that two configs give bit-equal rows on `problems`, preferred first."""

    kernel: str
    problems: tuple[Key, ...]
    configs: tuple[Config, Config]
    device: str


def rows_job(job: RowsJob) -> dict[str, Any]:
    """`{"batches": compared}`, `{"no rows": why}` or `{"failed": why}`, in the corrected interpreter."""
    from autotune.tuning.validation.invariance import check_rows
    from autotune.tuning.validation.row_batches import NoRows

    kernel, device = registry.load(job.kernel), devices.named(job.device)
    bases = [build(kernel.problem, dict(problem), job.kernel) for problem in job.problems]
    try:
        return {"batches": check_rows(kernel, bases, job.configs, device)}
    except NoRows as absent:
        return {"no rows": str(absent)}
    except WrongResult as failure:
        return {"failed": str(failure)}
    except Exception as error:  # an interpreter crash is a failed proof
        return {"failed": reason(error)}


def prepare_job(asked: Measurement | Check) -> None:
    """Opens the GPU, draws the inputs and computes the reference: what every config of the problem needs first.

    Raises MachineError where that fails; too little memory is left to `measure_job`, which fails of it too and says so.
    """
    job = asked.job if isinstance(asked, Check) else asked.jobs[0]
    try:
        _meter(asked.bench, asked.slot).prepare(job)
    except OutOfMemory:
        return
    except Exception as error:  # drivers raise anything
        problem = ",".join(f"{name}={value}" for name, value in job.problem)
        raise MachineError(
            f"GPU {asked.slot} of bench {asked.bench.name} is not ready for {job.kernel} {problem}: {reason(error)}; "
            "see `autotune doctor`, then run the same command again"
        ) from error


def measure_job(asked: Measurement) -> dict[str, Any]:
    """`{"times": [samples of each job], "errors": ..., "clock_mhz": ..., "throttled": ..., "throttled_by": ...}` or a
    failure, and `gpu_s`, which checking and timing took.

    A failure is `{"failed": stage, "kind": wrong, memory, sticky or error, "reason": ...}`. Where the context is lost
    the process ends after the answer. Raises MachineError where the disk or the compiler of this machine failed.
    """
    began = time.perf_counter()
    answer = _measured(asked)
    seconds = time.perf_counter() - began
    if asked.record is not None and "failed" not in answer:
        root, parts = asked.record
        Cache(root).put(answer, *parts)
    return _given({**answer, "gpu_s": seconds})


def check_job(asked: Check) -> dict[str, Any]:
    """`{"error": largest share of the error budget}`, or a failure as `measure_job` gives it. Nothing is timed."""
    try:
        return {"error": _meter(asked.bench, asked.slot).check(asked.job)}
    except Exception as error:  # drivers raise anything; the config, not the session, has failed
        return _given(_failure(error, asked.job))


def _given(answer: dict[str, Any]) -> dict[str, Any]:
    """`answer`, with the end of this process where its GPU context is lost."""
    if answer.get("kind") == "sticky":
        raise LastAnswer(answer)
    return answer


def _failure(error: Exception, job: Job) -> dict[str, Any]:
    """Return the reason of a config's failure. Raises MachineError if this machine's disk or compiler failed."""
    from autotune.tuning.compilation import machine

    stage = error.stage if isinstance(error, CandidateFailed) else "measure"
    failed = {"failed": stage, "kind": _kind(error), "reason": reason(error)}
    if failed["kind"] == "error":
        machine.check(devices.named(job.device).arch)  # kernels are compiled here too
    return failed


def _measured(asked: Measurement) -> dict[str, Any]:
    meter = _meter(asked.bench, asked.slot)
    try:
        errors = [meter.check(job) for job in asked.jobs] if asked.check else []
        timings = meter.time(asked.jobs, asked.samples)
    except Exception as error:  # drivers raise anything; the config, not the session, has failed
        return _failure(error, asked.jobs[0])
    return {
        "times": [[round(us, 4) for us in timing.samples_us] for timing in timings],
        "errors": errors,
        "clock_mhz": timings[0].clock_mhz,
        "throttled": any(timing.throttled for timing in timings),
        "throttled_by": timings[0].throttled_by,
    }


@cache
def _meter(bench: Bench, slot: int) -> Meter:
    return bench.open(slot)


def _kind(error: Exception) -> str:
    if isinstance(error, Sticky):
        return "sticky"
    if isinstance(error, WrongResult):
        return "wrong"
    return "memory" if isinstance(error, OutOfMemory | MemoryError) else "error"
