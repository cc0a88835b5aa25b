"""Figures of the device record that a run contradicts, as a diff of the record that a person may apply."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator
from dataclasses import dataclass

from autotune import device as devices
from benchmarks.gpu_run.results import Results

_ALIKE = 0.02
"""Share by which a measured figure may differ without a word."""


@dataclass(frozen=True)
class Correction:
    """`name` as in the record's TOML; `source` goes to its table of figures."""

    name: str
    value: float
    source: str


def corrections(results: Results) -> Iterator[Correction]:
    """Yield the figures of the record that the ceilings and the driver's properties tell anew."""
    copied = _tb_s(results, "copy")
    if copied:
        yield Correction("tb_s", round(copied, 2), "torch's copy of 4 GiB, bytes read and written")
    cached = _tb_s(results, "read in L2")
    if cached:
        yield Correction("l2_tb_s", round(cached, 1), "torch's sum over a quarter of one die's L2, 64 times")
    node = results.value("ceilings", "graph node", "us")
    if node:
        yield Correction("launch_us", round(node, 2), "a node of a graph that clears 512 B")
    properties = results.of("identify").get("properties", {})
    units, l2 = (_number(properties.get(name)) for name in ("multi_processor_count", "L2_cache_size"))
    if units:
        yield Correction("compute_units", units, "the driver")
    if l2:
        yield Correction("l2_mb", round(l2 / 2**20, 1), "the driver")


def diff(results: Results) -> str:
    """A unified diff of the device's record; empty where the run contradicts nothing."""
    path = devices.paths()[results.device]
    old = new = path.read_text()
    versions = results.of("identify").get("versions", {})
    where = f"benchmarks.gpu_run, torch {versions.get('torch', '?')}"
    for correction in corrections(results):
        new = _replaced(new, correction, where)
    name = f"autotune/devices/{results.device}.toml"
    return "".join(difflib.unified_diff(old.splitlines(True), new.splitlines(True), name, name, n=1))


def _tb_s(results: Results, unit: str) -> float | None:
    line = results.of("ceilings").get(unit, {})
    samples = line.get("samples_us", {}).get("read")
    return line["bytes_moved"] / min(samples) / 1e6 if samples else None


def _number(text: str | None) -> float | None:
    return float(text) if text and re.fullmatch(r"[\d.]+", text) else None


def _replaced(record: str, correction: Correction, where: str) -> str:
    """The record with the figure, and with where it is from, unless it says about the same."""
    figure = re.search(rf"^{correction.name} = ([\d.]+)", record, re.MULTILINE)
    if figure is None or abs(float(figure[1]) - correction.value) <= _ALIKE * float(figure[1]):
        return record
    record = f"{record[: figure.start(1)]}{correction.value:g}{record[figure.end(1) :]}"
    source = f'{correction.name} = "measured: {correction.source}; {where}"'
    return re.sub(rf'^{correction.name} = ".*"$', lambda _: source, record, flags=re.MULTILINE)
