"""Facts read from a launcher's source: arguments that decide the config, arguments written, number of new results.

Read from the source, never from data: an argument that `Problem.of` does not mention cannot change the problem.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections import namedtuple
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from operator import attrgetter
from typing import Any, ClassVar

from autotune.errors import UsageError, did_you_mean

Reader = Callable[[tuple[Any, ...]], Any]
"""Call arguments -> a hashable of the shapes, dtypes and plain values that decide."""

TENSOR, OPTIONAL = "Tensor", "Tensor | None"
PLAIN = ("int", "float", "bool", "str")


@dataclass(frozen=True)
class Parameter:
    """One positional parameter of a launcher; `kind` is its annotation as written."""

    EMPTY: ClassVar = inspect.Parameter.empty

    name: str
    kind: str
    default: Any

    @property
    def is_tensor(self) -> bool:
        return self.kind in (TENSOR, OPTIONAL)


@dataclass(frozen=True)
class Signature:
    parameters: tuple[Parameter, ...]
    decides: tuple[tuple[int, tuple[str, ...]], ...]
    """For each argument that `Problem.of` reads: its position, and the attributes read (none: the value itself)."""
    written: tuple[int, ...]
    """Positions of the arguments that the launcher writes in place: those that it returns, after its new results, or
    where it returns nothing, those that it calls `out`."""
    bare: bool
    """A single result comes alone, not in a tuple."""
    fresh: tuple[str, ...]
    """The other results, as the source spells them."""

    @cached_property
    def reader(self) -> Reader:
        """The key of a call: what decides, and the device of its first tensor."""
        first = next(i for i, p in enumerate(self.parameters) if p.kind == TENSOR)
        attributes = {i: list(names) for i, names in self.decides}
        attributes[first] = [*attributes.get(first, []), "device"]
        parts = [(i, self._getter(i, tuple(names))) for i, names in sorted(attributes.items())]
        if len(parts) == 1:
            ((i, only),) = parts
            return lambda args: only(args[i])
        if len(parts) == 2:  # the GEMMs: 0.1 us less than the loop below
            (i, left), (j, right) = parts
            return lambda args: (left(args[i]), right(args[j]))
        return lambda args: tuple([read(args[i]) for i, read in parts])

    def _getter(self, index: int, names: tuple[str, ...]) -> Callable[[Any], Any]:
        parameter = self.parameters[index]
        if parameter.kind in PLAIN:
            return _itself
        if not names:
            return _is_none
        assert parameter.is_tensor, f"{parameter.name}: what Problem.of reads must be a tensor or one of {PLAIN}"
        read = _with_strides(names) if "stride" in names else attrgetter(*names)
        return read if parameter.kind == TENSOR else lambda value: None if value is None else read(value)

    @cached_property
    def arguments(self) -> Any:  # noqa: ANN401
        """The class of named tuples that hold the arguments of a call."""
        return namedtuple("Arguments", [parameter.name for parameter in self.parameters])

    def complete(self, args: tuple[Any, ...], named: Mapping[str, Any], kernel: str) -> tuple[Any, ...]:
        """Return all arguments of a call by position, with the defaults of those left out. Raises UsageError."""
        if len(args) > len(self.parameters):
            raise UsageError(f"{kernel}: at most {len(self.parameters)} arguments, got {len(args)}")
        names = [parameter.name for parameter in self.parameters]
        for name in named:
            if name not in names:
                raise UsageError(f"{kernel}: unknown argument {name!r}{did_you_mean(name, names)}")
            if name in names[: len(args)]:
                raise UsageError(f"{kernel}: argument {name!r} is given by position and by name")
        values = list(args)
        for parameter in self.parameters[len(args) :]:
            value = named.get(parameter.name, parameter.default)
            if value is parameter.EMPTY:
                raise UsageError(f"{kernel}: argument {parameter.name!r} is missing")
            values.append(value)
        return tuple(values)


def read(
    launch: Callable[..., Any], problem_of: Callable[..., Any], reads: Mapping[str, set[str]] | None = None
) -> Signature:
    """The signature of a launcher and of the `Problem.of` that belongs to it. Raises UsageError.

    `reads` says which attributes of which arguments `problem_of` reads, where its source does not.
    """
    parameters = tuple(
        Parameter(p.name, _kind(p, launch.__name__), p.default)
        for p in inspect.signature(launch).parameters.values()
        if p.kind is p.POSITIONAL_OR_KEYWORD
    )
    if not any(parameter.kind == TENSOR for parameter in parameters):
        raise UsageError(f"{launch.__name__}: no argument is a Tensor; its device says where the kernel runs")
    names = {parameter.name: index for index, parameter in enumerate(parameters)}
    mentioned = _mentioned(_tree(problem_of)) if reads is None else reads
    for name in mentioned.keys() - names.keys():
        raise UsageError(f"Problem.of reads args.{name}: no argument of {launch.__name__}{did_you_mean(name, names)}")
    decides = tuple(sorted((names[name], tuple(sorted(attributes))) for name, attributes in mentioned.items()))
    returned = list(_returned(_tree(launch)))
    written = sorted({names[node.id] for node in returned if isinstance(node, ast.Name) and node.id in names})
    fresh = sorted({ast.unparse(node) for node in returned} - names.keys())
    if not returns(launch):
        return Signature(parameters, decides, _outputs(parameters, launch.__name__), True, ())
    bare = not _spelled(inspect.signature(launch).return_annotation).startswith("tuple")
    return Signature(parameters, decides, tuple(written), bare, tuple(fresh))


def returns(launch: Callable[..., Any]) -> bool:
    """True where a return statement of the launcher gives more than None."""
    return any(ast.unparse(node) != "None" for node in _returned(_tree(launch)))


def _outputs(parameters: tuple[Parameter, ...], launcher: str) -> tuple[int, ...]:
    """Positions of the tensors that a launcher without results writes: those called `out`, as torch calls them."""
    found = tuple(i for i, p in enumerate(parameters) if p.is_tensor and (p.name == "out" or p.name.startswith("out_")))
    if not found:
        raise UsageError(
            f"{launcher}: returns nothing; return the tensors that it writes, or call those arguments out, or out_..."
        )
    return found


def _kind(parameter: inspect.Parameter, launcher: str) -> str:
    """The annotation in the words of this module, however it is spelled. Raises UsageError where there is none."""
    if parameter.annotation is parameter.empty:
        raise UsageError(
            f"{launcher}: argument {parameter.name!r} needs an annotation: Tensor, Tensor | None, int, float, bool, str"
        )
    return _spelled(parameter.annotation)


def _spelled(annotation: Any) -> str:  # noqa: ANN401
    """`Tensor | None` of that text, of `torch.Tensor | None` and of `Optional[Tensor]`, as text or as objects."""
    text = annotation if isinstance(annotation, str) else inspect.formatannotation(annotation)
    text = re.sub(r"\b(?:torch|typing|triton)\.", "", text)
    return re.sub(r"^Optional\[(.*)\]$", r"\1 | None", text)


def _with_strides(names: tuple[str, ...]) -> Callable[[Any], Any]:
    """Read attributes and the strides, which torch gives by a method."""
    plain = [name for name in names if name != "stride"]
    return lambda value: (value.stride(), *(getattr(value, name) for name in plain))


def _itself(value: Any) -> Any:  # noqa: ANN401
    return value


def _is_none(value: Any) -> bool:  # noqa: ANN401
    return value is None


def _tree(function: Callable[..., Any]) -> ast.FunctionDef:
    node = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(node, ast.FunctionDef)
    return node


def _mentioned(tree: ast.FunctionDef) -> dict[str, set[str]]:
    """Map each argument that `of(cls, args)` reads to the attributes read: `shape`, `dtype`, none for `is None`."""
    arguments = tree.args.args[-1].arg
    mentioned: dict[str, set[str]] = {}
    for parent in ast.walk(tree):
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name) and node.value.id == arguments:
                mentioned.setdefault(node.attr, set()).update(_read(parent))
    return mentioned


def _read(parent: ast.AST) -> set[str]:
    match parent:
        case ast.Attribute(attr="shape" | "dtype" | "stride" as name):
            return {name}
        case ast.Compare(ops=[ast.Is() | ast.IsNot()]):
            return set()
    return {"shape", "dtype"}


def _returned(tree: ast.FunctionDef) -> Iterator[ast.expr]:
    """The single results of every return statement, conditional ones in both forms."""
    queue = [node.value for node in ast.walk(tree) if isinstance(node, ast.Return) and node.value is not None]
    while queue:
        node = queue.pop()
        if isinstance(node, ast.IfExp):
            queue += [node.body, node.orelse]
        elif isinstance(node, ast.Tuple):
            queue += node.elts
        else:
            yield node
