"""What workers do with a Job: compile it, or prove it right. Failures of the config come back as values."""

from __future__ import annotations

from typing import Any

from autotune import device as devices
from autotune import registry
from autotune.config import build
from autotune.errors import CompileFailed, WrongResult
from autotune.tuning.worker import Job


def compile_job(job: Job) -> dict[str, Any]:
    """`{"resources": ...}` or `{"failed": why}`."""
    from autotune.tuning import resources
    from autotune.tuning.launch import compile_launches

    kernel, device = registry.load(job.kernel), devices.named(job.device)
    problem = build(kernel.problem, dict(job.problem), job.kernel)
    try:
        binaries = compile_launches(kernel, problem, job.config, device)
        return {"resources": resources.read(binaries, device).as_json()}
    except CompileFailed as failure:
        return {"failed": str(failure)}
    except Exception as error:  # the compiler raises anything; the config, not the session, has failed
        return {"failed": _brief(error)}


def validate_job(job: Job) -> dict[str, Any]:
    """`{"error": worst ratio of error to bound}` or `{"failed": why}`, in the corrected interpreter."""
    from autotune.tuning.validate import validate

    kernel, device = registry.load(job.kernel), devices.named(job.device)
    problem = build(kernel.problem, dict(job.problem), job.kernel)
    try:
        return {"error": validate(kernel, problem, job.config, device)}
    except WrongResult as failure:
        return {"failed": str(failure)}
    except Exception as error:  # an interpreter crash is a failed proof
        return {"failed": _brief(error)}


def _brief(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip() and not set(line) <= {" ", "^", "~"}]
    return f"{type(error).__name__}: {lines[-1][:300] if lines else ''}"
