"""Defects that a GPU shows and the interpreter hides: each planted one is named, and its right form is accepted."""

import re

import pytest
import second_forms
import small_kernels
import torch
from small_kernels import Rows, kernel_of, line_of
from triton.tools.tensor_descriptor import TensorDescriptor

from autotune import device
from autotune.errors import Defect, ToolchainError, WrongResult
from autotune.tuning.interpreter.sanitizer import sanitized
from autotune.tuning.validation.validate import validate

GPU = device.named("h100")


def proved(jit, meant, rows=5, cols=24, **options):
    kernel = kernel_of(jit, meant, **options)
    problem = Rows(rows, cols)
    return validate(kernel, problem, kernel.default(problem, GPU), GPU)


def halves(x):
    return ((torch.arange(x.shape[1]) - 3) // 2).double().expand(x.shape[0], -1)


def ring(x):
    return ((torch.arange(x.shape[1]) - 2) % 4).double().expand(x.shape[0], -1)


def first_of_row(x):
    return torch.cat([x.sum(1, keepdim=True), torch.zeros_like(x[:, 1:])], 1)


def tickets(x):
    value = torch.arange(x.shape[0]).double()[:, None].repeat(1, x.shape[1])
    value[:, 0] = 0
    value[0, 0] = x.shape[0]
    return value


def first_row(x):
    value = torch.zeros_like(x)
    value[0] = 1
    value[:, -1] = 0
    value[0, -1] = x.shape[0]
    return value


NAMED = [
    ("max_of_undefined", "uses an undefined lane", "x_ptr", lambda x: x / x.abs().amax(1, keepdim=True)),
    ("min_of_undefined", "uses an undefined lane", "x_ptr", lambda x: x - x.amin(1, keepdim=True)),
    ("count_of_undefined", "uses an undefined lane", "x_ptr", lambda x: (x > 0).sum(1, keepdim=True) + 0 * x),
    ("ring_of_size", "out of bounds", "x_ptr", lambda x: x.roll(2, 1)),
    ("read_back_turned", "reads what other lanes stored", "y_ptr", lambda x: x.flip(1)),
    ("read_back_scalar", "reads what other lanes stored", "y_ptr", lambda x: x[:, :1].expand_as(x)),
    ("false_multiple", "false hint", "tl.multiple_of", lambda x: x),
    ("false_contiguity", "false hint", "tl.max_contiguous", lambda x: x),
    ("false_constancy", "false hint", "tl.max_constancy", lambda x: x),
    ("false_assumption", "false hint", "tl.assume", lambda x: x),
    ("atomic_sum_of_programs", "order of atomics shows", "y_ptr", lambda x: x.sum(0).expand_as(x)),
    ("atomic_sum_of_lanes", "order of atomics shows", "y_ptr", first_of_row),
    ("atomic_ticket", "order of atomics shows", "y_ptr", tickets),
    ("atomic_first_comer", "order of atomics shows", "y_ptr", first_row),
    ("ring_of_constant", "divides below zero", "%", ring),
    ("halves_below_zero", "divides below zero", "//", halves),
    ("described_too_large", "out of bounds", "x_ptr", lambda x: x),
    ("described_without_alignment", "malformed descriptor", "x_ptr", lambda x: x),
    ("end_of_row", "out of bounds", "x_ptr", lambda x: x[:, -1:].expand_as(x)),
    ("false_multiple_of_pointer", "false hint", "tl.multiple_of", lambda x: x),
    ("false_contiguity_of_reversed", "false hint", "tl.max_contiguous", lambda x: x.flip(1)),
    ("false_constancy_of_columns", "false hint", "tl.max_constancy", lambda x: x),
    ("false_assumption_of_size", "false hint", "tl.assume", lambda x: x),
    ("described_with_short_rows", "malformed descriptor", "x_ptr", lambda x: x),
]


def jit_of(name):
    return getattr(small_kernels, name, None) or getattr(second_forms, name)


@pytest.mark.parametrize(("name", "kind", "argument", "meant"), NAMED, ids=[name for name, *_ in NAMED])
def test_defect_that_hardware_shows_is_named(name, kind, argument, meant):
    jit = jit_of(name)
    with pytest.raises(Defect) as raised:
        proved(jit, meant)
    defect = raised.value
    assert (defect.kind, defect.argument, defect.place) == (kind, argument, line_of(jit))
    assert len(defect.program) == 3
    assert isinstance(defect.offset, int)
    assert f"own/{name}" in str(defect)


def test_division_below_zero_tells_both_results():
    with pytest.raises(Defect, match=r"%\[0\], -2 % 4 is -2 on a GPU, as in C, .* right with 2, as in Python"):
        proved(small_kernels.ring_of_constant, ring)


def test_division_that_differs_is_not_blamed_for_other_faults():
    with pytest.raises(WrongResult, match="must be") as raised:
        proved(small_kernels.halves_below_zero, lambda x: halves(x) + 1)
    assert not isinstance(raised.value, Defect)


def masked(x):
    return torch.where(torch.arange(x.shape[1]) % 2 == 0, x, -torch.inf)


RIGHT = [
    ("unused_undefined", lambda x: 2 * x),
    ("ring_that_is_positive", lambda x: x.roll(2, 1)),
    ("read_back_turned_behind_barrier", lambda x: x.flip(1)),
    ("read_back_own", lambda x: 2 * x),
    ("true_hints", lambda x: x),
    ("atomic_sum_of_ones", lambda x: torch.full_like(x, x.shape[0])),
    ("described_on_device", lambda x: x),
    ("tanh_of_erf", lambda x: x.erf().tanh()),
    ("every_second_masked", lambda x: masked(x)),
    ("root", lambda x: x.sqrt()),
]


@pytest.mark.parametrize(("name", "meant"), RIGHT, ids=[name for name, _ in RIGHT])
def test_right_form_is_accepted(name, meant):
    assert 0 <= proved(jit_of(name), meant) <= 1


@pytest.mark.parametrize(
    ("name", "meant", "due"),
    [("every_second_finite", masked, "-inf"), ("root_of_positive_part", torch.sqrt, "nan")],
    ids=["infinity", "nan"],
)
def test_number_is_wrong_where_none_is_due(name, meant, due):
    with pytest.raises(WrongResult, match=f"must be {due}"):
        proved(jit_of(name), meant)


@pytest.mark.parametrize(
    ("name", "called"),
    [("bytes_permuted", "byte_perm(int32, int32, int32)"), ("population_counted", "popc(int32)")],
    ids=["byte_perm", "popc"],
)
def test_function_of_libdevice_that_is_not_run_is_named(name, called):
    with pytest.raises(ToolchainError, match=re.escape(f"libdevice.{called}")):
        proved(jit_of(name), lambda x: x)


def test_declared_order_of_sums_is_accepted():
    jit = small_kernels.atomic_sum_of_programs
    assert 0 <= proved(jit, lambda x: x.sum(0).expand_as(x), any_order=True) <= 1


def copied(rows_of_source):
    x, y = torch.randn(4, 16), torch.empty(4, 16)
    source = TensorDescriptor(x, [rows_of_source, 16], [16, 1], [1, 16])
    with sanitized():
        small_kernels.copy_described[(4,)](TensorDescriptor.from_tensor(y, [1, 16]), source)
    return torch.equal(x, y)


def test_descriptor_made_on_host_is_run():
    assert copied(4)


def test_descriptor_made_on_host_is_checked():
    x = torch.randn(4, 16)
    with sanitized(), pytest.raises(Defect, match=r"out of bounds: source\[64\]"):
        source = TensorDescriptor(x, [8, 16], [16, 1], [1, 16])
        small_kernels.copy_described[(8,)](TensorDescriptor.from_tensor(torch.empty(8, 16), [1, 16]), source)


def test_store_through_descriptor_made_on_host_is_checked():
    x = torch.randn(8, 16)
    with sanitized(), pytest.raises(Defect, match=r"out of bounds: into\[64\]"):
        into = TensorDescriptor(torch.empty(4, 16), [8, 16], [16, 1], [1, 16])
        small_kernels.copy_described[(8,)](into, TensorDescriptor.from_tensor(x, [1, 16]))


@pytest.mark.parametrize("grid", [(1, 65536), (1, 1, 70000), (2**31,)], ids=["y", "z", "x"])
def test_grid_that_no_gpu_launches_is_named(grid):
    x = torch.zeros(16)
    with sanitized(), pytest.raises(Defect, match="grid too large") as raised:
        small_kernels.unused_undefined[grid](x, x, 1, 16, BLOCK=16)
    assert raised.value.place.startswith("tests/interpreter/small_kernels.py:")
    assert raised.value.offset == grid[-1]
