"""Our rows as files that the lookups of vLLM and SGLang find, and answer from at every token count.

Both take the entry whose token count is nearest. The output folder holds SGLang's `configs`: it is the one of the
engine's lookup, or SGLANG_MOE_CONFIG_DIR. vLLM's files lie in the folder itself, as VLLM_TUNED_CONFIG_FOLDER wants it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from autotune import arch as archs
from autotune import device as devices
from autotune.config import Config, Key
from autotune.interchange.entries import NEUTRAL, File, LeftOut, Written, row_left_out, tiers_of
from autotune.interchange.vllm_sglang import (
    BF16_EXPERTS,
    DENSE,
    FP8_EXPERTS,
    NAME,
    OURS,
    clamped,
    engine_names,
    release,
)
from autotune.table import Row, Table
from autotune.toolchain import order, triton_version

THEIRS = {ours: theirs for theirs, ours in OURS.items()}


@dataclass(frozen=True)
class _Place:
    """A row, and where an engine looks for it: the file without `_down`, the token count, which of two GEMMs."""

    table: Table
    row: Row
    file: str
    tokens: int
    down: bool
    own: bool
    """The file's name is the one that the row came in."""

    @property
    def model(self) -> Key:
        """Facts that a file name leaves out: whether scales are e8m0, top-k, hidden size, how tokens were routed."""
        fields = dict(self.row.problem)
        scales: Key = (("ue8m0", fields["ue8m0"]),) if "ue8m0" in fields else ()
        if self.table.kernel == DENSE:
            return scales
        hidden = fields["n" if self.down else "k"]
        return ("topk", fields["topk"]), ("hidden", hidden), ("routing", fields["routing"]), *scales

    def left_out(self, reason: str) -> LeftOut:
        return row_left_out(self.table, self.row, reason)


def write(tables: list[Table], engine: str) -> Written:
    """Files by relative name, and the rows that the engine's kernels cannot run or its names do not tell apart."""
    by_file: dict[str, list[_Place]] = {}
    left: list[LeftOut] = []
    for table in tables:
        if table.kernel not in (DENSE, FP8_EXPERTS, BF16_EXPERTS) or not engine_names(devices.named(table.device)):
            left.append(LeftOut(f"{table.kernel} on {table.device}", "", f"{engine} has no table for it"))
            continue
        for row in table.rows:
            reason = unfit(table, row, engine)
            if reason:
                left.append(row_left_out(table, row, reason))
                continue
            for place in _places(table, row, engine):
                by_file.setdefault(place.file, []).append(place)
    files: dict[str, File] = {}
    for name, places in sorted(by_file.items()):
        kept, others = _of_one_model(_filled(places))
        left += others
        more, less = _file(name, kept, engine)
        files |= more
        left += less
    return files, list(dict.fromkeys(left))


def unfit(table: Table, row: Row, engine: str) -> str | None:
    """Why the engine's kernel cannot run the row's config. SGLang alone splits K, on Hopper."""
    splits = engine == "sglang" and table.kernel == DENSE and archs.named(table.arch).group_mma == "wgmma"
    for name in ("SPLIT_K", "PERSISTENT", "NATIVE_SCALING"):
        if row.config.get(name, NEUTRAL[name]) != NEUTRAL[name] and not (splits and name == "SPLIT_K"):
            return f"{name}={row.config[name]}: the engine's kernel has no such parameter"
    launched = clamped({"BLOCK_SIZE_K": row.config["BLOCK_K"]}, table.kernel, devices.named(table.device), engine)
    if launched["BLOCK_SIZE_K"] != row.config["BLOCK_K"]:
        return f"BLOCK_K={row.config['BLOCK_K']}: {engine} launches it as {launched['BLOCK_SIZE_K']}"
    if table.kernel != DENSE and dict(row.problem)["gathers"] and int(dict(row.problem)["n"]) % 2:
        return "n is odd: no two halves of one expert"
    return None


def _places(table: Table, row: Row, engine: str) -> Iterator[_Place]:
    """Under every name that the engine may call the GPU by; a row that came in a file of one name, under that."""
    fields = dict(row.problem)
    space = "" if engine == "vllm" else " "
    fp8 = f",dtype=fp8_w8a8,block_shape=[128,{space}128]"
    if table.kernel == DENSE:
        head, tokens, down = f"N={fields['n']},K={fields['k']}", int(fields["m"]), False
    else:
        inner = int(fields["n"]) // 2 if fields["gathers"] else fields["k"]
        head, tokens, down = f"E={fields['experts']},N={inner}", int(fields["tokens"]), not fields["gathers"]
    variants = [row, *(_variant(row, other) for other in row.evidence.get("also", ()))]
    own = {match["device"]: (one, match) for one in variants if (match := _came_in(one))}
    names = dict.fromkeys([*own, *engine_names(devices.named(table.device))])
    for name in names:
        here, match = own.get(name, (row, None))
        tail = "" if table.kernel == BF16_EXPERTS else fp8
        if match and table.kernel == BF16_EXPERTS and here.evidence["from"] == engine:
            tail = match["tail"]
        yield _Place(table, here, f"{head},device_name={name}{tail}", tokens, down, own=match is not None)


def _variant(row: Row, other: dict[str, Any]) -> Row:
    """Contents of a file that calls the same GPU by another name."""
    return replace(row, config=Config(other["config"]), evidence={n: v for n, v in other.items() if n != "config"})


def _came_in(row: Row) -> re.Match[str] | None:
    return NAME.fullmatch(str(row.evidence.get("file", ""))) if row.evidence.get("from") in ("vllm", "sglang") else None


def _filled(places: list[_Place]) -> list[_Place]:
    """An import alone goes out under the names that it came in; beside rows tuned here, under every name."""
    return places if any(not _came_in(one.row) for one in places) else [one for one in places if one.own]


def _of_one_model(places: list[_Place]) -> tuple[list[_Place], list[LeftOut]]:
    """The rows of one model, the best-founded: names tell E and N, and two models may share those.

    The engines' kernels read fp32 scales: of two forms of one GEMM, the one that has them.
    """
    models: dict[Key, list[_Place]] = {}
    for place in places:
        models.setdefault(place.model, []).append(place)
    if len(models) < 2:
        return places, []

    def worth(model: Key) -> tuple[int, bool, bool, int]:
        rows, facts = models[model], dict(model)
        best_rank = min(place.row.rank for place in rows)
        return best_rank, bool(facts.get("ue8m0")), facts.get("routing") != "uniform", -len(rows)

    best = min(models, key=worth)
    words = ", ".join(f"{name}={value}" for name, value in best)
    reason = f"the file is of {words}: its name does not tell"
    return models[best], [one.left_out(reason) for model, rows in models.items() if model != best for one in rows]


def _file(name: str, places: list[_Place], engine: str) -> tuple[dict[str, File], list[LeftOut]]:
    """The file of the first expert GEMM or of the dense one, and SGLang's `_down` beside it where that differs."""
    first = {one.tokens: one for one in sorted(places, key=lambda one: one.tokens) if not one.down}
    second = {one.tokens: one for one in places if one.down}
    content = {tokens: _entry(one.row, engine) for tokens, one in first.items()}
    left, apart = [], {}
    for tokens, one in sorted(second.items()):
        entry = _entry(one.row, engine)
        if tokens not in content:
            left.append(one.left_out("the first expert GEMM has no row of this size, which the engine would look for"))
        elif entry == content[tokens]:
            continue  # the engine takes the first GEMM's config for the second
        elif engine == "vllm":
            left.append(one.left_out("vLLM takes the first expert GEMM's config for the second one too"))
        elif entry["BLOCK_SIZE_M"] != content[tokens]["BLOCK_SIZE_M"]:
            left.append(one.left_out("SGLang sorts tokens once: BLOCK_M of both expert GEMMs must be equal"))
        else:
            apart[tokens] = entry
    if not content:
        return {}, left
    folder = _folder(places, engine)
    rows = [one.row for one in first.values()]
    versions = {str(one.row.evidence["triton_version"]) for one in places if "triton_version" in one.row.evidence}
    stamp = {"triton_version": versions.pop()} if engine == "vllm" and len(versions) == 1 else {}
    files = {f"{folder}{name}.json": File(_text({**stamp, **content}), tiers_of(rows))}
    if apart:  # at every size of the first file: the nearest sizes of both must be one
        whole = {tokens: apart.get(tokens, entry) for tokens, entry in content.items()}
        files[f"{folder}{name}_down.json"] = File(_text(whole), tiers_of([second[tokens].row for tokens in apart]))
    return files, left


def _folder(places: Iterable[_Place], engine: str) -> str:
    """SGLang's folder: one release for the whole file, the newest of its rows', else the one that is installed."""
    if engine == "vllm":
        return ""
    if all(one.table.kernel == DENSE for one in places):
        return "configs/"
    newest = max(release(one.row.toolchain) for one in places) or order(triton_version())[:3]
    return f"configs/triton_{'_'.join(map(str, newest))}/"


def _entry(row: Row, engine: str) -> dict[str, Any]:
    """The row's config in the engine's names: as it came from this engine, else no field that only another one has."""
    values = {THEIRS[name]: value for name, value in row.config.items() if name in THEIRS}
    if row.config.get("SPLIT_K", 1) != 1:
        values["SPLIT_K"] = row.config["SPLIT_K"]
    if row.evidence.get("from") == engine:
        came = {"SPLIT_K": row.config.get("SPLIT_K", 1), **row.evidence.get("kept", {})}
        spare = {THEIRS[name]: value for name, value in came.items() if name in THEIRS}
        return {name: {**spare, **values, **came}.get(name) for name in row.evidence["fields"]}
    fields = [name for name in (*OURS, "SPLIT_K") if name in values]
    needed = [name for name in fields if name.isupper() or values[name] != NEUTRAL.get(OURS[name])]
    return {**{name: values[name] for name in needed}, **({} if "GROUP_SIZE_M" in values else {"GROUP_SIZE_M": 1})}


def _text(content: dict[Any, Any]) -> str:
    return json.dumps({str(name): value for name, value in content.items()}, indent=4, allow_nan=False) + "\n"
