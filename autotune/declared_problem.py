"""Problems declared by the shapes of a launcher's tensors, where no class says more than those."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from autotune.config import Scalar
from autotune.errors import UsageError
from autotune.inputs import Draw

FIRST_SIZES = (1, 3)
"""Sizes of the varying dimension in proofs, where the declaration lists none: one row, and several."""
OTHER_SIZES = (100, 128)
"""Sizes of the other dimensions: one that is no power of two, and one that is."""

_FORM = re.compile(r"(\w+)\s*\[([\w\s,]*)\](?:\s*<\s*(\w+))?")
_SPELLING = "write its dtype and dimensions, as in 'bfloat16[rows, cols]', of integers also 'int64[rows] < cols'"


@dataclass(frozen=True)
class TensorForm:
    """One tensor argument: a contiguous tensor of a dtype, whose dimensions are numbers or fields of the problem."""

    name: str
    dtype: str
    """A dtype of torch, or the field that names one."""
    shape: tuple[str | int, ...]
    below: str | int | None
    """Integers are drawn from 0 to one less than this number or field; None for floating dtypes."""

    def __str__(self) -> str:
        return f"{self.dtype}[{', '.join(map(str, self.shape))}]"


class DeclaredProblem:
    """Base of the classes that `problem` makes. A field is a dimension (an integer) or a dtype (its name in torch)."""

    FORMS: ClassVar[tuple[TensorForm, ...]]
    CONSTANTS: ClassVar[Mapping[str, bool | int | float]]
    ARGUMENTS: ClassVar[tuple[str, ...]]
    """The launcher's arguments that are declared, in its order."""
    PROVED: ClassVar[Mapping[str, tuple[Scalar, ...]]]
    """By field, the values whose product are the problems of proofs; of a dtype, all that a call may have."""
    VARYING: ClassVar[tuple[str, ...]]
    READS: ClassVar[Mapping[str, set[str]]]
    """By argument, the attributes of a call's tensors that determine the problem."""

    @classmethod
    def of(cls, args: Any) -> DeclaredProblem:  # noqa: ANN401
        """Return the problem of a call. Raises ValueError for a tensor of another dtype, rank, size or stride."""
        fields: dict[str, Scalar] = {}
        for form in cls.FORMS:
            tensor = getattr(args, form.name)
            if not _fits(tensor, form, fields, cls.PROVED):
                known = ", ".join(f"{name}={value}" for name, value in fields.items())
                raise ValueError(
                    f"{form.name} must be contiguous {form}{' with ' * bool(known)}{known}, got "
                    f"{_dtype_name(tensor)} {list(tensor.shape)}, strides {tensor.stride()}"
                )
        return cls(**fields)

    def inputs(self, seed: int, device: str) -> tuple[Any, ...]:
        """Draw the declared arguments, in the launcher's order."""
        draw = Draw(seed, device)
        drawn = {form.name: self._drawn(form, draw) for form in self.FORMS}
        return tuple(drawn[name] if name in drawn else self.CONSTANTS[name] for name in self.ARGUMENTS)

    def _drawn(self, form: TensorForm, draw: Draw) -> Tensor:
        shape = tuple(self._value(size) for size in form.shape)
        dtype = getattr(torch, getattr(self, form.dtype, form.dtype))
        return (
            draw.normal(shape, dtype) if form.below is None else draw.integers(shape, 0, self._value(form.below), dtype)
        )

    def _value(self, size: str | int) -> int:
        return size if isinstance(size, int) else int(getattr(self, size))


def problem(*, varying: str | None = None, **declared: str | float | Sequence[Any]) -> type[Any]:
    """Make a problem of the shapes of the launcher's arguments, in its order.

    A tensor is text: `x="bfloat16[rows, cols]"`, its dtype in torch and its dimensions; of integers with the limit of
    their values, `labels="int64[rows] < cols"`. Tensors are contiguous. A number is an argument that is always the
    same: `eps=1e-6`. Arguments with defaults may be left out. Each dimension with a name becomes a field of the
    problem, and so does a dtype with a name of its own, `x="kind[rows, cols]", kind=["bfloat16", "float16"]`, whose
    list has all dtypes that are served. A list for a dimension, `cols=[128, 256]`, names its sizes in proofs; else
    they are FIRST_SIZES or OTHER_SIZES. A row of a table may serve other sizes of the dimension `varying`, the first
    one if it is not given. Raises UsageError.
    """
    listed = {name: tuple(value) for name, value in declared.items() if isinstance(value, list | tuple)}
    forms = [_form(name, text) for name, text in declared.items() if isinstance(text, str)]
    if not forms:
        raise UsageError(f"problem: declares no tensor; {_SPELLING}")
    dimensions = list(dict.fromkeys(size for form in forms for size in form.shape if isinstance(size, str)))
    dtypes = list(dict.fromkeys(form.dtype for form in forms if not isinstance(_torch_dtype(form.dtype), torch.dtype)))
    _check_names(forms, dimensions, dtypes, listed)
    if not dimensions or (varying is not None and varying not in dimensions):
        raise UsageError(
            f"problem: varying must be a named dimension ({', '.join(dimensions) or 'none'}), got {varying}"
        )
    first = varying or dimensions[0]
    sizes = {name: FIRST_SIZES if name == first else OTHER_SIZES for name in dimensions}
    proved = {**sizes, **{name: () for name in dtypes}, **listed}
    namespace = {
        "FORMS": tuple(forms),
        "CONSTANTS": {name: value for name, value in declared.items() if isinstance(value, bool | int | float)},
        "ARGUMENTS": tuple(name for name in declared if name not in listed),
        "PROVED": proved,
        "VARYING": (first,),
        "READS": _reads(forms, [*dimensions, *dtypes]),
    }
    fields = [(name, int) for name in dimensions] + [(name, str) for name in dtypes]
    return dataclasses.make_dataclass("Problem", fields, bases=(DeclaredProblem,), namespace=namespace, frozen=True)


def on_tensors(reference: Callable[..., Any]) -> Callable[..., Any]:
    """Return a function of a launcher's arguments as a reference: it gets floating tensors in float64."""
    return lambda problem, args: reference(*map(_widened, args))


def _widened(value: Any) -> Any:  # noqa: ANN401
    return value.double() if isinstance(value, Tensor) and value.is_floating_point() else value


def _form(name: str, text: str) -> TensorForm:
    match = _FORM.fullmatch(text.strip())
    if match is None:
        raise UsageError(f"problem: {name}={text!r} is no tensor; {_SPELLING}")
    dtype, dimensions, below = match.groups()
    shape = tuple(_size(part.strip()) for part in dimensions.split(",") if part.strip())
    kind = _torch_dtype(dtype)
    floating = kind is None or kind.is_floating_point
    if floating != (below is None):
        rule = "floating values have no limit" if floating else f"say what its values lie below, '{text} < LIMIT'"
        raise UsageError(f"problem: {name}={text!r}: {rule}")
    return TensorForm(name, dtype, shape, None if below is None else _size(below))


def _size(text: str) -> str | int:
    return int(text) if text.isdecimal() else text


def _torch_dtype(name: str) -> torch.dtype | None:
    kind = getattr(torch, name, None)
    return kind if isinstance(kind, torch.dtype) else None


def _check_names(
    forms: Sequence[TensorForm], dimensions: Sequence[str], dtypes: Sequence[str], listed: Mapping[str, tuple[Any, ...]]
) -> None:
    """Raise UsageError for a dtype without a list, a list of nothing, and a name that stands for two things."""
    for name in dtypes:
        if name == "dtype":  # a field of that name is the FP8 format of the device
            raise UsageError("problem: a dtype cannot be called 'dtype'; give it another name, such as 'kind'")
        kinds = [_torch_dtype(str(value)) for value in listed.get(name, ())]
        if not kinds or not all(kind is not None and kind.is_floating_point for kind in kinds):
            raise UsageError(
                f"problem: {name!r} is no dtype of torch; where it stands for several, list them: "
                f'{name}=["bfloat16", "float16"]'
            )
    for name, sizes in listed.items():
        if name in dimensions and not (sizes and all(type(size) is int and size > 0 for size in sizes)):
            raise UsageError(f"problem: {name} must list sizes of 1 or more, got {list(sizes)}")
        if name not in (*dimensions, *dtypes):
            raise UsageError(f"problem: no tensor has {name!r} as a dimension or dtype; remove its list")
    limits = [form.below for form in forms if isinstance(form.below, str)]
    for name in limits:
        if name not in dimensions:
            raise UsageError(f"problem: values below {name!r}: no tensor has that dimension")


def _reads(forms: Sequence[TensorForm], fields: Sequence[str]) -> dict[str, set[str]]:
    """Map arguments to the attributes that show a field which no tensor before them shows."""
    reads: dict[str, set[str]] = {}
    unseen = set(fields)
    for form in forms:
        if unseen.intersection(form.shape):
            reads.setdefault(form.name, set()).add("shape")
        if form.dtype in unseen:
            reads.setdefault(form.name, set()).add("dtype")
        unseen -= {form.dtype, *form.shape}
    return reads


def _fits(tensor: Tensor, form: TensorForm, fields: dict[str, Scalar], allowed: Mapping[str, tuple[Any, ...]]) -> bool:
    """True if a tensor has the form; `fields` has what earlier tensors showed, and gets what this one shows."""
    dtype = _dtype_name(tensor)
    wanted = fields.get(form.dtype, dtype if dtype in allowed.get(form.dtype, ()) else form.dtype)
    if dtype != wanted or tensor.ndim != len(form.shape) or not tensor.is_contiguous():
        return False
    if form.dtype in allowed:
        fields[form.dtype] = dtype
    for size, declared in zip(tensor.shape, form.shape, strict=True):
        if size != (fields.setdefault(declared, size) if isinstance(declared, str) else declared):
            return False
    return True


def _dtype_name(tensor: Tensor) -> str:
    return str(tensor.dtype).removeprefix("torch.")
