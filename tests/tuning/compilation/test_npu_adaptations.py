"""Changes of TTIR before the adapter reads it: what they write is valid, and means what stood there."""

import re

import pytest
import torch
from triton._C.libtriton import ir

from autotune.tuning.compilation.npu import adaptations
from autotune.tuning.compilation.npu.adaptations import adapted


def function(arguments, *lines):
    body = "\n".join(f"    {line}" for line in lines)
    head = f"  tt.func public @f({arguments}) attributes {{noinline = false}} {{"
    return f"module {{\n{head}\n{body}\n    tt.return\n  }}\n}}\n"


def check_valid(ttir, tmp_path):
    """Triton's own parser and verifier take it."""
    context = ir.context()
    ir.load_dialects(context)
    (tmp_path / "f.ttir").write_text(ttir)
    ir.parse_mlir_module(str(tmp_path / "f.ttir"), context)


MASKED = function(
    "%x: tensor<16xi32>, %m: tensor<16xi1>, %o: tensor<8x!tt.ptr<i32>>",
    "%0 = tt.histogram %x, %m : tensor<16xi32> -> tensor<8xi32>",
    "tt.store %o, %0 : tensor<8x!tt.ptr<i32>>",
)


OPERATIONS = {
    "arith.constant": torch.tensor,
    "arith.select": torch.where,
    "tt.histogram": lambda values: torch.bincount(values, minlength=8),
    "arith.xori": lambda a, b: a ^ b.bool(),
    "arith.extui": lambda values: values.int(),
    '"tt.reduce"': lambda values: values.sum(),
    "tt.splat": lambda value: value.expand(8),
    "tt.make_range": lambda: torch.arange(8),
    "arith.cmpi": lambda a, b: a == b,
    "arith.subi": lambda a, b: a - b,
}


def evaluate(ttir, **values):
    """The value of %0: operations of a plain histogram, on torch tensors."""
    known = {f"%{name}": value for name, value in values.items()}
    for line in ttir.splitlines():
        found = re.match(r"\s*(%\S+) = ([^\s(]+)(.*?)(?: : .*| <.*)?$", line)
        if found is None or "%of.0_ab" in line:
            continue
        name, operation, operands = found.groups()
        given = [known[operand] for operand in re.findall(r"%[\w.]+", operands)]
        known[name] = OPERATIONS[operation](*([int("true" in line)] if operation == "arith.constant" else given))
    return known["%0"]


@pytest.mark.parametrize("kept", [0.0, 0.5, 1.0])
def test_plain_histogram_counts_what_mask_keeps(kept, tmp_path):
    ttir, notes = adapted(MASKED)
    assert notes == (adaptations.PLAIN_HISTOGRAMS,)
    check_valid(ttir, tmp_path)
    torch.manual_seed(0)
    x, mask = torch.randint(0, 8, (16,)), torch.rand(16) < kept
    assert torch.equal(evaluate(ttir, x=x, m=mask), torch.bincount(x[mask], minlength=8))


SHARED = function(
    "%p: !tt.ptr<f32>, %row: i64, %col: tensor<4xi32>, %o: tensor<4x!tt.ptr<f32>>",
    "%0 = tt.addptr %p, %row : !tt.ptr<f32>, i64",
    "%1 = tt.splat %0 : !tt.ptr<f32> -> tensor<4x!tt.ptr<f32>>",
    "%2 = tt.addptr %1, %col : tensor<4x!tt.ptr<f32>>, tensor<4xi32>",
    "%3 = tt.load %2 : tensor<4x!tt.ptr<f32>>",
    "%4 = tt.addptr %2, %col : tensor<4x!tt.ptr<f32>>, tensor<4xi32>",
    "%5 = tt.load %4 : tensor<4x!tt.ptr<f32>>",
    "%6 = arith.addf %3, %5 : tensor<4xf32>",
    "tt.store %o, %6 : tensor<4x!tt.ptr<f32>>",
)


def address(ttir, name):
    """The elements that a pointer lies after %p, summed up by hand: %row is 100, %col is 7."""
    known = {"%p": 0, "%row": 100, "%col": 7}
    for result, operation, operands in re.findall(r"(%\S+) = (\S+) ([^:]*) :", ttir):
        terms = [known[operand] for operand in operands.split(", ") if operand in known]
        known[result] = sum(terms) if operation in ("tt.addptr", "arith.addi") else terms[0] if terms else None
    return known[name]


def test_offsets_are_added_where_addresses_share_start(tmp_path):
    ttir, notes = adapted(SHARED)
    assert notes == (adaptations.PLAIN_OFFSETS,)
    check_valid(ttir, tmp_path)
    for name, meant in (("%2", 107), ("%4", 114)):
        assert address(SHARED, name) == address(ttir, name) == meant
    starts = dict(re.findall(r"(%\S+) = tt\.addptr (%[\w.]+),", ttir))
    assert not {starts["%2"], starts["%4"]} & set(starts), "neither starts from another address"


def test_address_of_one_access_stays_as_it_is():
    alone = "\n".join(line for line in SHARED.splitlines() if not re.search("%4|%5|store", line)) + "\n"
    assert adapted(alone) == (alone, ())


def test_typed_view_of_argument_is_argument_of_its_own(tmp_path):
    bytes_read = function(
        "%cache: !tt.ptr<i8> {tt.divisibility = 16 : i32}, %n: i32",
        "%0 = tt.bitcast %cache : !tt.ptr<i8> -> !tt.ptr<f32>",
        "%1 = tt.load %0 : !tt.ptr<f32>",
        "tt.store %0, %1 : !tt.ptr<f32>",
        "%2 = tt.load %cache : !tt.ptr<i8>",
    )
    ttir, notes = adapted(bytes_read)
    assert notes == (adaptations.TYPED_VIEWS,)
    check_valid(ttir, tmp_path)
    assert "%n: i32, %cache_as_f32: !tt.ptr<f32> {tt.divisibility = 16 : i32})" in ttir
    assert "tt.store %cache_as_f32, %1" in ttir and "tt.load %cache :" in ttir and "bitcast" not in ttir


def test_maximum_is_selected_after_comparison(tmp_path):
    ttir, notes = adapted(
        function("%a: tensor<4xi64>, %b: tensor<4xi64>", "%0 = arith.maxsi %a, %b : tensor<4xi64> loc(#loc1)")
    )
    assert notes == (adaptations.SELECTED_MAXIMA,)
    check_valid(ttir.replace(" loc(#loc1)", ""), tmp_path)
    assert "cmpi sgt, %a, %b" in ttir and "%0 = arith.select %larger.0, %a, %b : tensor<4xi1>, tensor<4xi64>" in ttir
