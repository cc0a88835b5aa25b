"""Serving scenarios: lengths, concurrency and parallelism, and the token counts that they give a step."""

from __future__ import annotations

from dataclasses import dataclass

from autotune.errors import UsageError, did_you_mean


@dataclass(frozen=True)
class Scenario:
    """Requests of `input_tokens` + `output_tokens`, at each of the concurrencies."""

    name: str
    input_tokens: int
    output_tokens: int
    concurrency: tuple[int, ...]
    source: str

    @property
    def chunk_tokens(self) -> int:
        """Tokens of a prefill step: engines set the chunk to the input length."""
        return self.input_tokens


@dataclass(frozen=True)
class Parallelism:
    """Tensor parallelism of attention and experts, or expert parallelism, or attention by data parallelism."""

    tensor: int = 8
    expert: int = 1
    data_attention: bool = False

    @property
    def attention(self) -> int:
        """Ways that attention weights are split: none under data-parallel attention."""
        return 1 if self.data_attention else self.tensor


_UP_TO_64 = (1, 2, 4, 8, 16, 32, 64)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario(
            "8k1k", 8192, 1024, _UP_TO_64, "InferenceX fixed sequence length, TP8 without data-parallel attention"
        ),
        Scenario("1k1k", 1024, 1024, _UP_TO_64, "InferenceX, deprecated on 2026-07-17"),
        Scenario("1k8k", 1024, 8192, _UP_TO_64, "InferenceX until 2026-03-27; never run for V4"),
    )
}


def named(name: str) -> Scenario:
    """Raises UsageError."""
    if name not in SCENARIOS:
        raise UsageError(f"unknown scenario {name!r}{did_you_mean(name, SCENARIOS)}")
    return SCENARIOS[name]


def decode_tokens(scenario: Scenario, parallelism: Parallelism) -> tuple[int, ...]:
    """Tokens that a rank's attention-side kernels see in one decode step."""
    if not parallelism.data_attention:
        return scenario.concurrency
    return tuple(sorted({max(1, c // parallelism.tensor) for c in scenario.concurrency}))


def prefill_tokens(scenario: Scenario) -> tuple[int, ...]:
    """Tokens of a prefill step: the chunk, and what shorter requests leave of it."""
    chunk = scenario.chunk_tokens
    return tuple(chunk * quarter // 8 for quarter in (4, 6, 7, 8))
