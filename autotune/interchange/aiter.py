"""AITER's JSON for its Triton GEMMs: a file an architecture and shape, an entry an interval of M.

Source of the rules: CLAUDE.md beside AITER's config files.

`M_LEQ_x` serves from the bound before it up to x, `M_GEQ_x` from x, `any` the rest: rows here serve the same intervals.
Its CSV has tuned rows of its CK, assembly, hipBLASLt and Triton kernels: a row names a prebuilt kernel instance, not a
tile, so none is a config of ours, and each is listed with its library.
"""

from __future__ import annotations

import csv
import io
import json
import re
from pathlib import Path
from typing import Any

from autotune import arch as archs
from autotune import device as devices
from autotune.config import Scalar
from autotune.device import Device
from autotune.errors import UsageError
from autotune.files import read_json, read_text, scalars
from autotune.interchange.entries import NEUTRAL, Entry, Hints, Unmapped
from autotune.table import Row, Table

BOUNDS = (1, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096, 8192)
"""The only bounds that AITER's lookup asks for."""
MOST = 2**31 - 1

KERNELS = {"GEMM-A8W8_BLOCKSCALE": "gemm/fp8_block_scaled", "GEMM-A16W16": "gemm/bf16_linear"}
FAMILIES = {kernel: family for family, kernel in KERNELS.items()}

OURS = {
    "BLOCK_SIZE_M": "BLOCK_M",
    "BLOCK_SIZE_N": "BLOCK_N",
    "BLOCK_SIZE_K": "BLOCK_K",
    "GROUP_SIZE_M": "GROUP_M",
    **{name: name for name in ("num_warps", "num_stages", "waves_per_eu", "matrix_instr_nonkdim")},
    "NUM_KSPLIT": "SPLIT_K",
}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}
KEPT = {"kpack", "cache_modifier", "SPLITK_BLOCK_SIZE", "GROUP_K", "GROUP_N"}

_NAME = re.compile(r"(?:(?P<arch>gfx\w+)-)?(?P<family>[A-Z0-9_-]+?)(?:-N=(?P<n>\d{1,9})-K=(?P<k>\d{1,9}))?\.json")
_BOUND = re.compile(r"M_(?P<side>LEQ|GEQ)_(?P<bound>[1-9]\d{0,8})|any")


def read(path: Path, hints: Hints) -> tuple[list[Entry], list[Unmapped]]:
    """The entries of one file. Raises UsageError for a file that is not a table of configs."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise UsageError(f"{path}: must be an object of intervals of M, got {type(data).__name__}")
    home = _home(path, hints)
    if isinstance(home, str):
        return [], [Unmapped(str(path), home)]
    kernel, serving, sizes = home
    entries: list[Entry] = []
    left: list[Unmapped] = []
    for name, (low, high) in _intervals(data, path).items():
        place = f"{path}: {name}"
        fields = scalars(data[name], place)
        if unknown := fields.keys() - OURS.keys() - KEPT:
            left.append(Unmapped(place, f"unknown field {', '.join(sorted(unknown))}"))
        elif {fields.get("GROUP_K", 128), fields.get("GROUP_N", 128)} != {128}:
            left.append(Unmapped(place, "scale blocks are not 128 x 128"))
        elif low > high:
            left.append(Unmapped(place, "no M reaches this entry: smaller bounds come first"))
        else:
            options = {OURS[field]: value for field, value in fields.items() if field in OURS}
            kept = {field: value for field, value in fields.items() if field in KEPT}
            origin = {"from": "aiter", "file": path.name, "entry": name, "fields": list(fields)}
            anchor = low if name == "any" or name.startswith("M_GEQ") else high
            serves = (("m", low, high),)
            for device in serving:  # AITER looks files up by architecture alone
                fp8 = {"dtype": device.fp8} if kernel == "gemm/fp8_block_scaled" else {}
                problem = {"m": anchor, **sizes, **fp8}
                entries.append(Entry(place, kernel, device.name, problem, options, kept, origin, serves))
    return entries, left


def write(tables: list[Table]) -> tuple[dict[str, str], list[Unmapped]]:
    """Relative file name -> text under `aiter/ops/triton/configs/gemm`, and the rows that have no place there."""
    files: dict[str, dict[str, Any]] = {}
    left: list[Unmapped] = []
    for table in tables:
        family = FAMILIES.get(table.kernel)
        if family is None or table.arch not in archs.names("amd"):
            left.append(Unmapped(f"{table.kernel} on {table.device}", "AITER has no JSON table for it"))
            continue
        for row in sorted(table.rows, key=_size):
            fields = dict(row.problem)
            place = f"{table.kernel} on {table.device}: " + ",".join(f"{n}={v}" for n, v in row.problem)
            name = _bound_of(row)
            if row.config.get("PERSISTENT", False):
                left.append(Unmapped(place, "PERSISTENT: AITER's kernel has no such parameter"))
            elif name is None:
                left.append(Unmapped(place, f"AITER asks only for M up to one of {', '.join(map(str, BOUNDS))}"))
            else:
                file = f"{table.arch}-{family}-N={fields['n']}-K={fields['k']}.json"
                files.setdefault(file, {})[name] = _entry(row)
    return {
        name: json.dumps(content, indent=2, allow_nan=False) + "\n" for name, content in sorted(files.items())
    }, left


def read_csv(path: Path, hints: Hints) -> tuple[list[Entry], list[Unmapped]]:
    """No entries: every row is listed. Raises UsageError for a file that is not such a CSV."""
    left = []
    for number, row in enumerate(_rows(path), 2):
        library = row.get("libtype") or ("CK or assembly" if "kernelName" in row else "another")
        reason = f"names a prebuilt {library} kernel, no tile: not a config of a kernel here"
        left.append(Unmapped(f"{path}: line {number}", reason))
    return [], left


def _home(path: Path, hints: Hints) -> tuple[str, list[Device], dict[str, Scalar]] | str:
    """(kernel, devices of the architecture, sizes), or why there is none."""
    match = _NAME.fullmatch(path.name)
    if match is None or "gluon" in path.parts:
        return "Gluon kernels are other kernels" if "gluon" in path.parts else "the name is not one of a GEMM table"
    kernel = KERNELS.get(match["family"])
    if kernel is None:
        return f"{match['family']}: no kernel here has its operands and layout"
    if not match["n"]:
        return "a default for every shape: names neither N nor K"
    arch = match["arch"] or next((part for part in path.parts if part in archs.names()), "")
    known = [devices.named(name) for name in ([hints.device] if hints.device else devices.names())]
    serving = [device for device in known if device.arch == arch]
    if not serving:
        return f"tuned for {arch or 'no architecture'}: {hints.device or 'no device record'} is not"
    return kernel, serving, {"n": int(match["n"]), "k": int(match["k"])}


def _intervals(data: dict[str, Any], path: Path) -> dict[str, tuple[int, int]]:
    """Entry -> (first, last) M that reaches it: M_LEQ ascending over BOUNDS, then M_GEQ descending, then any."""
    matches = {name: _BOUND.fullmatch(name) for name in data}
    for name, match in matches.items():
        if match is None:
            raise UsageError(f"{path}: {name}: an entry must be M_LEQ_x, M_GEQ_x or any")
    upper = sorted(int(m["bound"]) for m in matches.values() if m and m["side"] == "LEQ")
    lower = sorted(int(m["bound"]) for m in matches.values() if m and m["side"] == "GEQ")
    asked = [bound for bound in upper if bound in BOUNDS]
    found: dict[str, tuple[int, int]] = {}
    for name, match in matches.items():
        assert match is not None
        if match["side"] == "LEQ":
            bound = int(match["bound"])
            below = max((b for b in asked if b < bound), default=0)
            found[name] = (below + 1, bound if bound in BOUNDS else 0)
        elif match["side"] == "GEQ":
            bound = int(match["bound"])
            above = min((b for b in lower if b > bound), default=MOST + 1)
            found[name] = (max(bound, max(asked, default=0) + 1), above - 1)
        else:
            found[name] = (max(asked, default=0) + 1, min(lower, default=MOST + 1) - 1)
    return found


def _bound_of(row: Row) -> str | None:
    """The entry under which AITER's lookup finds the row."""
    if row.evidence.get("from") == "aiter":
        return str(row.evidence["entry"])
    highest = max([_size(row), *(high for name, _, high in row.serves if name == "m")])
    reached = [bound for bound in BOUNDS if _size(row) <= bound <= highest]
    return f"M_LEQ_{reached[-1]}" if reached else None


def _entry(row: Row) -> dict[str, Any]:
    kept = row.evidence.get("kept", {}) if row.evidence.get("from") == "aiter" else {}
    values = {**kept, **{THEIRS[name]: value for name, value in row.config.items() if name in THEIRS}}
    if row.evidence.get("from") == "aiter":
        return {name: values[name] for name in row.evidence["fields"]}
    ordered = {name: values.get(name, NEUTRAL.get(ours)) for name, ours in OURS.items()}
    return {**ordered, "cache_modifier": None}


def _size(row: Row) -> int:
    return int(dict(row.problem)["m"])


def _rows(path: Path) -> list[dict[str, str]]:
    try:
        reader = csv.DictReader(io.StringIO(read_text(path)), strict=True)
        rows = list(reader)
    except csv.Error as error:
        raise UsageError(f"{path}: not CSV ({error})") from error
    header = reader.fieldnames or []
    if not {"us", "M", "token"} & set(header):
        raise UsageError(f"{path}: line 1: not a table of AITER: it has neither us, M nor token columns")
    for number, row in enumerate(rows, 2):
        if None in row:  # shorter rows are shipped, and read as having nothing there
            raise UsageError(f"{path}: line {number}: more than the {len(header)} columns of line 1")
    return rows
