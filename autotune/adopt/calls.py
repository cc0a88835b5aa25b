"""Captured calls of Triton kernels: shapes, dtypes, strides, scalars and grids, in JSON that anybody may edit."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from autotune import files
from autotune.errors import UsageError

SCHEMA = 1

Plain = int | float | bool | str | None


@dataclass(frozen=True)
class TensorSpec:
    """One tensor argument: enough to draw another one like it. Its values are not kept."""

    dtype: str
    """Name in torch, without `torch.`: `float16`, `int32`."""
    shape: tuple[int, ...]
    stride: tuple[int, ...]
    low: float | None = None
    """Smallest value that was seen; None where the tensor was not read."""
    high: float | None = None
    ascending: bool = False
    """True for integers that never fall, such as the starts of sequences: drawn sorted, from `low` to `high`."""
    distinct: bool = False
    """True for integers of which none is there twice, such as slots."""
    shares: str | None = None
    """An argument before it that begins at the same address, as where a kernel works in place."""

    @property
    def is_contiguous(self) -> bool:
        """True if the elements lie in order without gaps."""
        return not self.shape or self.stride == contiguous(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of its elements."""
        import torch  # files are read and checked without it

        return math.prod(self.shape) * int(getattr(torch, self.dtype).itemsize)


@dataclass(frozen=True)
class Unkept:
    """An argument that no file can hold, such as a function or a tensor descriptor; `kind` says what it was."""

    kind: str


Argument = TensorSpec | Unkept | Plain


class Sample(NamedTuple):
    """Value of a grid function for one choice of constexprs."""

    constexprs: Mapping[str, Plain]
    grid: tuple[int, ...]


@dataclass(frozen=True)
class Call:
    """One kind of call of one kernel."""

    kernel: str
    """`module:function`."""
    arguments: Mapping[str, Argument]
    """By parameter; those that a config or a heuristic sets are left out."""
    options: Mapping[str, Plain]
    """Launch options that the caller gave, such as `num_warps`."""
    grid: tuple[int, ...]
    samples: tuple[Sample, ...] = ()
    """The grid for other configs, where the caller gave a function of them."""
    times: int = 1
    """Number of calls of this kind."""


def contiguous(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Return the strides of a tensor without gaps, as torch gives them."""
    strides, step = [], 1
    for size in reversed(shape):
        strides.append(step)
        step *= max(size, 1)
    return tuple(reversed(strides))


def write(path: Path, calls: Iterable[Call]) -> None:
    """Write calls as JSON, one argument a line, whole or not at all."""
    data = {"schema": SCHEMA, "calls": [to_json(call) for call in calls]}
    files.write(path, json.dumps(data, indent=1, allow_nan=False) + "\n")


def read(path: Path) -> tuple[Call, ...]:
    """Read calls that `write` wrote; nothing in the file is executed. Raises UsageError with the place."""
    data = files.read_json(path)
    if not isinstance(data, dict) or data.get("schema") != SCHEMA or not isinstance(data.get("calls"), list):
        raise UsageError(f"{path}: no captured calls of schema {SCHEMA}; `with autotune.capture(...)` writes some")
    return tuple(_call(entry, f"{path}: call {number}") for number, entry in enumerate(data["calls"], 1))


def to_json(call: Call) -> dict[str, Any]:
    """Return a call as the file keeps it."""
    return {
        "kernel": call.kernel,
        "times": call.times,
        "arguments": {name: _argument_to_json(value) for name, value in call.arguments.items()},
        "options": dict(call.options),
        "grid": list(call.grid),
        "samples": [[dict(sample.constexprs), list(sample.grid)] for sample in call.samples],
    }


def _argument_to_json(value: Argument) -> Any:  # noqa: ANN401
    if isinstance(value, TensorSpec):
        range_seen = {} if value.low is None else {"low": value.low, "high": value.high}
        order = {name: True for name in ("ascending", "distinct") if getattr(value, name)}
        shared = {} if value.shares is None else {"shares": value.shares}
        form = {"dtype": value.dtype, "shape": list(value.shape), "stride": list(value.stride)}
        return {**form, **range_seen, **order, **shared}
    return {"unkept": value.kind} if isinstance(value, Unkept) else value


def _call(data: Any, place: str) -> Call:  # noqa: ANN401
    wanted = {"kernel": str, "arguments": dict, "options": dict, "grid": list, "samples": list, "times": int}
    if not isinstance(data, dict) or data.keys() != wanted.keys():
        raise UsageError(f"{place}: must have exactly {', '.join(wanted)}, got {str(data)[:80]}")
    for name, kind in wanted.items():
        if type(data[name]) is not kind:
            raise UsageError(f"{place}: {name} must be {kind.__name__}, got {str(data[name])[:80]}")
    return Call(
        data["kernel"],
        {name: _argument(value, f"{place}: {name}") for name, value in data["arguments"].items()},
        _plains(data["options"], f"{place}: options"),
        _sizes(data["grid"], f"{place}: grid"),
        tuple(_sample(sample, f"{place}: samples") for sample in data["samples"]),
        data["times"],
    )


def _sample(data: Any, place: str) -> Sample:  # noqa: ANN401
    if not isinstance(data, list) or len(data) != 2:
        raise UsageError(f"{place}: each must be [constexprs, grid], got {str(data)[:80]}")
    return Sample(_plains(data[0], place), _sizes(data[1], place))


def _argument(data: Any, place: str) -> Argument:  # noqa: ANN401
    if not isinstance(data, dict):
        return _plains({"value": data}, place)["value"]
    if data.keys() == {"unkept"} and isinstance(data["unkept"], str):
        return Unkept(data["unkept"])
    needed, known = {"dtype", "shape", "stride"}, {"low", "high", "ascending", "distinct", "shares"}
    if not needed <= data.keys() or data.keys() - needed - known or not isinstance(data["dtype"], str):
        raise UsageError(
            f"{place}: a tensor has dtype, shape, stride, perhaps {', '.join(sorted(known))}; got {str(data)[:80]}"
        )
    shape, stride = (_sizes(data[name], f"{place}: {name}") for name in ("shape", "stride"))
    ends = [data.get("low"), data.get("high")]
    if len(shape) != len(stride) or not data["dtype"].isidentifier():
        raise UsageError(f"{place}: must have one stride a dimension and a dtype of torch, got {str(data)[:80]}")
    if not all(isinstance(end, int | float) for end in ends) and ends != [None, None]:
        raise UsageError(f"{place}: low and high must be numbers, got {ends}")
    shares = data.get("shares")
    if shares is not None and not isinstance(shares, str):
        raise UsageError(f"{place}: shares must name an argument, got {str(shares)[:80]}")
    order = {name: bool(data.get(name)) for name in ("ascending", "distinct")}
    return TensorSpec(data["dtype"], shape, stride, ends[0], ends[1], **order, shares=shares)


def _plains(data: Any, place: str) -> dict[str, Plain]:  # noqa: ANN401
    if not isinstance(data, dict) or not all(
        v is None or isinstance(v, int | float | bool | str) for v in data.values()
    ):
        raise UsageError(f"{place}: must be plain values, got {str(data)[:80]}")
    return data


def _sizes(data: Any, place: str) -> tuple[int, ...]:  # noqa: ANN401
    if not isinstance(data, list) or not all(type(size) is int and size >= 0 for size in data):
        raise UsageError(f"{place}: must be a list of integers of 0 or more, got {str(data)[:80]}")
    return tuple(data)
