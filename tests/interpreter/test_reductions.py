"""Reductions by functions of a kernel's own, against NumPy."""

from functools import reduce

import numpy as np
import pytest
import torch
import triton
import triton.language as tl

from autotune.tuning.interpreter.corrections import correct_interpreter


@triton.jit
def digits(left, right):
    return left * 3 + right


@triton.jit
def earlier(left, left_at, right, right_at):
    keep = left <= right
    return tl.where(keep, left, right), tl.where(keep, left_at, right_at)


@triton.jit
def along(x, out, AXIS: tl.constexpr, KEEP: tl.constexpr):
    values = tl.load(x + tl.arange(0, 4)[:, None] * 8 + tl.arange(0, 8)[None, :])
    total = tl.reduce(values, AXIS, digits, keep_dims=KEEP)
    if KEEP and AXIS == 0:
        tl.store(out + tl.arange(0, 8)[None, :], total)
    elif KEEP:
        tl.store(out + tl.arange(0, 4)[:, None], total)
    elif AXIS == 0:
        tl.store(out + tl.arange(0, 8), total)
    else:
        tl.store(out + tl.arange(0, 4), total)


@triton.jit
def whole(x, out):
    values = tl.load(x + tl.arange(0, 4)[:, None] * 8 + tl.arange(0, 8)[None, :])
    tl.store(out, tl.reduce(values, None, digits))


@triton.jit
def smallest(x, out, at):
    row, column = tl.arange(0, 4), tl.arange(0, 8)
    values = tl.load(x + row[:, None] * 8 + column[None, :])
    least, where = tl.reduce((values, column[None, :] + tl.zeros((4, 8), tl.int32)), 1, earlier)
    tl.store(out + row, least)
    tl.store(at + row, where)


@triton.jit
def ordered(x, out, SIZE: tl.constexpr):
    at = tl.arange(0, SIZE)
    tl.store(out + at, tl.sort(tl.load(x + at)))


def drawn(dtype, size=32):
    correct_interpreter()
    return torch.randint(-9, 9, (size,), generator=torch.Generator().manual_seed(0)).to(dtype)


def in_numpy(values, axis):
    return reduce(lambda left, right: left * 3 + right, np.moveaxis(values, axis, 0))


@pytest.mark.parametrize("keep", [True, False])
@pytest.mark.parametrize("axis", [0, 1])
@pytest.mark.parametrize("dtype", [torch.float32, torch.int32, torch.int8])
def test_slices_are_combined_from_first_to_last(dtype, axis, keep):
    x = drawn(dtype)
    out = torch.zeros(8 if axis == 0 else 4, dtype=dtype)
    along[(1,)](x, out, axis, keep)
    assert torch.equal(out, torch.from_numpy(in_numpy(x.view(4, 8).numpy(), axis)))


def test_no_axis_reduces_whole_block_to_scalar():
    x, out = drawn(torch.int32), torch.zeros(1, dtype=torch.int32)
    whole[(1,)](x, out)
    assert out.numpy() == in_numpy(x.numpy(), 0)


def test_pairs_are_combined_together():
    x = drawn(torch.float32)
    out, at = torch.zeros(4), torch.zeros(4, dtype=torch.int32)
    smallest[(1,)](x, out, at)
    assert torch.equal(out, x.view(4, 8).amin(1))
    assert np.array_equal(at, x.view(4, 8).numpy().argmin(1))


def test_sort_calls_its_function_once_a_slice(monkeypatch):
    x = drawn(torch.int32, 64)
    out, calls = torch.zeros_like(x), []
    combine = tl.standard._xor_combine
    counted = combine.fn
    monkeypatch.setattr(combine, "fn", lambda *args: calls.append(1) or counted(*args))
    ordered[(1,)](x, out, 64)
    assert torch.equal(out, x.sort().values)
    assert len(calls) == 21, "64 elements are sorted in 21 steps"
