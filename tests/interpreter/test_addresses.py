"""No 32-bit sum or product reaches an address at the sizes that rows serve."""

from functools import partial

import pytest
import small_kernels
import torch
from address_arithmetic import guessed
from small_kernels import Rows, kernel_of

from autotune import device, registry
from autotune.errors import Defect
from autotune.tuning.interpreter.addresses import check_addresses
from autotune.tuning.interpreter.index_bounds import declared

GPU = device.named("h100")


def checked(jit, rows, cols):
    kernel, problem = kernel_of(jit, lambda x: x), Rows(rows, cols)
    call = partial(kernel.launch, *problem.inputs(0, "meta"), config=kernel.default(problem, GPU), device=GPU)
    return check_addresses(call, declared(None))


def gathered(bounds, wide=False):
    x, slots = torch.empty((2**23, 512), device="meta"), torch.empty(16, dtype=torch.int32, device="meta")
    return check_addresses(lambda: small_kernels.gather_rows[(1,)](x, slots, 512, WIDE=wide), declared(bounds))


@pytest.mark.parametrize("name", ["offset_in_32_bits", "loop_offset_in_32_bits"])
def test_overflow_of_32_bits_is_named(name):
    jit = getattr(small_kernels, name)
    with pytest.raises(Defect) as raised:
        checked(jit, 262144, 16384)
    defect = raised.value
    assert (defect.kind, defect.argument, defect.place) == ("32-bit overflow", "x_ptr", small_kernels.line_of(jit))
    assert len(defect.program) == 3


@pytest.mark.parametrize(("rows", "cols"), [(131071, 16384), (2084935, 1030)], ids=["all lanes", "active lanes"])
def test_sizes_within_32_bits_are_accepted(rows, cols):
    checked(small_kernels.offset_in_32_bits, rows, cols)


def test_offset_in_64_bits_is_accepted():
    assert checked(small_kernels.offset_in_64_bits, 262144, 16384) == frozenset()


def test_offset_of_declared_index_is_checked():
    with pytest.raises(Defect, match="32-bit overflow: x_ptr"):
        gathered({"slots_ptr": "x_ptr"})
    assert gathered({"slots_ptr": "x_ptr"}, wide=True) == frozenset()
    assert gathered({"slots_ptr": 2**22 - 1}) == frozenset()


def test_undeclared_index_is_told_and_accused_of_nothing():
    assert gathered(None) == {"slots_ptr"}


@pytest.mark.parametrize("name", registry.names())
def test_addresses_are_exact(name):
    assert guessed(name) == frozenset()
