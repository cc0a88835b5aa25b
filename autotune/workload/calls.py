"""The kernel calls of one forward step on one rank. Shapes: the inventory's sharding, as SGLang shards V4."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

from autotune.config import Problem
from autotune.device import Device
from autotune.errors import UsageError
from autotune.workload.model import Model
from autotune.workload.rank import Call, Rank, problem_of
from autotune.workload.scenario import Parallelism, Scenario, steps

if TYPE_CHECKING:
    from autotune.kernel import Kernel


def calls(model: Model, scenario: Scenario, parallelism: Parallelism, device: Device) -> tuple[Call, ...]:
    """All calls of every step of `scenario`. Raises UsageError where the model cannot be split so."""
    check(model, parallelism)
    ranks = (Rank(model, parallelism, device, step) for step in steps(scenario, parallelism))
    return tuple(call for rank in ranks for call in model.calls(rank))


def check(model: Model, parallelism: Parallelism) -> None:
    """Raises UsageError unless every split is whole, and whole in scale blocks where it divides K."""
    width = model.moe_intermediate_size
    rules = [
        ("attention heads", model.num_attention_heads, parallelism.attention, 1),
        ("routed experts", model.n_routed_experts, parallelism.expert, 1),
        ("shared expert columns", width * model.n_shared_experts, parallelism.shared, 128),
        ("routed expert columns", width, parallelism.expert_width, 32 if model.expert_dtype == "fp4" else 128),
    ]
    if model.o_groups > 1:
        rules.append(("output groups", model.o_groups, parallelism.attention, 1))
    if model.intermediate_size:
        rules.append(("dense feed-forward columns", model.intermediate_size, parallelism.tensor, 128))
    for what, size, ways, block in rules:
        if ways < 1 or size % (ways * block):
            raise UsageError(
                f"{model.name}: {size} {what} cannot be split {ways} ways"
                + (f" in blocks of {block}" if block > 1 else "")
                + "; choose another --tp or --ep"
            )


def problems(
    kernel: Kernel[Any], model: Model, scenario: Scenario, parallelism: Parallelism, device: Device
) -> dict[Problem, int]:
    """The distinct problems of `kernel`, with launches a step as weights."""
    weights: Counter[Problem] = Counter()
    for call in calls(model, scenario, parallelism, device):
        if call.kernel == kernel.name:
            weights[problem_of(call, kernel, device)] += call.per_step
    return dict(weights)
