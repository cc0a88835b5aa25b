"""Calibrations of the cost model's times, printed in the form of `autotune/tuning/cost_model/constants.toml`.

    python -m tools.calibrate_cost_model --data FOLDER

A factor is the median of measured over modeled time on one half of the shapes; a spread, of the other half, which
neither the formula nor the factor saw, the factor that 9 of 10 times lie within (a conformal interval: Vovk et al.
2005), and a finite-sample correction. Families of kernels count alike, however many times each has. A calibration is
of what lies near: this device and dtype; another device of the arch; another arch of the vendor. The spread of the last
two is that of devices (or archs) left out one at a time, so it holds what nobody measured.
"""

from __future__ import annotations

import argparse
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from autotune.tuning.arrays import Floats
from tools.measured_times import Times, load

WITHIN = 0.9
FEWEST = 200
"""Fewer times of one family, device and dtype are left out."""
LAUNCH_US = 2.5
"""A node of a graph, by the shortest modules of engines: 3.4 us with their body on Hopper, 4.5 on Blackwell."""


@dataclass(frozen=True, eq=False)
class Ratios:
    """Logarithms of measured over uncalibrated time, of one family on one device, by half of the shapes."""

    arch: str
    device: str
    dtype: str
    family: str
    fitted: Floats
    judged: Floats


def ratios(times: Times) -> Ratios:
    """Take the calibration out of the model's time, and split the shapes."""
    logs = times.ratio_logs + np.log(times.calibration.factor)
    parts = (logs[times.half == half] for half in (0, 1))
    return Ratios(times.device.arch, times.device.name, times.dtype, times.family, *parts)


def weighted_quantile(logs: Sequence[Floats], share: float) -> float:
    """Return the quantile of several families' values, each family of the same weight."""
    values = np.concatenate(logs)
    weights = np.concatenate([np.full(len(family), 1 / len(family)) for family in logs])
    order = np.argsort(values)
    reached = np.cumsum(weights[order]) / weights.sum()
    return float(values[order[min(int(np.searchsorted(reached, share)), len(values) - 1)]])


def middle(group: Iterable[Ratios]) -> float:
    return weighted_quantile([part.fitted for part in group], 0.5)


def spread(offs: Sequence[Floats]) -> float:
    """Return the factor that WITHIN of the values lie within, with the correction for as many as there are."""
    count = min(len(off) for off in offs)
    share = min(1.0, WITHIN * (count + 1) / count)
    return float(np.exp(weighted_quantile([np.abs(off) for off in offs], share)))


def entry(name: str, dtype: str, log_factor: float, factor_spread: float, source: str) -> str:
    return (
        f"[calibration.{name}.{dtype}]\nlaunch_us = {LAUNCH_US}\nfactor = {np.exp(log_factor):.2f}\n"
        f'spread = {max(factor_spread, 1.1):.2f}\nsource = "{source}"\n'
    )


def by(groups: Sequence[Ratios], *names: str) -> dict[tuple[str, ...], list[Ratios]]:
    found: dict[tuple[str, ...], list[Ratios]] = defaultdict(list)
    for part in groups:
        found[tuple(getattr(part, name) for name in names)].append(part)
    return dict(sorted(found.items()))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    every = (ratios(times) for times in load(parser.parse_args().data))
    parts = [part for part in every if len(part.judged) >= FEWEST]
    factors = {names: middle(group) for names, group in by(parts, "device", "dtype").items()}
    for (device, dtype), group in by(parts, "device", "dtype").items():
        factor = factors[device, dtype]
        families = ", ".join(sorted({part.family for part in group}))
        count = sum(len(part.judged) for part in group)
        source = f"{families} on this device: 9 of 10 of {count} times of other shapes"
        print(entry(device, dtype, factor, spread([part.judged - factor for part in group]), source))
    for level, name in (("arch", "another device of this arch"), ("", "another arch of this vendor")):
        keys = ("arch", "dtype") if level else ("dtype",)
        for key, group in by(parts, *keys).items():
            others = {part: _of_others(part, group, level or "arch") for part in group}
            if any(not found for found in others.values()):
                continue
            offs = [np.concatenate([part.judged, part.fitted]) - middle(found) for part, found in others.items()]
            source = f"{name}: 9 of 10 of {sum(map(len, offs))} times, each {'device' if level else 'arch'} left out"
            print(entry(key[0] if level else "nvidia", key[-1], middle(group), spread(offs), source))


def _of_others(part: Ratios, group: Sequence[Ratios], level: str) -> list[Ratios]:
    """Return the group without the device of `part`, or without its arch."""
    apart = "device" if level == "arch" and len({other.arch for other in group}) == 1 else "arch"
    return [other for other in group if getattr(other, apart) != getattr(part, apart)]


if __name__ == "__main__":
    main()
