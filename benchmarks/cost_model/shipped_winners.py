"""Where shipped winners rank in the whole space that their tuner searched: model alone, prior alone, both.

    python -m benchmarks.cost_model.shipped_winners --data FOLDER

Block-scaled FP8 GEMM and fused MoE (bf16; FP8 scaled by block, or after the sum) of vLLM and SGLang, NVIDIA and AMD;
copied tables dropped, GROUP_M merged, configs that do not fit left out. A rank of 0 % is the first; ties count half.
`occupancy and waves` is the heuristic to beat, and NVIDIA's nvMatmulHeuristics is beside it where that is installed and
knows the GPU (GEMM only, no block scales).
The prior is trained on one half of the shapes of all kernels and judged on the other, or on all devices but the one
judged and its twins. The model's constants of NVIDIA GPUs were fitted on measured times, and on winners of the
first half of the shapes; among fits, one was chosen with the ranks of both halves in view. Those of AMD GPUs are of
the first half, but for the shares of each term.
Printed with the ceiling that winners' own noise sets: how often two tunings of one problem agree.
"""

from __future__ import annotations

import argparse
import itertools
from collections import defaultdict
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model import prior
from benchmarks.cost_model import nvmatmul
from tools import shipped_winners_data as winners
from tools import train_prior
from tools.data import required

BUCKETS = {"all": (1, 10**9), "decode m<=64": (1, 64), "middle": (65, 511), "prefill m>=512": (512, 10**9)}
TWINS = {
    "h100": {"h100", "h200"},
    "h200": {"h100", "h200"},
    "mi300x": {"mi300x", "mi325x"},
    "mi325x": {"mi300x", "mi325x"},
    "l40s": {"l40s", "l40"},
    "l40": {"l40s", "l40"},
    "b200": {"b200", "gb200", "b300", "gb300"},
    "gb200": {"b200", "gb200", "b300", "gb300"},
    "b300": {"b200", "gb200", "b300", "gb300"},
    "gb300": {"b200", "gb200", "b300", "gb300"},
}

HEAD = f"\n{'':56} {'':14} {'n':>5} {'median%':>7} {'mean%':>6} {'p90%':>6} {'top16':>6} {'top32':>6} {'+-median%':>9}"
Score = Callable[[Floats], Floats]
"""Rows of `prior.features` to a score each, higher is better."""
Ranks = list[tuple[int, float, int]]
"""(m, rank, size of the space) of each winner."""


def _column(name: str) -> int:
    return prior.FEATURES.index(name)


def by_model(rows: Floats) -> Floats:
    return -rows[:, _column("behind")]


def by_occupancy(rows: Floats) -> Floats:
    """Least idle in the last wave of resident programs, then the most intense tile, then deeper rings."""
    idle = np.round(rows[:, _column("resident_idle")], 2)
    scores: Floats = -1e3 * idle + rows[:, _column("intensity")] + 1e-3 * rows[:, _column("stages")]
    return scores


def ranks(chosen: Sequence[winners.Winner], rows: dict[Any, Floats], score: Score) -> Ranks:
    """A tie counts half."""
    found: Ranks = []
    for winner in chosen:
        scores = score(rows[winner.searched])
        own = scores[winner.space.index(winner.config)]
        found.append((winner.m, float((scores > own).sum() + ((scores == own).sum() - 1) / 2), len(scores)))
    return found


def show(title: str, found: Sequence[Ranks], buckets: Sequence[str]) -> None:
    """Print the mean of each figure of ranks by scores trained anew, and the standard deviation of the median."""
    for bucket in buckets:
        low, high = BUCKETS[bucket]
        here = [[(rank, size) for m, rank, size in ranks if low <= m <= high] for ranks in found]
        if not here[0]:
            continue
        each = np.array([figures(ranks) for ranks in here])
        median, mean, p90, top16, top32 = each.mean(0)
        spread = f"{each[:, 0].std():9.2f}" if len(each) > 1 else f"{'':9}"
        print(
            f"{title:56} {bucket:14} {len(here[0]):5d} {median:7.2f} {mean:6.1f} {p90:6.1f} {top16:6.2f} {top32:6.2f} "
            + spread,
            flush=True,
        )


def figures(ranks: Sequence[tuple[float, int]]) -> tuple[float, ...]:
    """Median, mean and 90 % quantile of the ranks in percent of their spaces, and shares within the first 16 and 32."""
    rank, size = np.array(ranks).T
    share = 100 * rank / size
    return np.median(share), share.mean(), np.quantile(share, 0.9), np.mean(rank < 16), np.mean(rank < 32)


def agreement(chosen: Sequence[winners.Winner]) -> None:
    """How often two independent tunings of one problem on one device agree: what no ranking can exceed by much."""
    by_problem = defaultdict(list)
    for winner in chosen:
        by_problem[winner.problem].append(winner.config)
    for bucket, (low, high) in list(BUCKETS.items())[1:]:
        pairs = [v for problem, v in by_problem.items() if low <= problem[3] <= high and len(v) > 1]
        if pairs:
            same = np.mean([pair[0] == pair[1] for pair in pairs])
            print(f"ceiling, {bucket}: two tunings agree on {same:.0%} of {len(pairs)} problems tuned twice")


def agreement_of_one_tile(device: str, some: Sequence[winners.Winner]) -> None:
    """The same for GPUs whose problems were tuned once: up to 16 tokens of a GEMM are padded to one tile of 16 rows, so
    that calls differ by nothing that a clock could see, and neither would winners without noise."""
    by_shape = defaultdict(list)
    for winner in some:
        if winner.m <= 16:
            by_shape[winner.file, winner.shape].append(winner)
    pairs = [
        pair for ours in by_shape.values() for pair in itertools.pairwise(sorted(ours, key=lambda winner: winner.m))
    ]
    if pairs:
        same = np.mean([first.config == other.config for first, other in pairs])
        print(f"ceiling, {device}, m<=16: adjacent sizes, one tile high, agree on {same:.0%} of {len(pairs)}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeats", type=int, default=3, help="trainings of the prior, which draws losers (default 3)")
    arguments = parser.parse_args()
    required(arguments.data, "vllm_sglang_best.csv.xz")
    chosen, left_out = winners.load(arguments.data)
    print(f"{len(chosen)} winners; left out: " + "; ".join(f"{count} {why}" for why, count in left_out.items()))
    rows = {winner.searched: train_prior.rows_of(winner) for winner in chosen}
    kinds = _by_kind(chosen)
    for kind, here in kinds.items():
        print(f"\n## {kind}")
        agreement(here)
        print(HEAD)
        _alone(here, rows)
    for title, scores in _priors([winner for winner in chosen if winner.half == 0], rows, arguments.repeats):
        for kind, here in kinds.items():
            _unseen_shapes(f"{kind}, unseen shapes: {title}", here, rows, scores)
    for twins in sorted({tuple(sorted(TWINS.get(winner.device, {winner.device}))) for winner in chosen}):
        learned = [winner for winner in chosen if winner.device not in twins]
        for title, scores in _priors(learned, rows, arguments.repeats):
            for kind, here in kinds.items():
                for device, some in _devices([winner for winner in here if winner.device in twins]).items():
                    found = [ranks(some, rows, score) for score in scores]
                    show(f"{kind}, unseen device {device}: {title}", found, ["all"])


def _by_kind(chosen: Sequence[winners.Winner]) -> dict[str, list[winners.Winner]]:
    kinds = defaultdict(list)
    for winner in chosen:
        kinds[f"{winner.dtype} {winner.family}"].append(winner)
    return kinds


def _devices(chosen: Sequence[winners.Winner]) -> dict[str, list[winners.Winner]]:
    names = sorted({winner.device for winner in chosen})
    return {name: [winner for winner in chosen if winner.device == name] for name in names}


def _alone(here: Sequence[winners.Winner], rows: dict[Any, Floats]) -> None:
    for device, some in _devices(here).items():
        if here[0].family == "gemm":
            agreement_of_one_tile(device, some)
        show(f"{device}: occupancy and waves", [ranks(some, rows, by_occupancy)], ["all"])
        if here[0].family == "gemm" and nvmatmul.knows(device):
            show(f"{device}: nvMatmulHeuristics", [ranks(some, _by_nvmatmul(some), np.negative)], list(BUCKETS))
        show(f"{device}: model alone", [ranks(some, rows, by_model)], list(BUCKETS))
        unseen = [winner for winner in some if winner.half == 1]
        show(f"{device}: model alone, the other half of the shapes", [ranks(unseen, rows, by_model)], list(BUCKETS))


def _by_nvmatmul(some: Sequence[winners.Winner]) -> dict[Any, Floats]:
    return {search.searched: nvmatmul.seconds(search.device, search.m, *search.shape, search.space) for search in some}


def _unseen_shapes(
    title: str, here: Sequence[winners.Winner], rows: dict[Any, Floats], scores: Sequence[Score]
) -> None:
    print(HEAD)
    test = [winner for winner in here if winner.half == 1]
    found = [ranks(test, rows, score) for score in scores]
    show(title, found, list(BUCKETS))
    for device in sorted({winner.device for winner in test}):
        some = [[rank for winner, rank in zip(test, ranks, strict=True) if winner.device == device] for ranks in found]
        show(f"{title}, {device}", some, ["all"])


def _priors(
    learned: Sequence[winners.Winner], rows: dict[Any, Floats], repeats: int
) -> list[tuple[str, Sequence[Score]]]:
    def trained(names: Sequence[str]) -> Sequence[Score]:
        return [train_prior.train(learned, rows, names, seed).score for seed in range(repeats)]

    return [
        ("model alone", [by_model]),
        ("prior alone", trained(prior.SHAPE)),
        ("both", trained(prior.FEATURES)),
    ]


if __name__ == "__main__":
    main()
