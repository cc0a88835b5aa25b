"""Every kernel's default at the models' sizes: whether it is right, how long it takes, and what the model said."""

from __future__ import annotations

from typing import Any

from autotune.tuning.compilation.resources import Resources
from autotune.tuning.cost_model.call_batch import side_by_side
from autotune.tuning.cost_model.model import model_name, predict
from autotune.tuning.cost_model.roofline import roofline_us
from autotune.tuning.jobs import check_job, measure_job
from autotune.tuning.measurement.bench import Check, Measurement, Timing
from benchmarks.gpu_run import lines
from benchmarks.gpu_run.asking import Default, ask, defaults, lane, model_sizes
from benchmarks.gpu_run.context import Context
from tools.measured_times import applied

_SAMPLES = 10


def run(context: Context) -> None:
    compiled = lines.read(context.folder / "precompile.jsonl")
    with lane(context) as workers:
        for unit, default in context.units(defaults(context, model_sizes(context))):
            answer = ask(context, workers, check_job, Check(context.bench, 0, default.job))
            if answer.get("kind") in (None, "wrong"):  # what is wrong is timed too, for study
                asked = Measurement(context.bench, 0, (default.job,), _SAMPLES, check=False)
                answer = timed(ask(context, workers, measure_job, asked)) | answer
            used = compiled.get(unit, {}).get("resources")
            context.add(unit, **default.told(), **answer, **modeled(default, context, used))


def timed(answer: dict[str, Any]) -> dict[str, Any]:
    """An answer of `measure_job` on one job, with median and spread in place of the lists of lists."""
    if "failed" in answer:
        return answer
    rest = {name: value for name, value in answer.items() if name not in ("times", "errors")}
    timing = Timing(tuple(answer["times"][0]))
    return {"us": timing.us, "spread": timing.spread, "samples_us": answer["times"][0], **rest}


def modeled(default: Default, context: Context, used: dict[str, Any] | None) -> dict[str, Any]:
    """Modeled time of a call, with the resources of its binary where they are known, and its roofline."""
    kernel, problem, config, device = default.kernel, default.problem, default.job.config, context.device
    work = kernel.work(problem, config, device)
    prediction = predict(work, config, device, Resources.from_json(used) if used else None)
    return {
        "modeled_us": prediction.us,
        "bound": prediction.bound,
        "terms": dict(prediction.terms),
        "roofline_us": roofline_us(kernel, problem, device),
        "dtype": work.dtype,
        "factor": applied(side_by_side([work], [config]), device).factor,
        "model": model_name(device),
    }
