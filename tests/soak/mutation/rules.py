"""Mutants of device functions: small edits that rules make of the syntax tree, each at one place."""

import ast
from dataclasses import dataclass

POINTER = "_ptr"
SWAPPED = {
    "max": "min", "min": "max", "sum": "max", "maximum": "minimum", "minimum": "maximum", "exp": "exp2", "exp2": "exp",
    "sqrt": "abs", "cumsum": "flip",
}  # fmt: skip
OPERATORS = {ast.Add: "-", ast.Sub: "+", ast.FloorDiv: "%", ast.Mod: "//", ast.Div: "*"}
LOST_GUARDS = {"dropped mask", "dropped other", "dropped condition", "dropped limit", "dropped if"}
"""Rules that take out what keeps a kernel within its tensors and one row's NaN, padding or absence from another."""
COMPARISONS = {ast.Lt: "<=", ast.LtE: "<", ast.Gt: ">=", ast.GtE: ">", ast.Eq: "!=", ast.NotEq: "=="}


@dataclass(frozen=True)
class Mutant:
    line: int
    statement: int
    rule: str
    before: str
    after: str
    source: str


def mutants(source):
    """Every mutant that the rules make of the `@triton.jit` functions of `source`, in the order of their lines."""
    raw = source.encode()
    starts = [0]
    for line in raw.splitlines(keepends=True):
        starts.append(starts[-1] + len(line))
    found = set()
    for function in ast.walk(ast.parse(source)):
        if not isinstance(function, ast.FunctionDef) or not any(map(_is_jit, function.decorator_list)):
            continue
        entry = "program_id" in ast.unparse(function)
        plain = [a.arg for a in function.args.args if a.annotation is None and not a.arg.endswith(POINTER)]
        for node, statement in _with_statements(function.body):
            for rule, target, after in edits(node, plain if entry else []):
                begin = starts[target.lineno - 1] + target.col_offset
                end = starts[target.end_lineno - 1] + target.end_col_offset
                before = raw[begin:end].decode()
                text = (raw[:begin] + after.encode() + raw[end:]).decode()
                if after.strip("()") != before.strip("()"):
                    found.add(Mutant(target.lineno, statement, rule, before, after, text))
    return sorted(found, key=lambda m: (m.line, m.rule, m.before, m.after, m.source))


def _is_jit(decorator):
    return ast.unparse(decorator).startswith("triton.jit")


def _with_statements(body):
    """Nodes, and the line on which the statement around each begins."""
    for statement in body:
        stack = [statement]
        while stack:
            node = stack.pop()
            yield node, statement.lineno
            inner = list(ast.iter_child_nodes(node))
            stack += [child for child in inner if not isinstance(child, ast.stmt)]
            yield from _with_statements([child for child in inner if isinstance(child, ast.stmt)])


def edits(node, sizes):
    """(rule, node to replace, its new text) for each rule that applies to `node`."""
    show = ast.unparse
    yield from lost_guards(node, show)
    if isinstance(node, ast.Call):
        yield from calls(node, show)
    elif isinstance(node, ast.BinOp):
        yield from operators(node, sizes, show)
    elif isinstance(node, ast.Compare) and len(node.ops) == 1 and type(node.ops[0]) in COMPARISONS:
        left, right = show(node.left), show(node.comparators[0])
        yield "off-by-one bound", node, f"({left} {COMPARISONS[type(node.ops[0])]} {right})"
        if isinstance(node.ops[0], ast.Lt):
            yield "bound one short", node, f"({left} < {right} - 1)"
    elif isinstance(node, ast.AugAssign):
        target = show(node.target)
        yield "lost accumulate", node, f"{target} = {show(node.value)}"
        yield "dropped update", node, "pass"
    elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and show(node.value.func) == "tl.store":
        yield "dropped store", node, "pass"
    elif isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub):
        yield "dropped minus", node, f"({show(node.operand)})"
    elif isinstance(node, ast.Subscript) and show(node.slice) in (":, None", "(:, None)", "(slice, None)", "None, :"):
        yield (
            "transposed broadcast",
            node,
            f"({show(node.value)})[{'None, :' if show(node.slice)[0] != 'N' else ':, None'}]",
        )
    elif isinstance(node, ast.Constant) and type(node.value) in (int, float) and node.value not in (True, False):
        yield "other constant", node, repr(node.value + 1 if isinstance(node.value, int) else node.value * 2)


def names(node):
    """Names of variables in an expression; those of functions and modules are attributes, or called."""
    called = {id(inner.func) for inner in ast.walk(node) if isinstance(inner, ast.Call)}
    modules = {id(inner.value) for inner in ast.walk(node) if isinstance(inner, ast.Attribute)}
    found = (inner for inner in ast.walk(node) if isinstance(inner, ast.Name))
    return [name.id for name in found if id(name) not in called | modules]


def lost_guards(node, show):
    if isinstance(node, ast.If) and any(name.islower() for name in names(node.test)):
        # A branch on compile-time parameters chooses a form of the kernel, and guards nothing.
        yield "dropped if", node.test, "False" if isinstance(node.body[-1], ast.Return | ast.Continue) else "True"
    if not isinstance(node, ast.Call):
        return
    name, arguments = show(node.func), [show(a) for a in node.args]
    keywords = {k.arg: show(k.value) for k in node.keywords}

    def without(*dropped):
        kept = [f"{key}={value}" for key, value in keywords.items() if key not in dropped]
        return f"{name}({', '.join(arguments + kept)})"

    if name in ("tl.load", "tl.store") and "mask" in keywords:
        yield "dropped mask", node, without("mask", "other")
        if "other" in keywords:
            yield "dropped other", node, without("other")
    if name == "tl.where":
        condition, *values = arguments
        for always in ("| True", "& False"):  # the condition still gives the result its shape
            yield "dropped condition", node, f"tl.where(({condition}) {always}, {', '.join(values)})"
    if name in ("tl.maximum", "tl.minimum", "max", "min") and len(arguments) == 2:
        yield "dropped limit", node, f"({arguments[0]})"


def calls(node, show):
    name = show(node.func)
    keywords = {k.arg: k for k in node.keywords}
    if "other" in keywords and show(keywords["other"].value) in ("0.0", "0"):
        yield "other fill", keywords["other"].value, "1"
    if name == "tl.zeros":
        rest = ", ".join(f"{k.arg}={show(k.value)}" for k in node.keywords)
        yield "missing zero-init", node, f"tl.full({show(node.args[0])}, 1, {rest})"
    if name == "tl.dot" and len(node.args) == 3:
        yield "lost accumulate", node, f"tl.dot({show(node.args[0])}, {show(node.args[1])})"
    if name == "tl.where":
        cond, a, b = map(show, node.args)
        yield "swapped branches", node, f"tl.where({cond}, {b}, {a})"
    if name.startswith("tl.") and name[3:] in SWAPPED:
        yield "other function", node.func, f"tl.{SWAPPED[name[3:]]}"
    if name == "range" and len(node.args) >= 2:
        first, last, *step = map(show, node.args)
        yield "last step lost", node, f"range({', '.join([first, f'{last} - 1', *step])})"
        yield "first step lost", node, f"range({', '.join([f'{first} + 1', last, *step])})"
    if name == "tl.program_id":
        yield "other program", node, f"({show(node)} + 1)"


def operators(node, sizes, show):
    left, right = show(node.left), show(node.right)
    if isinstance(node.op, ast.BitAnd):
        yield "weaker mask", node, f"({left})"
        yield "weaker mask", node, f"({right})"
    elif isinstance(node.op, ast.Mult):
        yield "lost factor", node, f"({left})"
        yield "lost factor", node, f"({right})"
        if right in sizes:
            for other in sizes:
                if other != right:
                    yield "swapped stride", node.right, other
    elif type(node.op) in OPERATORS:
        yield "other operator", node, f"(({left}) {OPERATORS[type(node.op)]} ({right}))"
