"""What a config is worth on a problem: compiled, then measured on a bench, or modelled where there is none."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from autotune.config import Config, Problem
from autotune.tuning.compilation.resources import Resources
from autotune.tuning.cost_model.model import predict
from autotune.tuning.session.compiling import Candidate, Compiler, Subject
from autotune.tuning.session.measuring import Measurer


@dataclass(frozen=True)
class Evaluator:
    subject: Subject
    compiler: Compiler
    measurer: Measurer | None
    """None: outcomes end at the model."""

    def __call__(self, problem: Problem, config: Config) -> dict[str, Any]:
        """A trial's whole outcome; waits for it."""
        candidate = self.compiler.candidate(problem, config)
        found = self.compiler.resources(candidate)
        known = self.known(candidate, found)
        if self.measurer is None or isinstance(found, str):
            return known
        twin = self.measurer.twin(candidate, found.code)
        return {**self.measurer.alone(problem, twin or config), **known}

    def known(self, candidate: Candidate, found: Resources | str) -> dict[str, Any]:
        """The part of an outcome that compiling tells: all of it where that failed, or where there is no bench."""
        if isinstance(found, str):
            return {"failed": "compile", "reason": found}
        problem, config, device = candidate.problem, candidate.config, self.subject.device
        prediction = predict(self.subject.kernel.work(problem, config, device), config, device, found)
        name = "modeled_us" if self.measurer else "us"
        model = {name: prediction.us, "range_us": prediction.range_us, "bound": prediction.bound}
        return {**model, "code": found.code, "spills": found.spills, "resources": found.as_json()}
