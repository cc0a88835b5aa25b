"""Models and serving scenarios, turned into the kernel calls of one step and how often each runs."""

from autotune.workload import models, scenario
from autotune.workload.calls import calls, problems
from autotune.workload.model import Model
from autotune.workload.rank import Call, problem_of
from autotune.workload.scenario import Parallelism, Scenario

__all__ = ["Call", "Model", "Parallelism", "Scenario", "calls", "models", "problem_of", "problems", "scenario"]
