"""Measured times of DeepSeek modules against the sum of our kernels' modeled times.

    python -m benchmarks.cost_model.modules --data FOLDER

A module is one layer's attention, mHC, or experts on one GPU, in SGLang, vLLM or TensorRT-LLM: their kernels, not
ours. Each row is mapped to the calls that our workload makes for that module, and each call is given the shortest
modeled time of its default config and of those of a sample of its space. Caches are warm where all data of the module
fit the last level, as the measurement repeats one layer.

The one constant fitted here is a factor for each module and engine, the median of measured over modeled time on one
half of the shapes. The table shows how many rows of the other half lie within a factor of 1.5 of it; the halves are
those of a checksum of the shape.
"""

from __future__ import annotations

import argparse
import math
import zlib
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from autotune import device as devices
from autotune import registry
from autotune.config import Problem
from autotune.device import Device
from autotune.estimate.call_times import CallTime, default_and_sample, fastest
from autotune.tuning import space
from autotune.workload.rank import problem_of
from benchmarks.cost_model import module_rows
from benchmarks.cost_model.module_rows import Row
from tools.data import required

SAMPLE = 48
WITHIN = 1.5
GOAL = 0.8
_BUCKETS = (1, 8, 64, 256, 1024, 8192, 65536, 2**20)
"""Upper ends of the groups by batch and by context."""

Calls = list[tuple[str, Problem, int]]
"""(kernel, problem, launches of its launcher)."""


@dataclass(frozen=True)
class Judged:
    """A row with its modeled time."""

    row: Row
    modeled_us: float

    @property
    def log_ratio(self) -> float:
        """Logarithm of measured over modeled time."""
        return math.log(self.row.us / self.modeled_us)

    @property
    def fits(self) -> bool:
        """True if its shape belongs to the half on which factors are fitted, in all engines alike."""
        shape = replace(self.row.shape, always_indexes=False)
        return zlib.crc32(repr(shape).encode()) % 2 == 0


def judged(rows: Sequence[Row]) -> list[Judged]:
    """Model the rows, GPU by GPU: each distinct problem of a kernel once."""
    by_gpu: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        by_gpu[row.gpu].append(row)
    return [each for gpu, own in sorted(by_gpu.items()) for each in _on_device(own, devices.named(gpu))]


def _on_device(rows: Sequence[Row], device: Device) -> list[Judged]:
    calls: dict[module_rows.Shape, Calls] = {}
    for shape in dict.fromkeys(row.shape for row in rows):
        calls[shape] = [
            (call.kernel, problem_of(call, registry.load(call.kernel), device), call.per_step)
            for call in module_rows.calls(shape, device)
        ]
    cold = _times(_distinct(calls.values()), device)
    fitting = {
        shape: of_shape
        for shape, of_shape in calls.items()
        if sum(times * cold[name, problem].unique_bytes for name, problem, times in of_shape) <= device.last_level_bytes
    }
    warm = _warm(_distinct(fitting.values()), cold, device)

    def modeled_us(shape: module_rows.Shape) -> float:
        times = warm if shape in fitting else cold
        return sum(count * times[name, problem].us for name, problem, count in calls[shape])

    return [Judged(row, modeled_us(row.shape)) for row in rows]


Times = dict[tuple[str, Problem], CallTime]


def _distinct(calls: Iterable[Calls]) -> dict[str, list[Problem]]:
    problems: dict[str, dict[Problem, None]] = defaultdict(dict)
    for of_shape in calls:
        for name, problem, _ in of_shape:
            problems[name][problem] = None
    return {name: list(own) for name, own in problems.items()}


def _times(problems: Mapping[str, Sequence[Problem]], device: Device) -> Times:
    times: Times = {}
    for name, own in problems.items():
        kernel = registry.load(name)
        configs = space.load(kernel, device)
        candidates = {problem: default_and_sample(kernel, problem, device, configs, SAMPLE) for problem in own}
        times |= {(name, problem): time for problem, time in fastest(kernel, candidates, device).items()}
    return times


def _warm(problems: Mapping[str, Sequence[Problem]], cold: Times, device: Device) -> Times:
    """Time the configs that are fastest with cold caches, with warm ones."""
    times: Times = {}
    for name, own in problems.items():
        candidates = {problem: [cold[name, problem].config] for problem in own}
        rewarmed = fastest(registry.load(name), candidates, device, warm=True)
        times |= {(name, problem): time for problem, time in rewarmed.items()}
    return times


def factors(rows: Sequence[Judged]) -> dict[tuple[str, str], float]:
    """Return the log of each module and engine's factor, fitted on half of its decode shapes, else on all it has."""
    logs: dict[tuple[str, str], list[float]] = defaultdict(list)
    for fitted in (True, False):
        for each in rows:
            key = each.row.shape.module, each.row.engine
            if each.fits == fitted and (fitted or key not in logs):
                logs[key].append(each.log_ratio)
    return {key: float(np.median(values)) for key, values in logs.items()}


def share_within(offs: Sequence[float]) -> float:
    return float(np.mean(np.abs(offs) <= math.log(WITHIN)))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    rows = module_rows.load(required(parser.parse_args().data, module_rows.FILE))
    results = judged([row for row in rows if not module_rows.is_left_out(row)])
    decode = [each for each in results if each.row.shape.decode]
    prefill = [each for each in results if not each.row.shape.decode]
    fitted = factors(decode)
    print(f"modeled: the fastest of each kernel's default and {SAMPLE} configs of its space")
    print("factor: measured over modeled time, median of half of the shapes; all else is of the other half\n")
    _show_modules("decode", decode, fitted)
    off = [each for each in decode if not each.fits]
    offs = [(each.row, each.log_ratio - fitted[each.row.shape.module, each.row.engine]) for each in off]
    total = share_within([value for _, value in offs])
    print(f"\nall decode rows of the other half: {total:.1%} within x{WITHIN} ({len(offs)} rows; goal {GOAL:.0%})")
    _show_groups("tokens, up to", offs, lambda row: _bucket(row.shape.tokens))
    _show_groups("context, up to", offs, lambda row: _bucket(row.shape.context))
    _show_groups("GPU", offs, lambda row: row.gpu)
    _show_worst(offs)
    print()
    _show_modules("prefill", prefill, factors(prefill))
    _show_left_out(rows)


def _show_modules(phase: str, rows: Sequence[Judged], fitted: Mapping[tuple[str, str], float]) -> None:
    groups: dict[tuple[str, str], list[Judged]] = defaultdict(list)
    for each in rows:
        groups[each.row.shape.module, each.row.engine].append(each)
    print(f"{phase + ': module, engine':28} {'rows':>6} {'factor':>7} {'within':>7} {'p10':>6} {'p90':>6}")
    for key, own in sorted(groups.items()):
        offs = [each.log_ratio - fitted[key] for each in own if not each.fits]
        if offs:
            low, high = np.exp(np.quantile(offs, [0.1, 0.9]))
            name = " ".join(key)
            print(
                f"{name:28} {len(offs):6} {math.exp(fitted[key]):7.2f} {share_within(offs):7.0%} {low:6.2f} {high:6.2f}"
            )


def _show_groups(title: str, offs: Sequence[tuple[Row, float]], of: Callable[[Row], Hashable]) -> None:
    groups: dict[Hashable, list[float]] = defaultdict(list)
    for row, value in offs:
        groups[of(row)].append(value)
    print(f"\nby {title:24} {'rows':>6} {'median':>7} {'within':>7}")
    for name in sorted(groups, key=lambda group: (isinstance(group, str), group)):
        values = groups[name]
        print(f"{name!s:27} {len(values):6} {math.exp(np.median(values)):7.2f} {share_within(values):7.0%}")


def _show_worst(offs: Sequence[tuple[Row, float]], most: int = 12, fewest_rows: int = 8) -> None:
    """Print the groups of module, engine and kernel on one GPU that lie off most."""
    groups: dict[tuple[str, str, str, str], list[float]] = defaultdict(list)
    for row, value in offs:
        groups[row.shape.module, row.engine, row.kernel, row.gpu].append(value)
    worst = sorted((share_within(own), key) for key, own in groups.items() if len(own) >= fewest_rows)[:most]
    print("\nworst groups: within, measured over modeled after the factor")
    for share, key in worst:
        print(f"{share:7.0%} {math.exp(np.median(groups[key])):6.2f}  {' '.join(key)[:84]}")


def _show_left_out(rows: Sequence[Row]) -> None:
    print("\nnot covered")
    for name, reason in module_rows.LEFT_OUT.items():
        count = sum(row.shape.module.startswith(name) for row in rows)
        print(f"{name}: {count} rows; {reason}")


def _bucket(number: int) -> int:
    return next((limit for limit in _BUCKETS if number <= limit), number)


if __name__ == "__main__":
    main()
