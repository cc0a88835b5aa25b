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
    """Where attention is split over ranks."""
    data_concurrency: tuple[int, ...]
    """Where attention runs data-parallel: engines switch to it for many requests."""
    source: str

    @property
    def chunk_tokens(self) -> int:
        """Tokens of a prefill step on one attention rank: engines set the chunk to the input length."""
        return self.input_tokens


@dataclass(frozen=True)
class Parallelism:
    """`tensor` ranks; experts split by width, or by number over `expert` ranks; attention split, or data-parallel."""

    tensor: int = 8
    expert: int = 1
    data_attention: bool = False

    @property
    def attention(self) -> int:
        """Ways that attention weights are split: none under data-parallel attention."""
        return 1 if self.data_attention else self.tensor

    @property
    def shared(self) -> int:
        """Ways that the shared expert is split: under data-parallel attention SGLang keeps it whole on each rank."""
        return self.attention

    @property
    def expert_width(self) -> int:
        """Ways that each routed expert is split: none where ranks own whole experts."""
        return self.tensor if self.expert == 1 else 1


@dataclass(frozen=True)
class Step:
    """Tokens of one step as a rank's kernels see them."""

    phase: str
    tokens: int
    """Tokens of attention, norms, router and shared expert."""
    expert_tokens: int
    """Tokens routed to this rank's experts: gathered over attention ranks, spread over expert ranks."""
    requests: int
    context: int
    """Positions that the last token of a request can see."""


_UP_TO_64 = (1, 2, 4, 8, 16, 32, 64)
_FROM_64 = (64, 128, 256, 512, 1024, 2048)

SCENARIOS = {
    scenario.name: scenario
    for scenario in (
        Scenario("8k1k", 8192, 1024, _UP_TO_64, _FROM_64, "InferenceX fixed sequence length, mi355x and b200 entries"),
        Scenario("1k1k", 1024, 1024, _UP_TO_64, _FROM_64, "InferenceX, deprecated on 2026-07-17"),
        Scenario("1k8k", 1024, 8192, _UP_TO_64, _FROM_64, "InferenceX until 2026-03-27; never run for V4"),
    )
}


def named(name: str) -> Scenario:
    """Raises UsageError."""
    if name not in SCENARIOS:
        raise UsageError(f"unknown scenario {name!r}{did_you_mean(name, SCENARIOS)}")
    return SCENARIOS[name]


def steps(scenario: Scenario, parallelism: Parallelism) -> tuple[Step, ...]:
    """A decode step at each concurrency, and prefill steps of the chunk and of what shorter requests leave of it."""
    ranks = parallelism.tensor if parallelism.data_attention else 1

    def step(phase: str, tokens: int) -> Step:
        own, routed = max(1, tokens // ranks), max(1, tokens // parallelism.expert)
        if phase == "decode":
            # Half of the output is there on average.
            return Step(phase, own, routed, own, scenario.input_tokens + scenario.output_tokens // 2)
        return Step(phase, own, routed, 1, own)

    counts = scenario.data_concurrency if parallelism.data_attention else scenario.concurrency
    decode = tuple(step("decode", count) for count in counts)
    chunk = scenario.chunk_tokens * ranks
    # Request lengths are uniform in [0.8, 1] of the nominal one, so the last chunk of a queue is ragged.
    return decode + tuple(step("prefill", chunk * eighths // 8) for eighths in (4, 6, 7, 8))
