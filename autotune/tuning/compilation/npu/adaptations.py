"""Changes of TTIR that keep what it means and let the adapter read it; each is told where it was made.

Kernels' sources stay as they are: GPUs' code would change with them. The adapter of triton-ascend 3.2.0 follows Triton
3.2 and stops at what came later, and at pointers in forms that it does not follow.
"""

from __future__ import annotations

import re

from autotune.tuning.compilation.npu.offsets import with_plain_offsets

NO_BARRIER = "tl.debug_barrier is left out: a program of an NPU has no threads that could wait for one another"
PLAIN_OFFSETS = "offsets are added before they go to a pointer: the adapter follows none that several start from"
TYPED_VIEWS = "memory that is read as two types comes as two arguments: the adapter reads no pointer as another type"
SELECTED_MAXIMA = "a maximum of integers is selected after a comparison: the adapter follows no maximum into an address"
PLAIN_HISTOGRAMS = "values outside a histogram's mask are counted as 0 and taken off again: the adapter has no mask"

_MAXIMUM = re.compile(r"^(\s*)(%[\w$.-]+) = arith\.maxsi (%[\w$.-]+), (%[\w$.-]+) : (tensor<[\dx]+i\d+>)", re.MULTILINE)
_CAST = re.compile(r"^\s*(%[\w$.-]+) = tt\.bitcast (%[\w$.-]+) : !tt\.ptr<(\w+)> -> !tt\.ptr<(\w+)>.*\n", re.MULTILINE)
_HISTOGRAM = re.compile(
    r"^(\s*)(%[\w$.-]+) = tt\.histogram (%[\w$.-]+), (%[\w$.-]+) : tensor<(\d+)x(\w+)> -> tensor<(\d+)x(\w+)>(.*)$",
    re.MULTILINE,
)


def adapted(ttir: str) -> tuple[str, tuple[str, ...]]:
    """TTIR as the adapter reads it, and notes of what was changed."""
    notes = []
    for change, note in _CHANGES:
        changed = change(ttir)
        if changed != ttir:
            notes.append(note)
        ttir = changed
    return ttir, tuple(notes)


def without_barriers(ttir: str) -> str:
    """TTIR without `tl.debug_barrier`, which Triton 3.9 writes as an operation of its GPU dialect, `ttg.barrier`."""
    return re.sub(r"^ *ttg\.barrier .*\n", "", ttir, flags=re.MULTILINE)


def with_typed_views(ttir: str) -> str:
    """TTIR in which an argument that is cast to a pointer of another type has an argument of that type beside it.

    A launcher passes the same address for both.
    """
    head = next((line for line in ttir.splitlines() if "tt.func public" in line), "")
    views: dict[str, str] = {}
    for result, argument, _, element in _CAST.findall(ttir):
        declared = re.search(rf"{re.escape(argument)}: !tt\.ptr<\w+>([^%]*?)(?=, %|\)(?: attributes| \{{))", head)
        if declared is None:
            continue
        name = f"{argument}_as_{element}"
        views.setdefault(name, f"{name}: !tt.ptr<{element}>{declared[1]}")
        cast = rf"^\s*{re.escape(result)} = tt\.bitcast {re.escape(argument)} : .*-> !tt\.ptr<{element}>.*\n"
        ttir = re.sub(cast, "", ttir, flags=re.MULTILINE)
        ttir = re.sub(rf"{re.escape(result)}(?![\w$.-])", name, ttir)
    if not views:
        return ttir
    wider = re.sub(r"\)( attributes .*| \{.*)$", lambda end: f", {', '.join(views.values())}){end[1]}", head)
    return ttir.replace(head, wider, 1)


def with_selected_maxima(ttir: str) -> str:
    """TTIR in which the larger of two integers of tensors is compared for and selected."""
    return _MAXIMUM.sub(
        lambda found: (
            f"{found[1]}%larger.{found[2][1:]} = arith.cmpi sgt, {found[3]}, {found[4]} : {found[5]}\n"
            f"{found[1]}{found[2]} = arith.select %larger.{found[2][1:]}, {found[3]}, {found[4]}"
            f" : {re.sub(r'i[0-9]+>$', 'i1>', found[5])}, {found[5]}"
        ),
        ttir,
    )


def with_plain_histograms(ttir: str) -> str:
    """TTIR in which a histogram under a mask is one of all values, those outside taken as 0, less their count in bin 0.

    The mask came with Triton 3.3.
    """
    return _HISTOGRAM.sub(_plain_histogram, ttir)


def _plain_histogram(found: re.Match[str]) -> str:
    indent, result, values, mask, count, kind, bins, width, place = found.groups()
    ins, outs, of = f"tensor<{count}x{kind}>", f"tensor<{bins}x{width}>", f"%of.{result[1:]}"
    steps = [
        f"{of}_zero = arith.constant dense<0> : {ins}",
        f"{of}_kept = arith.select {mask}, {values}, {of}_zero : tensor<{count}xi1>, {ins}",
        f"{of}_all = tt.histogram {of}_kept : {ins} -> {outs}",
        f"{of}_true = arith.constant dense<true> : tensor<{count}xi1>",
        f"{of}_left = arith.xori {mask}, {of}_true : tensor<{count}xi1>",
        f"{of}_ones = arith.extui {of}_left : tensor<{count}xi1> to tensor<{count}x{width}>",
        f'{of}_sum = "tt.reduce"({of}_ones) <{{axis = 0 : i32}}> ({{',
        f"^bb0({of}_a: {width}, {of}_b: {width}):",
        f"  {of}_ab = arith.addi {of}_a, {of}_b : {width}",
        f"  tt.reduce.return {of}_ab : {width}",
        f"}}) : (tensor<{count}x{width}>) -> {width}",
        f"{of}_many = tt.splat {of}_sum : {width} -> {outs}",
        f"{of}_bin = tt.make_range {{end = {bins} : i32, start = 0 : i32}} : tensor<{bins}xi32>",
        f"{of}_first = arith.constant dense<0> : tensor<{bins}xi32>",
        f"{of}_none = arith.constant dense<0> : {outs}",
        f"{of}_is = arith.cmpi eq, {of}_bin, {of}_first : tensor<{bins}xi32>",
        f"{of}_off = arith.select {of}_is, {of}_many, {of}_none : tensor<{bins}xi1>, {outs}",
        f"{result} = arith.subi {of}_all, {of}_off : {outs}{place}",
    ]
    return "\n".join(f"{indent}{step}" for step in steps)


_CHANGES = (
    (without_barriers, NO_BARRIER),
    (with_typed_views, TYPED_VIEWS),
    (with_selected_maxima, SELECTED_MAXIMA),
    (with_plain_histograms, PLAIN_HISTOGRAMS),
    (with_plain_offsets, PLAIN_OFFSETS),
)
