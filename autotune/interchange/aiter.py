"""AITER's JSON for its Triton GEMMs: a file an architecture and shape, an entry an interval of M.

Source of the rules: CLAUDE.md beside AITER's config files, and its `gemm_config_utils.py`.

`M_LEQ_x` serves from the bound before it up to x, `M_GEQ_x` from x, `any` the rest: rows here serve the same intervals.
Its CSV has tuned rows of its CK, assembly, hipBLASLt and Triton kernels: a row names a prebuilt kernel instance, not a
tile, so none is a config of ours, and each is listed with its library.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from autotune import arch as archs
from autotune import device as devices
from autotune.config import Scalar
from autotune.device import Device
from autotune.errors import UsageError
from autotune.files import scalars
from autotune.foreign_text import read_csv as csv_rows
from autotune.foreign_text import read_loose_json
from autotune.interchange.entries import (
    NEUTRAL,
    Entry,
    File,
    Hints,
    LeftOut,
    Read,
    Written,
    reason_of,
    row_left_out,
    table_name,
    tiers_of,
)
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

_NAME = re.compile(
    r"(?:(?P<home>gfx\w+|MI\d+[A-Z]*|R\d+)-)?(?P<family>[A-Z0-9_-]+?)(?:-N=(?P<n>\d{1,9})-K=(?P<k>\d{1,9}))?\.json"
)
_BOUND = re.compile(r"M_(?P<side>LEQ|GEQ)_(?P<bound>[1-9]\d{0,8})|any")
_OLDER = re.compile(r"(?:small|medium|large|xlarge)(?:_M\d+)?")


def read(path: Path, hints: Hints) -> Read:
    """The entries of one file. Raises UsageError for a file that is not a table of configs."""
    home = _home(path, hints)
    if isinstance(home, str):
        return [], [LeftOut(str(path), "", home)]
    data = read_loose_json(path)
    if not isinstance(data, dict):
        raise UsageError(f"{path}: must be an object of intervals of M, got {type(data).__name__}")
    entries: list[Entry] = []
    left: list[LeftOut] = []
    older = [name for name in data if _OLDER.fullmatch(name)]
    for name in data:
        try:
            if name == "any" and older:
                raise UsageError(f"{name}: stands for what {', '.join(older)} leave, and their bounds are not known")
            entries += _entries(path, name, data, home)
        except UsageError as error:
            left.append(LeftOut(str(path), name[:80], reason_of(error, name)))
    return entries, left


def write(tables: list[Table]) -> Written:
    """Files by relative name under `aiter/ops/triton/configs/gemm`, and the rows that have no place there.

    A file replaces AITER's default for its shape, and AITER raises where it has no entry: each has one for every M.
    """
    chosen: dict[str, dict[str, Row]] = {}
    left: list[LeftOut] = []
    for table in tables:
        family = FAMILIES.get(table.kernel)
        if family is None or table.arch not in archs.names("amd"):
            left.append(LeftOut(table_name(table), "", "AITER has no JSON table for it"))
            continue
        # AITER's kernel reads fp32 scales: of two rows of one size, the one that has them comes first.
        for row in sorted(table.rows, key=lambda row: (_size(row), bool(dict(row.problem).get("ue8m0")))):
            other = [name for name in ("PERSISTENT", "NATIVE_SCALING") if row.config.get(name, False)]
            if other:
                left.append(row_left_out(table, row, f"{other[0]}: AITER's kernel has no such parameter"))
                continue
            fields, name = dict(row.problem), _bound_of(row)
            places = chosen.setdefault(f"{table.arch}-{family}-N={fields['n']}-K={fields['k']}.json", {})
            rival = places.get(name)
            if rival is not None and _entry(rival) == _entry(row):
                continue  # another device of the architecture, or a neighbour with the same config
            if rival is not None and (rival.rank, -_reach(name, rival)) <= (row.rank, -_reach(name, row)):
                left.append(row_left_out(table, row, f"AITER has one entry {name}, which is of m={_size(rival)}"))
                continue
            if rival is not None:
                left.append(row_left_out(table, rival, f"AITER has one entry {name}, which is of m={_size(row)}"))
            places[name] = row
    files = {}
    for file, places in sorted(chosen.items()):
        content = {name: _entry(row) for name, row in places.items()}
        if not any(name == "any" or name.startswith("M_GEQ") for name in content):
            content["any"] = _entry(max(places.values(), key=_size))
        files[file] = File(json.dumps(content, indent=2, allow_nan=False) + "\n", tiers_of(list(places.values())))
    return files, left


def read_csv(path: Path, hints: Hints) -> Read:
    """No entries: every row is listed. Raises UsageError for a file that is not such a CSV."""
    names, rows = csv_rows(path)
    if not {"us", "M", "token"} & set(names):
        return [], [LeftOut(str(path), "", "not a table of AITER: it has neither us, M nor token columns")]
    left = []
    for number, row in enumerate(rows, 2):
        library = row.get("libtype") or ("CK or assembly" if "kernelName" in row else "another")
        reason = f"names a prebuilt {library} kernel, no tile: not a config of a kernel here"
        if "" in row:
            reason = f"has more than the {len(names)} columns of line 1"
        left.append(LeftOut(str(path), f"line {number}", reason))
    return [], left


def _home(path: Path, hints: Hints) -> tuple[str, list[Device], dict[str, int]] | str:
    """(kernel, devices of the architecture, sizes), or why there is none."""
    match = _NAME.fullmatch(re.sub(r"(?i)\.json(?:\.(?:gz|xz|bz2))?$", ".json", path.name))
    if match is None or "gluon" in path.parts:
        return "Gluon kernels are other kernels" if "gluon" in path.parts else "the name is not one of a GEMM table"
    kernel = KERNELS.get(match["family"])
    if kernel is None:
        return f"{match['family']}: no kernel here has its operands and layout"
    if not match["n"]:
        return "a default for every shape: names neither N nor K"
    arch = _arch(match["home"]) if match["home"] else next((part for part in path.parts if part in archs.names()), "")
    known = [devices.named(name) for name in ([hints.device] if hints.device else devices.names())]
    serving = [device for device in known if device.arch == arch]
    if not serving:
        return f"tuned for {arch or 'no architecture'}: {hints.device or 'no device record'} is not"
    return kernel, serving, {"n": int(match["n"]), "k": int(match["k"])}


def _arch(home: str) -> str:
    """Before 2026 AITER named files by product, and took MI350X for gfx950, MI300X for gfx942."""
    product = home.lower()
    return devices.named(product).arch if product in devices.names() else home


def _entries(
    path: Path, name: str, data: dict[str, Any], home: tuple[str, list[Device], dict[str, int]]
) -> Iterable[Entry]:
    """One entry a device: AITER looks files up by architecture alone. Raises UsageError."""
    kernel, serving, sizes = home
    if _OLDER.fullmatch(name):
        raise UsageError(f"{name}: an interval of AITER before 2026, whose bounds differ by release")
    if not _BOUND.fullmatch(name):
        raise UsageError(f"{name}: an entry must be M_LEQ_x, M_GEQ_x or any")
    low, high = _interval(name, data)
    fields = scalars(data[name], name)
    if unknown := fields.keys() - OURS.keys() - KEPT:
        raise UsageError(f"{name}: unknown field {', '.join(sorted(unknown))}")
    if {fields.get("GROUP_K", 128), fields.get("GROUP_N", 128)} != {128}:
        raise UsageError(f"{name}: scale blocks are not 128 x 128")
    launched = _clamped(fields, sizes["k"])
    options = {OURS[field]: value for field, value in launched.items() if field in OURS}
    given = {field: value for field, value in fields.items() if launched[field] != value}
    kept = {**{field: value for field, value in fields.items() if field in KEPT}, **given}
    origin = {"from": "aiter", "file": path.name, "entry": name, "fields": list(fields)}
    anchor = low if name == "any" or name.startswith("M_GEQ") else high
    rank = 0 if path.name.startswith("gfx") else 1
    for device in serving:
        fp8: dict[str, Scalar] = {"dtype": device.fp8} if kernel == "gemm/fp8_block_scaled" else {}
        problem: dict[str, Scalar] = {"m": anchor, **sizes, **fp8}
        serves = (("m", low, high),)
        yield Entry(path, name, kernel, device.name, problem, options, kept, origin, serves, "unknown", rank)


def _interval(name: str, data: dict[str, Any]) -> tuple[int, int]:
    """(first, last) M that reaches the entry: M_LEQ ascending over BOUNDS, then M_GEQ descending, then any."""
    matches = [match for match in map(_BOUND.fullmatch, data) if match]
    upper = [b for m in matches if m["side"] == "LEQ" and (b := int(m["bound"])) in BOUNDS]
    lower = [b for m in matches if m["side"] == "GEQ" and (b := int(m["bound"])) in BOUNDS]
    beyond = max(upper, default=0) + 1
    if name == "any":
        low, high = beyond, min(lower, default=MOST + 1) - 1
    else:
        side, bound = name[2:5], int(name[6:])
        if bound not in BOUNDS:
            raise UsageError(f"{name}: AITER never asks for {bound}, only for {', '.join(map(str, BOUNDS))}")
        if side == "LEQ":
            low, high = max((b for b in upper if b < bound), default=0) + 1, bound
        else:
            low, high = max(bound, beyond), min((b for b in lower if b > bound), default=MOST + 1) - 1
    if low > high:
        raise UsageError(f"{name}: no M reaches this entry: other bounds come first")
    return low, high


def _clamped(fields: dict[str, Any], k: int) -> dict[str, Any]:
    """The fields as AITER launches them (`compute_splitk_params`): BLOCK_SIZE_K within a split, and within K."""
    block, split = fields.get("BLOCK_SIZE_K"), fields.get("NUM_KSPLIT", 1)
    if type(block) is not int or type(split) is not int or block < 1 or split < 1:
        return fields
    while split > 1 and block > -(-k // split):
        split = max(split // 2, 1)
    part = -(-k // split)
    if block > part:
        power = 1 << (part - 1).bit_length()
        block = power if power <= part else power // 2
    launched = {"BLOCK_SIZE_K": max(block, 16), "NUM_KSPLIT": split}
    return {field: launched.get(field, value) for field, value in fields.items()}


def _bound_of(row: Row) -> str:
    """The entry under which AITER's lookup finds the row; `any` for sizes beyond the last bound."""
    if row.evidence.get("from") == "aiter":
        return str(row.evidence["entry"])
    highest = max([_size(row), *(high for name, _, high in row.serves if name == "m")])
    within = [bound for bound in BOUNDS if _size(row) <= bound <= highest]
    above = [bound for bound in BOUNDS if bound >= _size(row)]
    return f"M_LEQ_{within[-1]}" if within else f"M_LEQ_{above[0]}" if above else "any"


def _reach(name: str, row: Row) -> int:
    """How near the row is to what its entry serves: to the bound from below, to `any` from above."""
    return _size(row) if name.startswith("M_LEQ") else -_size(row)


def _entry(row: Row) -> dict[str, Any]:
    came = row.evidence.get("from") == "aiter"
    values = {THEIRS[name]: value for name, value in row.config.items() if name in THEIRS}
    if came:
        kept = {**values, **row.evidence.get("kept", {})}
        return {name: kept[name] for name in row.evidence["fields"]}
    ordered = {name: values.get(name, NEUTRAL.get(ours)) for name, ours in OURS.items()}
    return {**ordered, "cache_modifier": None}


def _size(row: Row) -> int:
    return int(dict(row.problem)["m"])
