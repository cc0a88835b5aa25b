"""Imports every shipped foreign table, exports it again, and compares content.

    python -m benchmarks.serving.interchange --data FOLDER

FOLDER holds `vllm_sglang_best.csv.xz` (rows of the JSON files of vLLM and SGLang) and `aiter_configs.tar.xz`. Prints
how many files and entries are mapped, how many are not and why, and every file that does not come back as it was.
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
from pathlib import Path

from autotune import device as devices
from autotune import table
from autotune.interchange.entries import Hints, Home
from autotune.interchange.entries import rows as rows_of
from autotune.interchange.formats import FORMATS

TEXT = {"source", "family", "E", "N", "K", "H", "headdim", "dstate", "device", "dtype", "block_shape", "per_channel"}
TEXT |= {"down", "triton", "M", "file"}


def engine_files(archive: Path, folder: Path) -> list[tuple[str, Path]]:
    """Writes the JSON files from the CSV of their rows."""
    contents: dict[tuple[str, str], dict[str, dict[str, object]]] = {}
    with lzma.open(archive, "rt") as text:
        for row in csv.DictReader(text):
            fields = {n: json.loads(v.lower()) for n, v in row.items() if v and n not in TEXT}
            contents.setdefault((row["source"], row["file"]), {})[row["M"]] = fields
    found = []
    for (engine, name), content in contents.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(json.dumps(content))
        found.append((engine, path))
    return found


def aiter_files(archive: Path, folder: Path) -> list[tuple[str, Path]]:
    with tarfile.open(archive) as tar:
        tar.extractall(folder, filter="data")
    files = sorted(path for path in folder.rglob("*") if path.suffix in (".json", ".csv"))
    return [("aiter-csv" if path.suffix == ".csv" else "aiter", path) for path in files]


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--model", default="deepseek-v3.2", help="whose experts the MoE files are")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        for archive, files in (
            ("vllm_sglang_best.csv.xz", engine_files),
            ("aiter_configs.tar.xz", aiter_files),
        ):
            if not (arguments.data / archive).exists():
                print(f"{arguments.data / archive}: absent, left out")
                continue
            report(files(arguments.data / archive, Path(folder) / archive), arguments.model)


def report(files: list[tuple[str, Path]], model: str) -> None:
    for name in sorted({name for name, _ in files}):
        counts: Counter[str] = Counter()
        reasons: Counter[str] = Counter()
        for path in (path for one, path in files if one == name):
            entries, left = FORMATS[name].read(path, Hints(model=model))
            rows, refused = rows_of(entries)
            kind = "whole" if rows and not (left or refused) else "in part" if rows else "not mapped"
            counts[f"files {kind}"] += 1
            counts["rows"] += sum(map(len, rows.values()))
            for one in (*left, *refused):
                reasons[re.sub(r"\d+", "#", one.reason)] += 1
            if rows:
                counts["files that come back equal" if comes_back(name, path, rows) else f"DIFFERENT {path}"] += 1
        print(f"{name}: " + ", ".join(f"{key} {count}" for key, count in sorted(counts.items())))
        for reason, count in reasons.most_common():
            print(f"  {count:6} {reason}")


def comes_back(name: str, path: Path, rows: dict[Home, list[table.Row]]) -> bool:
    """Whether the mapped entries, through tables on disk and back, are those of the file."""
    tables = []
    for (kernel, device), ours in rows.items():
        made = table.Table(kernel, devices.named(device).arch, device, "s", ()).merged(ours)
        tables.append(table.loads(table.dumps(made), kernel))
    written, _ = FORMATS[name].write(tables)
    got = [json.loads(text) for file, text in written.items() if Path(file).name == path.name]
    asked = {row.evidence["entry"] for ours in rows.values() for row in ours}
    want = {key: value for key, value in json.loads(path.read_text()).items() if key in asked}
    return got == [want]


if __name__ == "__main__":
    main()
