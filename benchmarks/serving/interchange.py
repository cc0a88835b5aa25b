"""Imports every shipped foreign table, exports it again, and compares content.

    python -m benchmarks.serving.interchange --data FOLDER [--wheel sglang=FOLDER]

FOLDER holds `vllm_sglang_best.csv.xz` (rows of the JSON files of vLLM and SGLang) and `aiter_configs.tar.xz`; the
wheel is unpacked. Prints how many files and entries are taken, how many are not and why, and every file that does
not come back as it was.
"""

from __future__ import annotations

import argparse
import csv
import json
import lzma
import re
import tarfile
import tempfile
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune import table
from autotune.config import describe_key
from autotune.interchange import importing
from autotune.interchange.entries import Hints, table_name
from autotune.interchange.formats import FORMATS

TEXT = {"source", "family", "E", "N", "K", "H", "headdim", "dstate", "device", "dtype", "block_shape", "per_channel"}
TEXT |= {"down", "triton", "M", "file"}
MODEL = "deepseek-v3.2"


@dataclass(frozen=True)
class Survey:
    """One folder of one format: what was taken, what was left out, and the files that do not come back."""

    files: int
    report: importing.ImportReport
    different: list[str]

    def lines(self, name: str) -> Iterator[str]:
        rows = [row for rows in self.report.rows.values() for row in rows]
        yield (
            f"{name}: {self.files} files, {len({str(row.evidence['file']) for row in rows})} taken, {len(rows)} rows, "
            f"{len(self.report.left)} left out, {len(self.different)} that do not come back"
        )
        yield from (f"  DIFFERENT {entry}" for entry in self.different)
        reasons = Counter(re.sub(r"\d+", "#", entry.reason) for entry in self.report.left)
        yield from (f"  {count:6} {reason}" for reason, count in reasons.most_common())


def survey(name: str, folder: Path, model: str = MODEL) -> Survey:
    """Imports the folder, exports the rows through tables as they lie on disk, and compares every file."""
    form = FORMATS[name]
    report = importing.read(form, [folder], Hints(model=model))
    tables = []
    for (kernel, device), rows in report.rows.items():
        made = table.Table(kernel, devices.named(device).arch, device, "s", ()).merged(rows)
        tables.append(table.loads(table.dumps(made), kernel))
    files = [path for path in folder.rglob("*") if path.name.lower().endswith(form.suffix)]
    if name == "aiter-csv":
        return Survey(len(files), report, [])
    written: dict[str, dict[str, Any]] = {}
    unwritten: set[tuple[str, str]] = set()
    for device in {made.device for made in tables}:
        content, left = form.write([entry for entry in tables if entry.device == device])
        written |= {Path(file).name: json.loads(entry.text) for file, entry in content.items()}
        unwritten |= {(entry.place, entry.entry) for entry in left}
    return Survey(len(files), report, sorted(_different(written, unwritten, tables, files)))


def _different(
    written: dict[str, Any], unwritten: set[tuple[str, str]], tables: list[table.Table], files: list[Path]
) -> Iterator[str]:
    """Files whose entries are not what was written, but for those that the export names with a reason.

    A `_down` file may have more: it covers the other's sizes.
    """
    taken: dict[str, set[str]] = {}
    for entry in tables:
        for row in entry.rows:
            if (table_name(entry), describe_key(row.problem)) in unwritten:
                continue
            for origin in (row.evidence, *row.evidence.get("also", ())):
                taken.setdefault(str(origin["file"]), set()).add(str(origin["entry"]))
    alike: dict[str, list[Path]] = {name: [path for path in files if path.name == name] for name in taken}
    for name, paths in alike.items():  # of several releases' files the newest was taken
        if not any(_holds(written.get(name, {}), path, taken[name]) for path in paths):
            yield name


def _holds(got: dict[str, Any], path: Path, entries: set[str]) -> bool:
    content = json.loads(path.read_text(encoding="utf-8"))
    want = {name: content[name] for name in entries if name in content}
    return bool(want) and {name: got.get(name) for name in want} == want


def engine_folders(archive: Path, folder: Path) -> None:
    """Writes the JSON files of both engines from the CSV of their rows, in a folder an engine."""
    contents: dict[tuple[str, str], dict[str, dict[str, object]]] = {}
    with lzma.open(archive, "rt") as text:
        for row in csv.DictReader(text):
            fields = {n: json.loads(v.lower()) for n, v in row.items() if v and n not in TEXT}
            contents.setdefault((row["source"], row["file"]), {})[row["M"]] = fields
    for (engine, name), content in contents.items():
        path = folder / engine / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))


def surveys(data: Path, folder: Path) -> Iterator[tuple[str, Survey]]:
    """Surveys of the archives in `data`; `folder` is an empty one to unpack them in."""
    best, configs = data / "vllm_sglang_best.csv.xz", data / "aiter_configs.tar.xz"
    if best.exists():
        engine_folders(best, folder)
        yield from ((engine, survey(engine, folder / engine)) for engine in ("vllm", "sglang"))
    if configs.exists():
        with tarfile.open(configs) as tar:
            tar.extractall(folder / "aiter", filter="data")
        yield from ((name, survey(name, folder / "aiter")) for name in ("aiter", "aiter-csv"))


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path)
    parser.add_argument("--wheel", action="append", default=[], metavar="ENGINE=FOLDER")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for name, found in surveys(arguments.data, Path(folder)) if arguments.data else ():
            print("\n".join(found.lines(name)))
    for wheel in arguments.wheel:
        engine, _, place = wheel.partition("=")
        print("\n".join(survey(engine, Path(place)).lines(engine)))


if __name__ == "__main__":
    main()
