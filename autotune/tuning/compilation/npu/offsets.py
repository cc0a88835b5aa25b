"""Addresses of TTIR as a start and one offset: the adapter follows no address that several others start from."""

from __future__ import annotations

import re
from itertools import count

_NAME = re.compile(r"%[\w$.-]+")
_ADDRESS = re.compile(
    r"^(?P<indent>\s*)(?P<result>%[\w$.-]+) = tt\.addptr (?P<start>%[\w$.-]+), (?P<offset>%[\w$.-]+)"
    r" : (?P<pointers>\S+), (?P<offsets>\S+)(?P<place>.*)$"
)
_SHAPED = re.compile(
    r"^(?P<indent>\s*)(?P<result>%[\w$.-]+) = tt\.(?P<form>splat|broadcast|expand_dims) (?P<value>%[\w$.-]+)"
    r"(?P<options>(?: \{[^}]*\})?) : (?P<source>\S+) -> (?P<pointers>\S+)"
)


def with_plain_offsets(ttir: str) -> str:
    """TTIR in which no pointer that several operations use is the start of another: their offsets are added instead.

    Sums are of 64 bits, as offsets of pointers are.
    """
    for turn in count():
        changed = _with_plainer_offsets(ttir, f"{turn}.")
        if changed == ttir:
            break
        ttir = changed
    return ttir


def _with_plainer_offsets(ttir: str, mark: str) -> str:
    """One pass over all lines: it can leave a spread address shared that was not before. `mark` is in new names."""
    lines = ttir.splitlines()
    number = 0
    while number < len(lines):
        if (shape := _SHAPED.match(lines[number])) is not None and len(_uses(lines, number, shape["result"])) > 1:
            start = next((line for line in reversed(lines[:number]) if f" {shape['value']} = " in line), "")
            if (moved := _ADDRESS.match(start)) is not None:
                lines[number : number + 1] = _from_start(lines[number], moved, mark)
                number += 2
        if (shared := _ADDRESS.match(lines[number])) is not None:
            uses = _uses(lines, number, shared["result"])
            # The adapter takes no address that is the same along an axis, as one that was spread above is.
            if len(uses) > 1 or shared["start"].startswith("%start."):
                for at in reversed(uses):
                    lines[at : at + 1] = _from_start(lines[at], shared, mark)
        number += 1
    return "\n".join(lines) + "\n"


def _uses(lines: list[str], number: int, name: str) -> list[int]:
    """Lines that use the value `name` of line `number`."""
    return [at for at in _scope(lines, number) if name in _NAME.findall(lines[at])]


def _from_start(line: str, shared: re.Match[str], mark: str) -> list[str]:
    """Lines for the address of `line` from what `shared` starts from; the line itself where it is an access."""
    start, offset, offsets = shared["start"], shared["offset"], shared["offsets"]
    if (further := _ADDRESS.match(line)) is not None and further["start"] == shared["result"]:
        indent, result = further["indent"], further["result"]
        wide = re.sub(r"i\d+(>?)$", r"i64\1", offsets)
        steps, terms = [], []
        for side, (value, of) in enumerate(((offset, offsets), (further["offset"], further["offsets"]))):
            if of != wide:
                steps.append(f"{indent}%wide{side}.{mark}{result[1:]} = arith.extsi {value} : {of} to {wide}")
            terms.append(value if of == wide else f"%wide{side}.{mark}{result[1:]}")
        total = f"%sum.{mark}{result[1:]}"
        steps.append(f"{indent}{total} = arith.addi {terms[0]}, {terms[1]} : {wide}")
        address = f"{indent}{result} = tt.addptr {start}, {total} : {further['pointers']}, {wide}{further['place']}"
        return [*steps, address]
    if (shaped := _SHAPED.match(line)) is not None and shaped["value"] == shared["result"]:
        indent, result, form = shaped["indent"], shaped["result"], f"{shaped['form']} "
        options, pointers, source = shaped["options"], shaped["pointers"], shaped["source"]
        element = "i64" if offsets.endswith(("i64", "i64>")) else "i32"
        spread = re.sub(r"!tt\.ptr<\w+>", element, pointers)
        own_start, own_offset = f"%start.{mark}{result[1:]}", f"%offset.{mark}{result[1:]}"
        return [
            f"{indent}{own_start} = tt.{form}{start}{options} : {source} -> {pointers}",
            f"{indent}{own_offset} = tt.{form}{offset}{options} : {offsets} -> {spread}",
            f"{indent}{result} = tt.addptr {own_start}, {own_offset} : {pointers}, {spread}",
        ]
    return [line]


def _scope(lines: list[str], number: int) -> range:
    """The lines after `number` that see its result, those of its region: sibling regions use names again."""
    depth = 0
    for at in range(number + 1, len(lines)):
        text = re.sub(r" loc\(.*", "", lines[at]).strip()
        depth -= text.startswith("}")
        if depth < 0:
            return range(number + 1, at)
        depth += text.endswith("{")
    return range(number + 1, len(lines))
