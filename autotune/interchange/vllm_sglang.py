"""vLLM's and SGLang's JSON: block-scaled FP8 GEMM and fused MoE, one file a shape and device, one entry a token count.

File names are what the engines' own `get_w8a8_block_fp8_configs` and `get_config_file_name` build. They differ in a
space, in `_down` (SGLang tunes the second expert GEMM apart) and in SGLang's folder `triton_X_Y_Z`.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune import arch as archs
from autotune import device as devices
from autotune import workload
from autotune.config import Scalar
from autotune.errors import UsageError
from autotune.files import read_json, scalars
from autotune.interchange.entries import NEUTRAL, Entry, Hints, Unmapped
from autotune.table import Row, Table
from autotune.toolchain import recorded_triton

DENSE, FP8_EXPERTS, BF16_EXPERTS = "gemm/fp8_block_scaled", "moe/fp8_grouped_gemm", "moe/bf16_grouped_gemm"

_NAME = re.compile(
    r"(?:E=(?P<e>\d{1,6}),)?N=(?P<n>\d{1,9})(?:,K=(?P<k>\d{1,9}))?,device_name=(?P<device>[^,/]*?)"
    r"(?:,dtype=(?P<dtype>[a-z0-9_]+?))?(?:,block_shape=\[(?P<block>\d+, ?\d+)\])?"
    r"(?P<channel>,per_channel_quant=True)?(?P<down>_down)?\.json"
)

OURS = {
    "BLOCK_SIZE_M": "BLOCK_M",
    "BLOCK_SIZE_N": "BLOCK_N",
    "BLOCK_SIZE_K": "BLOCK_K",
    "GROUP_SIZE_M": "GROUP_M",
    **{name: name for name in ("num_warps", "num_stages", "num_ctas", "maxnreg", "waves_per_eu")},
    "matrix_instr_nonkdim": "matrix_instr_nonkdim",
}
THEIRS = {ours: theirs for theirs, ours in OURS.items()}
KEPT = {"kpack", "SPLIT_K", "USE_TMA", "SWAP_AB", "grf_mode"}
"""Hints to code paths that our kernels do not have; none changes a result."""


@dataclass(frozen=True)
class _Shape:
    """What a file name says."""

    kernel: str
    device: str
    sizes: dict[str, int]
    down: bool


def identity(name: str) -> tuple[int | str, int, int, str, bool]:
    """(E or "", N, K or 0, dtype or "", down) of a file name that `write` made."""
    match = _NAME.fullmatch(name)
    assert match is not None, name
    experts = int(match["e"]) if match["e"] else ""
    return experts, int(match["n"]), int(match["k"] or 0), match["dtype"] or "", bool(match["down"])


def read(path: Path, hints: Hints, engine: str) -> tuple[list[Entry], list[Unmapped]]:
    """The entries of one file. Raises UsageError for a file that is not a table of configs."""
    data = read_json(path)
    if not isinstance(data, dict):
        raise UsageError(f"{path}: must be an object of token counts, got {type(data).__name__}")
    version = data.pop("triton_version", None)
    toolchain = f"triton {version}" if version else _folder_version(path.parent.name)
    shape = _shape(path.name)
    problems = _problems(shape, hints) if isinstance(shape, _Shape) else shape
    if isinstance(problems, str):
        return [], [Unmapped(str(path), problems)]
    assert isinstance(shape, _Shape)
    entries: list[Entry] = []
    left: list[Unmapped] = []
    for tokens, config in data.items():
        place = f"{path}: {tokens}"
        if not re.fullmatch(r"[1-9]\d{0,8}", tokens):
            raise UsageError(f"{place}: an entry's name must be a token count")
        fields = scalars(config, place)
        if unknown := fields.keys() - OURS.keys() - KEPT:
            left.append(Unmapped(place, f"unknown field {', '.join(sorted(unknown))}"))
            continue
        ours = {**OURS, **({"SPLIT_K": "SPLIT_K"} if shape.kernel == DENSE else {})}
        options = {ours[name]: value for name, value in fields.items() if name in ours}
        kept = {name: value for name, value in fields.items() if name not in ours}
        origin = {"from": engine, "file": path.name, "entry": tokens, "fields": list(fields)}
        if version:
            origin["triton_version"] = version
        for problem in problems:
            full = {**problem, ("m" if shape.kernel == DENSE else "tokens"): int(tokens)}
            entries.append(Entry(place, shape.kernel, shape.device, full, options, kept, origin, (), toolchain))
    return entries, left


def write(tables: list[Table], engine: str) -> tuple[dict[str, str], list[Unmapped]]:
    """Relative file name -> text, and the rows that the engine's kernels cannot run."""
    files: dict[str, dict[str, Any]] = {}
    left: list[Unmapped] = []
    for table in tables:
        if table.kernel not in (DENSE, FP8_EXPERTS, BF16_EXPERTS) or not _engine_names(table.device):
            left.append(Unmapped(f"{table.kernel} on {table.device}", f"{engine} has no table for it"))
            continue
        for row in sorted(table.rows, key=lambda row: _tokens(row)):
            place = f"{table.kernel} on {table.device}: " + ",".join(f"{n}={v}" for n, v in row.problem)
            entry = _entry(row, splits=engine == "sglang" and archs.named(table.arch).group_mma == "wgmma")
            if isinstance(entry, str):
                left.append(Unmapped(place, entry))
                continue
            reason = _place(files, table, row, entry, engine)
            if reason:
                left.append(Unmapped(place, reason))
    return {
        name: json.dumps(content, indent=4, allow_nan=False) + "\n" for name, content in sorted(files.items())
    }, left


def _shape(name: str) -> _Shape | str:
    match = _NAME.fullmatch(name)
    if match is None:
        return "the file name is not one that the engine's block-FP8 or MoE lookup builds"
    device = devices.called(match["device"])
    if device is None:
        return f"no device record is called {match['device'] or '(empty)'!r}"
    block = (match["block"] or "").replace(" ", "")
    if match["channel"]:
        return "per-channel scales: no kernel here"
    formats = {("fp8_w8a8", "128,128"): (DENSE, FP8_EXPERTS), (None, ""): (None, BF16_EXPERTS)}
    dense, experts = formats.get((match["dtype"], block), (None, None))
    kernel = experts if match["e"] else dense
    if kernel is None:
        what = f"{match['dtype'] or 'bf16'}" + (f" in blocks of {block}" if block else "")
        return f"{'experts' if match['e'] else 'a dense GEMM'} in {what}: no kernel here"
    if not match["e"] and not match["k"]:
        return "the file name gives no K"
    sizes = {name: int(match[name]) for name in "enk" if match[name]}
    return _Shape(kernel, device, sizes, bool(match["down"]))


def _problems(shape: _Shape, hints: Hints) -> list[dict[str, Scalar]] | str:
    """The problems that one entry serves, without the token count."""
    dtype: dict[str, Scalar] = {"dtype": devices.named(shape.device).fp8} if shape.kernel != BF16_EXPERTS else {}
    if shape.kernel == DENSE:
        return [{"n": shape.sizes["n"], "k": shape.sizes["k"], **dtype}]
    if not hints.model:
        return "names neither hidden size nor top-k; say whose it is with --model"
    model = workload.models.named(hints.model)
    experts, inner = shape.sizes["e"], shape.sizes["n"]
    if model.n_routed_experts % experts or model.moe_intermediate_size % inner:
        return f"{experts} experts of width {inner} are no split of {model.name}'s"
    same: dict[str, Scalar] = {"topk": model.num_experts_per_tok, "experts": experts, **dtype}
    w13: dict[str, Scalar] = {"n": 2 * inner, "k": model.hidden_size, "gathers": True, **same}
    w2: dict[str, Scalar] = {"n": model.hidden_size, "k": inner, "gathers": False, **same}
    return [w2] if shape.down else [w13, w2]


def _folder_version(folder: str) -> str:
    match = re.fullmatch(r"triton_(\d+)_(\d+)_(\d+)", folder)
    return f"triton {'.'.join(match.groups())}" if match else "unknown"


def _tokens(row: Row) -> int:
    fields = dict(row.problem)
    return int(fields["m"] if "m" in fields else fields["tokens"])


def _entry(row: Row, splits: bool) -> dict[str, Any] | str:
    """The row's config in the engine's names, in the order in which it came; SGLang splits K on Hopper alone."""
    config = dict(row.config)
    for name in ("SPLIT_K", "PERSISTENT"):
        if config.get(name, NEUTRAL[name]) != NEUTRAL[name] and not (splits and name == "SPLIT_K"):
            return f"{name}={config[name]}: the engine's kernel has no such parameter"
    names = {**THEIRS, "SPLIT_K": "SPLIT_K"}
    values = {**row.evidence.get("kept", {}), **{names[n]: v for n, v in config.items() if n in names}}
    if row.evidence.get("from") in ("vllm", "sglang"):
        return {name: values.get(name, values.get(OURS.get(name, ""))) for name in row.evidence["fields"]}
    order = [name for name in OURS if name in values and (name.isupper() or values[name] != NEUTRAL.get(OURS[name]))]
    entry = {name: values[name] for name in order} | ({} if "GROUP_SIZE_M" in values else {"GROUP_SIZE_M": 1})
    return entry | ({"SPLIT_K": config["SPLIT_K"]} if config.get("SPLIT_K", 1) != 1 else {})


def _place(files: dict[str, dict[str, Any]], table: Table, row: Row, entry: dict[str, Any], engine: str) -> str | None:
    """Puts the entry into the files of all names of the device; or says why not."""
    fields = dict(row.problem)
    space = "" if engine == "vllm" else " "
    fp8 = f",dtype=fp8_w8a8,block_shape=[128,{space}128]"
    tokens, down = str(_tokens(row)), ""
    if table.kernel == DENSE:
        head, tail, folder = f"N={fields['n']},K={fields['k']}", fp8, ""
    else:
        inner = int(fields["n"]) // 2 if fields["gathers"] else fields["k"]
        head, tail = f"E={fields['experts']},N={inner}", fp8 if table.kernel == FP8_EXPERTS else ""
        folder = _version_folder(row.toolchain) if engine == "sglang" else ""
        down = "" if fields["gathers"] else "_down"
    for device in [_device_in(row)] if _device_in(row) else _engine_names(table.device):
        name = f"{folder}{head},device_name={device}{tail}"
        if down:
            first = files.get(f"{name}.json", {}).get(tokens)
            if first == entry:
                return None  # both GEMMs alike: the engine uses the first one's for the second
            if engine == "vllm":
                return "vLLM takes the first expert GEMM's config for the second one too"
            if first is not None and first["BLOCK_SIZE_M"] != entry["BLOCK_SIZE_M"]:
                return "SGLang sorts tokens once: BLOCK_M of both expert GEMMs must be equal"
        content = files.setdefault(f"{name}{down}.json", {})
        if engine == "vllm" and table.kernel != DENSE and "triton_version" in row.evidence:
            content["triton_version"] = row.evidence["triton_version"]
        content[tokens] = entry
    return None


def _engine_names(device: str) -> tuple[str, ...]:
    """What the engines call a device: a driver decides which of the names they see, so all are written."""
    return dict(devices.named(device).aliases).get("engines", ())


def _device_in(row: Row) -> str:
    match = _NAME.fullmatch(str(row.evidence.get("file", "")))
    return match["device"] if match else ""


def _version_folder(toolchain: str) -> str:
    match = re.match(r"(\d+)\.(\d+)\.(\d+)", recorded_triton(toolchain) or "")
    return f"triton_{'_'.join(match.groups())}/" if match else ""
