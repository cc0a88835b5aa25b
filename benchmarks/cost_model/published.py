"""Estimated throughput of V4-Pro on MI355X against what InferenceX measured with SGLang, concurrency by concurrency.

    python -m benchmarks.cost_model.published

The figures are those of the post "MI355X DeepSeek-V4-Pro on SGLang" of 2026-05-26, run of 2026-05-21: FP4, 8K/1K, one
node, data-parallel attention from concurrency 128 on, as tokens of prompts and answers a second and GPU, and tokens of
answers a second and user. Nothing is fitted to them. The engine ran its own kernels of that day, not ours.
"""

from __future__ import annotations

from dataclasses import dataclass

from autotune import device as devices
from autotune import workload
from autotune.estimate.points import points
from autotune.estimate.throughput import Interval


@dataclass(frozen=True)
class Published:
    concurrency: int
    tokens_per_s_per_gpu: float
    tokens_per_s_per_user: float


MI355X = tuple(
    Published(*figures)
    for figures in (
        (1, 59.2, 57.06),
        (4, 198.5, 47.71),
        (8, 348.2, 41.78),
        (16, 561.3, 33.37),
        (32, 811.7, 23.99),
        (64, 959.6, 16.79),
        (128, 1556.0, 13.76),
        (256, 2256.1, 9.37),
        (512, 1814.4, 5.59),
    )
)
FIRST_DATA_PARALLEL = 128


def main() -> None:
    model, scenario = workload.models.named("deepseek-v4-pro"), workload.scenario.named("8k1k")
    headings = ("conc.", "tok/s/GPU", "estimated", "ratio", "tok/s/user", "estimated", "ratio")
    print("{:>5} {:>10} {:>18} {:>6} {:>10} {:>18} {:>6}".format(*headings))
    inside = 0
    for data_parallel in (False, True):
        asked = [each for each in MI355X if (each.concurrency >= FIRST_DATA_PARALLEL) == data_parallel]
        split = workload.Parallelism(8, 1, data_parallel)
        estimated = points(model, scenario, split, devices.named("mi355x"), [each.concurrency for each in asked])
        for published, point in zip(asked, estimated, strict=True):
            gpu, user = point.throughput.tokens_per_s_per_gpu, point.throughput.tokens_per_s_per_user
            inside += _holds(gpu, published.tokens_per_s_per_gpu) and _holds(user, published.tokens_per_s_per_user)
            print(f"{published.concurrency:5} {_held(gpu, published.tokens_per_s_per_gpu)}", end=" ")
            print(_held(user, published.tokens_per_s_per_user))
    print(f"both figures inside the range: {inside} of {len(MI355X)}")


def _holds(interval: Interval, figure: float) -> bool:
    return interval.least <= figure <= interval.most


def _held(interval: Interval, figure: float) -> str:
    return f"{figure:10.1f} {_range(interval):>18} {interval.value / figure:6.2f}"


def _range(interval: Interval) -> str:
    value, least, most = (f"{each:.0f}" if each >= 100 else f"{each:.3g}" for each in (
        interval.value, interval.least, interval.most
    ))  # fmt: skip
    return f"{value} ({least}-{most})"


if __name__ == "__main__":
    main()
