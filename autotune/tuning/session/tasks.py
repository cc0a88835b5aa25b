"""What workers do with a Job: compile it, prove it right, or measure it. Failures of the config come back as values."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from functools import cache
from typing import Any

from autotune import device as devices
from autotune import registry
from autotune.config import Config, Key, build
from autotune.errors import CandidateFailed, CompileFailed, ToolchainError, WrongResult
from autotune.tuning.measurement.bench import Bench, Check, Measurement, Meter, OutOfMemory, Sticky
from autotune.tuning.session.cache import Cache
from autotune.tuning.workers.process import LastAnswer
from autotune.tuning.workers.worker import Job


def compile_job(job: Job) -> dict[str, Any]:
    """`{"resources": ...}` or `{"failed": why}`."""
    from autotune.tuning.compilation import resources
    from autotune.tuning.compilation.launch import compile_launches

    kernel, device = registry.load(job.kernel), devices.target(job.device)
    problem = build(kernel.problem, dict(job.problem), job.kernel)
    try:
        binaries = compile_launches(kernel, problem, job.config, device)
        return {"resources": resources.read(binaries, device).as_json()}
    except CompileFailed as failure:
        return {"failed": str(failure)}
    except Exception as error:  # the compiler raises anything; the config, not the session, has failed
        return {"failed": _brief(error)}


def validate_job(job: Job) -> dict[str, Any]:
    """`{"error": largest share of the error budget}` or `{"failed": why}`, in the corrected interpreter."""
    from autotune.tuning import space
    from autotune.tuning.validation.cases import cases_of
    from autotune.tuning.validation.validate import validate

    kernel, device = registry.load(job.kernel), devices.named(job.device)
    problem = build(kernel.problem, dict(job.problem), job.kernel)
    try:
        cases = cases_of(kernel, problem, job.config, device, space.load(kernel, device).check)
        return {"error": validate(kernel, problem, job.config, device, cases)}
    except WrongResult as failure:
        return {"failed": str(failure)}
    except ToolchainError:  # no config is to blame for the Triton that is installed
        raise
    except Exception as error:  # an interpreter crash is a failed proof
        return {"failed": _brief(error)}


def count_job(job: Job) -> dict[str, Any]:
    """`{"work": fields of Work, counted}` or `{"failed": why}`, in the corrected interpreter."""
    from autotune.tuning.interpreter.counting import count

    kernel, device = registry.load(job.kernel), devices.named(job.device)
    problem = build(kernel.problem, dict(job.problem), job.kernel)
    try:
        said = kernel.work(problem, job.config, device)
        return {"work": asdict(count(kernel, problem, job.config, device).work(said.dtype))}
    except Exception as error:  # inputs that memory cannot hold, most of all
        return {"failed": _brief(error)}


@dataclass(frozen=True)
class RowsJob:
    """Two configs that may serve rows of one another's batches; problems to compare them on, the best first."""

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
    except ToolchainError:  # no config is to blame for the Triton that is installed
        raise
    except Exception as error:  # an interpreter crash is a failed proof
        return {"failed": _brief(error)}


def measure_job(asked: Measurement) -> dict[str, Any]:
    """`{"times": [samples of each job], "errors": ..., "clock_mhz": ..., "throttled": ...}` or a failure.

    A failure is `{"failed": stage, "kind": wrong, memory, sticky or error, "reason": ...}`. Where the context is lost
    the process ends after the answer.
    """
    answer = _measured(asked)
    if asked.record is not None:
        root, parts = asked.record
        Cache(root).put(answer, *parts)
    return _given(answer)


def check_job(asked: Check) -> dict[str, Any]:
    """`{"error": largest share of the error budget}`, or a failure as `measure_job` gives it. Nothing is timed."""
    try:
        return {"error": _meter(asked.bench, asked.slot).check(asked.job)}
    except Exception as error:  # drivers raise anything; the config, not the session, has failed
        return _given(_failure(error))


def _given(answer: dict[str, Any]) -> dict[str, Any]:
    """`answer`, with the end of this process where its GPU context is lost."""
    if answer.get("kind") == "sticky":
        raise LastAnswer(answer)
    return answer


def _failure(error: Exception) -> dict[str, Any]:
    stage = error.stage if isinstance(error, CandidateFailed) else "measure"
    return {"failed": stage, "kind": _kind(error), "reason": _brief(error)}


def _measured(asked: Measurement) -> dict[str, Any]:
    meter = _meter(asked.bench, asked.slot)
    try:
        errors = [meter.check(job) for job in asked.jobs] if asked.check else []
        timings = meter.time(asked.jobs, asked.samples)
    except Exception as error:  # drivers raise anything; the config, not the session, has failed
        return _failure(error)
    return {
        "times": [[round(us, 4) for us in timing.samples_us] for timing in timings],
        "errors": errors,
        "clock_mhz": timings[0].clock_mhz,
        "throttled": any(timing.throttled for timing in timings),
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


def _brief(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip() and not set(line) <= {" ", "^", "~"}]
    return f"{type(error).__name__}: {lines[-1][:300] if lines else ''}"
