"""torch._inductor's lookup table: configs of its `mm` template, one key a call's dtypes, sizes and strides.

    torch._inductor.config.lookup_table.table = json.load(open("h200.inductor.json"))
    torch._inductor.virtualized.V.set_choices_handler(torch._inductor.lookup_table.LookupTableChoices())

Keys and fields: `lookup_table/choices.py` and `template_heuristics/triton.py` of torch 2.13. One of our kernels has an
equivalent: `gemm/bf16_linear` walks tiles and adds up as `triton::mm` does, for `x @ w.t()` without a bias. Ours writes
fp32 and the template bf16, so half the bytes of the result; and the template does not split K.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune.config import Scalar
from autotune.errors import UsageError
from autotune.files import scalars
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

KERNEL = "gemm/bf16_linear"
TEMPLATE = "triton::mm"

_FIELDS = ("BLOCK_M", "BLOCK_N", "BLOCK_K", "GROUP_M", "num_warps", "num_stages")
_AMD = ("waves_per_eu", "matrix_instr_nonkdim")
_DERIVED = {"template_id", "template_hash", "EVEN_K", "ALLOW_TF32", "USE_FAST_ACCUM", "ACC_TYPE", "kpack"}
"""Fields that follow from the call, or change nothing here."""
_PAIR = r"\(torch\.bfloat16, \[(\d{1,9}), (\d{1,9})\], \[(\d{1,9}), (\d{1,9})\]\)"
_KEY = re.compile(rf"(?:(?P<gpu>[^+]*)\+)?\({_PAIR}, {_PAIR}\)\+mm")


def read(path: Path, hints: Hints) -> Read:
    """The first `triton::mm` config of each call of bf16 operands. Raises UsageError for a file of another form."""
    data = read_loose_json(path)
    if not isinstance(data, dict):
        raise UsageError(f"{path}: must be an object of lookup keys, got {type(data).__name__}")
    entries: list[Entry] = []
    left: list[LeftOut] = []
    for key, configs in data.items():
        try:
            entries.append(_entry(path, key, configs, hints))
        except UsageError as error:
            left.append(LeftOut(str(path), key[:120], reason_of(error, key)))
    return entries, left


def write(tables: list[Table]) -> Written:
    """One file a device, whose keys name no device: the lookup asks for those too, and names differ by driver."""
    files: dict[str, File] = {}
    left: list[LeftOut] = []
    for table in tables:
        if table.kernel != KERNEL:
            left.append(LeftOut(table_name(table), "", f"inductor has no template that works as it does; {KERNEL} has"))
            continue
        content, rows = {}, []
        for row in table.rows:
            lost = [name for name in ("SPLIT_K", "num_ctas", "maxnreg") if _is_set(row, name)]
            if lost:
                words = ", ".join(f"{name}={row.config[name]}" for name in lost)
                left.append(row_left_out(table, row, f"{words}: inductor's template has no such parameter"))
                continue
            sizes = {name: int(value) for name, value in row.problem if name in ("m", "n", "k")}
            content[lookup_key(**sizes)] = [_config(row, sizes["k"])]
            rows.append(row)
        if content:
            files[f"{table.device}.inductor.json"] = File(
                json.dumps(content, indent=1, allow_nan=False) + "\n", tiers_of(rows)
            )
    return files, left


def lookup_key(m: int, n: int, k: int) -> str:
    """Return the key that inductor looks up for bf16 x [m, k] @ w[n, k].t(), both contiguous, on any device."""
    return f"((torch.bfloat16, [{m}, {k}], [{k}, 1]), (torch.bfloat16, [{k}, {n}], [1, {k}]))+mm"


def _config(row: Row, k: int) -> dict[str, Any]:
    """All that follows from the tile too: inductor's own values would be those of its first choice."""
    names = (*_FIELDS, *(name for name in _AMD if name in row.config))
    tile = {name: row.config[name] for name in names}
    even = k % row.config.size("BLOCK_K") == 0
    return {"template_id": TEMPLATE, **tile, "EVEN_K": even, "USE_FAST_ACCUM": False, "ACC_TYPE": "tl.float32"}


def _is_set(row: Row, name: str) -> bool:
    return row.config.get(name, NEUTRAL[name]) != NEUTRAL[name]


def _entry(path: Path, key: str, configs: Any, hints: Hints) -> Entry:  # noqa: ANN401
    match = _KEY.fullmatch(key)
    if match is None:
        raise UsageError(f"{key}: not an mm of two bf16 matrices: no kernel here")
    m, k, *x_strides, k_again, n, w_row, w_column = (int(part) for part in match.groups()[1:])
    if k != k_again or x_strides != [k, 1] or (w_row, w_column) != (1, k):
        raise UsageError(f"{key}: not x [m, k] by w [n, k] transposed, both contiguous: no kernel here has that layout")
    device = (match["gpu"] and devices.called(match["gpu"])) or _of_arch(match["gpu"]) or hints.device
    if not device:
        raise UsageError(f"{key}: names no device of ours; say it with --device")
    tiles = (
        [one for one in configs if isinstance(one, dict) and one.get("template_id") == TEMPLATE]
        if isinstance(configs, list)
        else []
    )
    if not tiles:
        raise UsageError(f"{key}: has no config of {TEMPLATE}")
    fields = scalars(tiles[0], key)
    if unknown := fields.keys() - _DERIVED - {*_FIELDS, *_AMD}:
        raise UsageError(f"{key}: unknown field {', '.join(sorted(unknown))}")
    options: dict[str, Scalar] = {name: value for name, value in fields.items() if name in (*_FIELDS, *_AMD)}
    origin = {"from": "inductor", "file": path.name, "entry": key}
    return Entry(path, key[:120], KERNEL, device, {"m": m, "n": n, "k": k}, options, {}, origin)


def _of_arch(gpu: str | None) -> str:
    """The only device of an AMD architecture, as `gfx1201`: AMD's key is `gcnArchName`."""
    arch = (gpu or "").partition(":")[0]
    found = [name for name in devices.names() if devices.named(name).arch == arch]
    return found[0] if len(found) == 1 else ""
