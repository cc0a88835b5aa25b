"""Calls made up from the text of a Triton kernel, where nobody's launcher was captured: small, and of one size.

A parameter is a tensor where memory is reached from it, of integers where what is loaded from it leads to another
address, a mask or a range. Sizes, blocks and strides are those of tensors with EDGE elements in each dimension. Such a
call says little of how the kernel is used; it is enough to run it under the sanitizer, to prove and to compile it.
"""

from __future__ import annotations

import ast
import inspect
import re
import textwrap
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from autotune.adopt.calls import Argument, Call, TensorSpec, Unkept
from autotune.adopt.foreign import ForeignKernel

EDGE = 32
"""Every size, and every block that is no power of two of the author's: the least depth of an FP8 product."""

_FEW, _MANY = EDGE**3, EDGE**4
"""Elements of a tensor: enough for three dimensions, or for four."""


@dataclass(frozen=True)
class _Try:
    """One guess at what a launcher passes."""

    dtype: str
    """Dtype of tensors that hold no addresses."""
    flags: bool = False
    """Value of flags without a default."""
    elements: int = _FEW
    """Number in each tensor."""
    programs: int = 2
    """Number in each dimension of the grid; one alone where programs would write into one another's memory."""
    row_strides: bool = False
    """True if every stride is that of a row."""


_TRIES = (
    _Try("float32"),
    _Try("bfloat16"),
    _Try("float32", programs=1),
    _Try("float32", elements=_MANY, row_strides=True),
    _Try("float32", flags=True, elements=_MANY, programs=1),
    _Try("float8_e4m3fn"),
    _Try("uint8"),
    _Try("int64", programs=1),
)

_DEEPEST = 6
"""Helpers within helpers that are read."""

_REAL = re.compile(
    r"eps|scale|alpha|beta|prob|lambda|momentum|slope|gamma|temp|softcap|cap$|rate|limit|_max$|_min$|^lr$|factor|clip"
)
_DECIMAL_TENSOR = re.compile(r"scale|weight_s|_s_ptr|lse|logsumexp|rstd|mean")
_FLAG = re.compile(r"^(has|use|is|enable|with|apply|need|do|return|even|causal|store|save)_|^(causal|reverse)$", re.I)
_WHOLE = re.compile(
    r"(^|_)(ids?|idx|index|indices|counts?|slots?|lens?|lengths?|offsets?|tables?|map|mapping|indptr|pos|positions|tokens)"
    r"(_out|_ptr|_in)*$"
)
_STARTS = re.compile(r"cu_|start|offset|indptr|seqlens|cumsum")


@dataclass
class _Uses:
    """Uses that the text of a function makes of its parameters."""

    tensors: set[str] = field(default_factory=set)
    addresses: set[str] = field(default_factory=set)
    """Tensors whose values lead to an address, a mask or a range."""
    descriptors: set[str] = field(default_factory=set)
    optional: set[str] = field(default_factory=set)
    """Parameters that are compared with None."""
    flags: set[str] = field(default_factory=set)
    names: dict[str, str] = field(default_factory=dict)
    """A text that a parameter is compared with."""
    dtypes: set[str] = field(default_factory=set)
    functions: set[str] = field(default_factory=set)
    axes: int = 1
    """Dimensions of the grid."""


def made_calls(kernel: ForeignKernel) -> Iterator[Call]:
    """Yield calls to try, the likeliest first. Raises ValueError, with the reason, where none can be made up."""
    uses = _uses(kernel.jit.fn, 0)
    for name in kernel.arguments:
        if name in uses.descriptors and name not in uses.optional:
            raise ValueError(f"takes a tensor descriptor ({name}) that its launcher makes")
        if name in uses.functions:
            raise ValueError(f"takes a function ({name}) that its launcher gives")
    strides = _strides([name for name in kernel.arguments if "stride" in name.lower()])
    for attempt in _TRIES:
        steps = dict.fromkeys(strides, EDGE) if attempt.row_strides else strides
        arguments = {name: _argument(kernel, name, uses, attempt, steps) for name in kernel.arguments}
        yield Call(kernel.name, arguments, {}, (attempt.programs,) * uses.axes)


def _argument(kernel: ForeignKernel, name: str, uses: _Uses, attempt: _Try, strides: Mapping[str, int]) -> Argument:
    if name in uses.descriptors:
        return None
    if name in uses.tensors and name not in kernel.constexprs:
        return _tensor(name.lower(), name in uses.addresses, attempt)
    if name in strides:
        return strides[name]
    default = kernel.parameters[name].default
    if isinstance(default, bool | str | float):
        return default
    if name in uses.names:
        return uses.names[name]
    if name in uses.dtypes and type(default) is not int:
        return Unkept("tl.fp32")
    if type(default) is int:
        return default
    return _number(kernel, name, uses, attempt)


def _tensor(name: str, is_address: bool, attempt: _Try) -> TensorSpec:
    if is_address or _WHOLE.search(name):
        ordered = bool(_STARTS.search(name))
        return TensorSpec("int32", (attempt.elements,), (1,), 0, EDGE if ordered else EDGE - 1, ascending=ordered)
    narrow = attempt.dtype in ("float8_e4m3fn", "uint8")
    dtype = "float32" if narrow and _DECIMAL_TENSOR.search(name) else attempt.dtype
    return TensorSpec(dtype, (attempt.elements,), (1,), *((0, 1) if "int" in dtype else (None, None)))


def _number(kernel: ForeignKernel, name: str, uses: _Uses, attempt: _Try) -> Argument:
    """Return the value of a parameter without a default: of a constexpr a flag or a block, else a factor or a size."""
    low = name.lower()
    if name in kernel.constexprs:
        if name in uses.flags or _FLAG.search(name):
            return attempt.flags
        return 2 if re.search(r"stages|splits?$|unroll", low) else EDGE
    real = "float" in str(kernel.parameters[name].annotation) or (_REAL.search(low) and "size" not in low)
    return 0.5 if real else EDGE


def _strides(names: list[str]) -> dict[str, int]:
    """Return the strides of contiguous tensors: parameters that differ in their last letter or word are of one."""
    groups: dict[str, list[str]] = {}
    for name in names:
        head, _, tail = name.rpartition("_")
        stem = (
            name[:-1] if head == "stride" and len(tail) > 1 else f"{name}_" if head == "stride" else head or name[:-1]
        )
        groups.setdefault(stem, []).append(name)
    found = {}
    for group in groups.values():
        for at, name in enumerate(reversed(group)):
            found[name] = EDGE ** min(at if len(group) > 1 else 1, 3)
    return found


def _uses(function: Any, depth: int) -> _Uses:  # noqa: ANN401
    """Read the text of a function, and of the Triton functions that it calls."""
    tree = ast.parse(textwrap.dedent(inspect.getsource(function))).body[0]
    assert isinstance(tree, ast.FunctionDef)
    text = _Text(tree)
    uses = _Uses()
    for node in ast.walk(tree):
        if isinstance(node, ast.If | ast.IfExp):
            uses.flags |= {part.id for part in _tested(node.test) if part.id in text.parameters}
        elif isinstance(node, ast.Compare):
            _compared(node, text, uses)
        elif isinstance(node, ast.Call):
            _called(node, function, text, uses, depth)
    return uses


class _Text:
    """A function's parameters, and what is assigned to each of its names."""

    def __init__(self, tree: ast.FunctionDef) -> None:
        self.parameters = [part.arg for part in (*tree.args.args, *tree.args.kwonlyargs)]
        self.assigned: dict[str, list[ast.expr]] = {}
        for node in ast.walk(tree):
            if isinstance(node, ast.Assign):
                for target in node.targets:
                    for part in ast.walk(target):
                        if isinstance(part, ast.Name):
                            self.assigned.setdefault(part.id, []).append(node.value)
            elif isinstance(node, ast.AugAssign | ast.AnnAssign) and isinstance(node.target, ast.Name) and node.value:
                self.assigned.setdefault(node.target.id, []).append(node.value)

    def bases(self, node: ast.AST | None, seen: frozenset[str] = frozenset()) -> set[str]:
        """Return the parameters from which an address is counted: the leftmost term of a sum."""
        if isinstance(node, ast.Name):
            if node.id in seen:
                return set()
            own = {node.id} if node.id in self.parameters else set()
            if own and node.id not in self.assigned:
                return own
            values = self.assigned.get(node.id, [])
            followed = [self.bases(value, seen | {node.id}) for value in values]
            return own or set().union(*followed)
        if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add | ast.Sub):
            left = self.bases(node.left, seen)
            return left or self.bases(node.right, seen)
        if isinstance(node, ast.IfExp):
            return self.bases(node.body, seen) | self.bases(node.orelse, seen)
        if isinstance(node, ast.Subscript):
            return self.bases(node.value, seen)
        if isinstance(node, ast.Call):
            if isinstance(node.func, ast.Attribute) and node.func.attr == "to":
                return self.bases(node.func.value, seen)
            if _function(node) in ("make_block_ptr", "make_tensor_descriptor", "advance", "multiple_of", "cast"):
                return self.bases(_address(node), seen)
        return set()

    def loaded(self, node: ast.AST | None, seen: frozenset[str] = frozenset()) -> set[str]:
        """Return the parameters from which values in an expression were loaded."""
        found: set[str] = set()
        for part in ast.walk(node) if node else ():
            if isinstance(part, ast.Call) and _function(part) == "load":
                found |= self.bases(_address(part))
            elif isinstance(part, ast.Name) and part.id not in seen and part.id in self.assigned:
                for value in self.assigned[part.id]:
                    found |= self.loaded(value, seen | {part.id})
                    seen |= {part.id}
        return found


def _called(node: ast.Call, function: Any, text: _Text, uses: _Uses, depth: int) -> None:  # noqa: ANN401
    called = _function(node)
    if called in ("load", "store", "make_block_ptr", "make_tensor_descriptor") or called.startswith("atomic_"):
        holder = node.func.value if isinstance(node.func, ast.Attribute) else None
        if isinstance(holder, ast.Name) and holder.id in text.parameters:  # a descriptor's own method
            uses.descriptors.add(holder.id)
            return
        address = _address(node)
        uses.tensors |= text.bases(address)
        reached = [address, *(part.value for part in node.keywords if part.arg == "mask")]
        reached += node.args[1:] if called != "store" else node.args[2:]
        for part in reached:
            uses.addresses |= text.loaded(part)
    elif called in ("range", "static_range"):
        for part in node.args:
            uses.addresses |= text.loaded(part)
    elif called == "program_id" and node.args and isinstance(node.args[0], ast.Constant):
        uses.axes = max(uses.axes, int(str(node.args[0].value)) + 1)
    elif called == "to" or any(part.arg == "dtype" for part in node.keywords):
        wanted = [*node.args[:1], *(part.value for part in node.keywords if part.arg == "dtype")]
        uses.dtypes |= {part.id for part in wanted if isinstance(part, ast.Name) and part.id in text.parameters}
    if isinstance(node.func, ast.Name) and node.func.id in text.parameters:
        uses.functions.add(node.func.id)
    callee = _resolved(node.func, function)
    if callee is not None and depth < _DEEPEST:
        _through(node, callee, text, uses, depth)


def _through(node: ast.Call, callee: Any, text: _Text, uses: _Uses, depth: int) -> None:  # noqa: ANN401
    """Note what a helper does with the parameters that are passed to it."""
    inner = _uses(callee.fn, depth + 1)
    given = dict(zip(inspect.signature(callee.fn).parameters, node.args, strict=False))
    given |= {part.arg: part.value for part in node.keywords if part.arg}
    for name, value in given.items():
        if name in inner.tensors:
            uses.tensors |= text.bases(value)
            if name in inner.addresses:
                uses.addresses |= text.bases(value)
        if isinstance(value, ast.Name) and value.id in text.parameters:
            uses.flags |= {value.id} if name in inner.flags else set()
            uses.dtypes |= {value.id} if name in inner.dtypes else set()
            uses.functions |= {value.id} if name in inner.functions else set()
            uses.descriptors |= {value.id} if name in inner.descriptors else set()
            if name in inner.names:
                uses.names.setdefault(value.id, inner.names[name])
    uses.axes = max(uses.axes, inner.axes)


def _compared(node: ast.Compare, text: _Text, uses: _Uses) -> None:
    (first, *rest) = (node.left, *node.comparators)
    if not isinstance(first, ast.Name) or first.id not in text.parameters:
        return
    for other in rest:
        texts = [part.value for part in ast.walk(other) if isinstance(part, ast.Constant)]
        if None in texts:
            uses.optional.add(first.id)
        if texts and isinstance(texts[0], str):
            uses.names.setdefault(first.id, texts[0])


def _tested(node: ast.expr) -> Iterator[ast.Name]:
    """Yield names that stand by themselves in a condition."""
    if isinstance(node, ast.Name):
        yield node
    elif isinstance(node, ast.UnaryOp):
        yield from _tested(node.operand)
    elif isinstance(node, ast.BoolOp):
        for part in node.values:
            yield from _tested(part)


def _function(node: ast.Call) -> str:
    if isinstance(node.func, ast.Attribute):
        return node.func.attr
    return node.func.id if isinstance(node.func, ast.Name) else ""


def _address(node: ast.Call) -> ast.expr | None:
    named = [part.value for part in node.keywords if part.arg in ("base", "pointer", "ptr")]
    return node.args[0] if node.args else next(iter(named), None)


def _resolved(node: ast.expr, function: Any) -> Any:  # noqa: ANN401
    """Return the Triton function that a call names, or None."""
    scope = {**function.__globals__, **inspect.getclosurevars(function).nonlocals}
    there: Any = None
    if isinstance(node, ast.Name):
        there = scope.get(node.id)
    elif isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        there = getattr(scope.get(node.value.id), node.attr, None)
        if getattr(there, "__module__", "").startswith("triton"):
            return None
    return there if hasattr(there, "fn") and hasattr(there, "arg_names") else None
