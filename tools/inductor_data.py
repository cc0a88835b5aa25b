"""Choice lists of TorchInductor whose configs were all timed, as calls of the cost model.

`mm` (fp16, bf16, tf32, fp32), `mixed_mm` (a 16-bit by an 8-bit operand, which the kernel converts) and flex attention,
on an A100 and an H100. A space is one GPU and problem; its rows are the configs of the list, each with its time or
marked as failed. The caches are cold: Inductor's benchmark flushes them before every call.
"""

from __future__ import annotations

import csv
import lzma
import zlib
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from autotune import device as devices
from autotune.device import Device
from autotune.tuning.arrays import Floats
from autotune.tuning.cost_model.call_batch import CallBatch
from tools.data import required

FAMILIES = ("mm", "mixed_mm", "flex_attention")
EVENTS_US = 2.8
"""Microseconds that Inductor's benchmark sees beyond a launch in a graph: it records two events around a call."""
_COLUMNS = ("us", "noise", "space", "problem", "rows", "library_us", "kept_bytes", "half")
_NO_PROBLEM = {"id", "gpu", "kv_len", "n_configs", "n_failed", "best_us", "median_us", "library_us"}
"""Columns of a space that say nothing of its problem, or not on both GPUs."""
_SCORE_OPERATIONS = 4
"""Operations of a score, each of the weight of an exponential: its change, its mask, its power, maximum and sum."""
_DTYPES = {"float16": "bf16", "bfloat16": "bf16", "float32": "fp32"}
_BYTES = {"bf16": 2, "tf32": 4, "fp32": 4}


@dataclass(frozen=True)
class Spaces:
    """All spaces of one family, GPU and dtype as columns, one entry a config."""

    family: str
    device: Device
    dtype: str
    """Name in the source; `float32` with or without tensor cores."""
    calls: CallBatch
    us: Floats
    """Median of the repeats; NaN where the config failed."""
    noise: Floats
    """Longest over shortest of the repeats; NaN where there was one."""
    space: NDArray[np.intp]
    """Number of the space, the same for all its configs."""
    problem: NDArray[np.str_]
    """Shape, dtypes and strides, which a space of the other GPU may share."""
    rows: Floats
    """Rows of the problem's result: m, or queries a head."""
    library_us: Floats
    """Time of cuBLAS, or of a cast and cuBLAS; NaN in flex attention."""
    kept_bytes: Floats
    """Shared memory beside the pipeline's: queries of attention, which every step reads."""
    half: NDArray[np.intp]
    """0 fits constants, 1 judges them: a split by shape."""

    def chosen(self, keep: NDArray[np.bool_]) -> Spaces:
        """Return the entries where `keep` is true."""
        columns = {name: getattr(self, name)[keep] for name in _COLUMNS}
        return Spaces(self.family, self.device, self.dtype, self.calls.chosen(keep), **columns)

    @property
    def operands(self) -> str:
        """Dtype of the matrix instruction's operands, which is one in all of them."""
        return str(self.calls.dtype[0])


def load(data: Path, family: str) -> list[Spaces]:
    """Read `inductor_FAMILY.rows.csv.xz` and `.spaces.csv.xz`, and group them by GPU and dtype."""
    spaces = {row["id"]: row for row in _table(data, f"inductor_{family}.spaces.csv.xz")}
    groups: dict[tuple[str, str], list[tuple[dict[str, str], dict[str, str]]]] = defaultdict(list)
    for row in _table(data, f"inductor_{family}.rows.csv.xz"):
        if "/" in row["cfg"]:  # a library's row has a name in place of a config
            space = spaces[row["id"]]
            groups[space["gpu"], _dtype(space)].append((space, row))
    return [_spaces(family, gpu, dtype, pairs) for (gpu, dtype), pairs in sorted(groups.items())]


def _table(data: Path, name: str) -> Iterator[dict[str, str]]:
    with lzma.open(required(data, name), "rt", newline="") as file:
        yield from csv.DictReader(file)


def _dtype(space: dict[str, str]) -> str:
    name = space.get("a_dtype") or space["dtype"]
    return f"{name}, tensor cores" if space.get("tf32") == "1" else name


def _spaces(family: str, gpu: str, dtype: str, pairs: Sequence[tuple[dict[str, str], dict[str, str]]]) -> Spaces:
    def of_spaces(name: str) -> Floats:
        return np.array([float(space.get(name) or "nan") for space, _ in pairs])

    tiles, warps, stages = _configs([row["cfg"] for _, row in pairs])
    if family == "flex_attention":
        shape = [of_spaces(name) for name in ("b", "heads", "q_len", "head_dim", "kv_len")]
        operand = "tf32" if dtype == "float32" else "bf16"
        calls = _attention(shape, tiles, warps, stages, operand)
        rows, kept_bytes = shape[2], _BYTES[operand] * tiles[0] * shape[3]
    else:
        shape = [of_spaces(name) for name in ("m", "n", "k")]
        operand = "tf32" if dtype.endswith("tensor cores") else _DTYPES[dtype]
        calls = _matmul(shape, tiles, warps, stages, operand, _conversions(family, devices.named(gpu)))
        rows, kept_bytes = shape[0], np.zeros(len(pairs))
    return Spaces(
        family,
        devices.named(gpu),
        dtype,
        calls,
        us=np.array([float(row["us"]) if row["status"] == "ok" else np.nan for _, row in pairs]),
        noise=np.array([float(row["spread"] or "nan") for _, row in pairs]),
        space=np.array([int(row["id"]) for _, row in pairs]),
        problem=np.array([_problem(space) for space, _ in pairs]),
        rows=rows,
        library_us=of_spaces("library_us"),
        kept_bytes=kept_bytes,
        half=np.array([half(*sizes) for sizes in zip(*shape, strict=True)]),
    )


def _problem(space: dict[str, str]) -> str:
    return " ".join(f"{name}={value}" for name, value in space.items() if name not in _NO_PROBLEM)


def _conversions(family: str, device: Device) -> int:
    """Return operations that an element of B costs a tile of 64 rows or more: none in `mm`; warp groups read operands
    from shared memory, so that what they converted goes back there."""
    if family != "mixed_mm":
        return 0
    return 2 if device.architecture.group_mma else 1


def half(*sizes: float) -> int:
    """Return the side of the split by shape."""
    return zlib.crc32(repr(sizes).encode()) % 2


def _configs(names: Sequence[str]) -> tuple[list[Floats], Floats, Floats]:
    """Read `128x64x32/3/4`: blocks, stages, warps."""
    parts = [name.split("/") for name in names]
    blocks = np.array([[int(size) for size in block.split("x")] for block, _, _ in parts], float)
    stages, warps = (np.array([int(part[at]) for part in parts], float) for at in (1, 2))
    return list(blocks.T), warps, stages


def _matmul(
    shape: Sequence[Floats], tiles: Sequence[Floats], warps: Floats, stages: Floats, dtype: str, conversions: int
) -> CallBatch:
    """Work of Inductor's `mm` template: tiles of A and B in K steps, the sum rounded to the operands' dtype.

    `conversions`: operations an element of B, in tiles of 64 rows or more; in smaller ones at most one.
    """
    (m, n, k), (rows, columns, depth) = shape, tiles
    width = _BYTES[dtype]
    b_width = 1 if conversions else width
    steps = np.ceil(k / depth)
    return CallBatch(
        dtype=np.full(len(rows), dtype),
        programs=np.ceil(m / rows) * np.ceil(n / columns),
        flops_per_program=2 * rows * columns * steps * depth,
        bytes_per_program=(width * np.minimum(rows, m) + b_width * np.minimum(columns, n)) * k + width * rows * columns,
        unique_bytes=width * m * k + b_width * k * n + width * m * n,
        iterations=steps,
        launches=np.ones(len(m)),
        reduction_bytes=np.zeros(len(m)),
        lane_operations=steps * depth * columns * np.where(rows >= 64, conversions, min(conversions, 1)),
        a_width=np.full(len(m), float(width)),
        b_width=np.full(len(m), float(b_width)),
        rows=rows,
        columns=columns,
        depth=depth,
        warps=warps,
        stages=stages,
    )


def _attention(
    shape: Sequence[Floats], tiles: Sequence[Floats], warps: Floats, stages: Floats, dtype: str
) -> CallBatch:
    """Work of flex attention forward over all keys: which of them its mask leaves out is not recorded.

    A tile of scores (rows x keys) is held beside that of the result (rows x head width): as columns of one tile. Keys
    and values are loaded in each step, queries once.
    """
    (batch, heads, queries, width, keys), (rows, columns) = shape, tiles
    keys = np.where(np.isnan(keys), queries, keys)
    element, steps = _BYTES[dtype], np.ceil(keys / columns)
    held = width + columns
    return CallBatch(
        dtype=np.full(len(rows), dtype),
        programs=batch * heads * np.ceil(queries / rows),
        flops_per_program=4 * rows * columns * steps * width,
        bytes_per_program=element * width * (2 * keys + 2 * rows),
        unique_bytes=element * batch * heads * width * 2 * (queries + keys),
        iterations=steps,
        launches=np.ones(len(rows)),
        reduction_bytes=np.zeros(len(rows)),
        lane_operations=_SCORE_OPERATIONS * steps * rows * columns,
        a_width=np.zeros(len(rows)),
        b_width=2 * element * width / held,
        rows=rows,
        columns=held,
        depth=columns,
        warps=warps,
        stages=stages,
    )
