"""Scaled products for old interpreters, held against those of Triton's own newer ones."""

import math
from types import SimpleNamespace

import numpy as np
import pytest
import torch
import triton.language as tl
from triton._C.libtriton import ir
from triton.runtime.interpreter import InterpreterBuilder, TensorHandle

from autotune.toolchain import release, triton_version
from autotune.tuning.interpreter.corrections import correct_interpreter, to_float32
from autotune.tuning.interpreter.scaled_products import add_scaled_products

pytestmark = pytest.mark.skipif(release(triton_version()) < (3, 8), reason="this interpreter has no tl.dot_scaled")

M, N, K = 4, 6, 64
FORMATS = {"e4m3": (ir.ScaleDotElemTypeTY.E4M3, tl.float8e4nv), "e5m2": (ir.ScaleDotElemTypeTY.E5M2, tl.float8e5)}
FORMATS |= {"bf16": (ir.ScaleDotElemTypeTY.BF16, tl.bfloat16), "e2m1": (ir.ScaleDotElemTypeTY.E2M1, tl.uint8)}


def operand(chance, shape, name, packed_axis):
    """Random finite bits of a format; two e2m1 elements to a byte along `packed_axis`."""
    shape = list(shape)
    if name == "e2m1":
        shape[packed_axis] //= 2
        return TensorHandle(chance.integers(0, 256, shape).astype(np.uint8), tl.uint8)
    if name == "bf16":
        return TensorHandle(chance.integers(0x3F00, 0x4100, shape).astype(np.uint16), tl.bfloat16)
    sign, magnitude = chance.integers(0, 2, shape), chance.integers(0, 0x78, shape)
    return TensorHandle((sign << 7 | magnitude).astype(np.uint8), FORMATS[name][1])


def scale(chance, rows, low=120, high=136):
    return TensorHandle(chance.integers(low, high, (rows, K // 32)).astype(np.uint8), tl.uint8)


def exact_matmul(a, b):
    """Products summed exactly and rounded once: NumPy's own order of summing depends on CPU and memory layout."""
    rows, columns = np.asarray(a, np.float64), np.asarray(b, np.float64).T
    return np.array([[math.fsum(row * column) for column in columns] for row in rows], np.float32)


def both(monkeypatch, *arguments):
    """The product by our function and by Triton's."""
    correct_interpreter()
    monkeypatch.setattr(np, "matmul", exact_matmul)
    ours = SimpleNamespace(dot_scaled=None)
    add_scaled_products(ours, SimpleNamespace(dot_scaled=None), to_float32)
    return ours.create_dot_scaled(None, *arguments).data, InterpreterBuilder().create_dot_scaled(*arguments).data


@pytest.mark.parametrize("k_packed", [True, False])
@pytest.mark.parametrize("b", FORMATS)
@pytest.mark.parametrize("a", FORMATS)
def test_products_equal_those_of_newer_interpreter(a, b, k_packed, monkeypatch):
    chance = np.random.default_rng(0)
    a_packs_k, b_packs_k = k_packed or a != "e2m1", k_packed or b != "e2m1"
    left = operand(chance, (M, K), a, -1 if a_packs_k else -2)
    right = operand(chance, (K, N), b, -2 if b_packs_k else -1)
    a_scale, b_scale = (None if a == "bf16" else scale(chance, M)), (None if b == "bf16" else scale(chance, N))
    total = TensorHandle(chance.standard_normal((M, N)).astype(np.float32), tl.float32)
    forms = (left, a_scale, FORMATS[a][0], right, b_scale, FORMATS[b][0], False, a_packs_k, b_packs_k, total)
    ours, newer = both(monkeypatch, *forms)
    assert np.array_equal(ours, newer)
    assert np.abs(ours - total.data).max() > 1


@pytest.mark.parametrize(("name", "torch_type"), [("bf16", torch.bfloat16), ("e5m2", torch.float8_e5m2)])
def test_every_finite_operand_keeps_its_value(name, torch_type, monkeypatch):
    element_format, dtype = FORMATS[name]
    bits = np.arange(1 << dtype.primitive_bitwidth).astype(np.uint16 if name == "bf16" else np.uint8)
    values = torch.from_numpy(bits).view(torch_type).float().numpy()
    bits, values = bits[np.isfinite(values)], values[np.isfinite(values)]
    one = TensorHandle(np.full((1, 1), 0x3F80, np.uint16), tl.bfloat16)
    total = TensorHandle(np.zeros((len(bits), 1), np.float32), tl.float32)
    left = TensorHandle(bits[:, None], dtype)
    for found in both(monkeypatch, left, None, element_format, one, None, FORMATS["bf16"][0], False, True, True, total):
        assert np.array_equal(found[:, 0], values)


def test_scale_bytes_of_0_and_255_equal_those_of_newer(monkeypatch):
    chance = np.random.default_rng(0)
    left, right = operand(chance, (M, K), "e4m3", -1), operand(chance, (K, N), "e4m3", -2)
    edges, plain = scale(chance, M), scale(chance, N)
    edges.data[0], edges.data[1] = 0, 255
    e4m3 = ir.ScaleDotElemTypeTY.E4M3
    total = TensorHandle(np.zeros((M, N), np.float32), tl.float32)
    ours, newer = both(monkeypatch, left, edges, e4m3, right, plain, e4m3, False, True, True, total)
    assert np.array_equal(ours, newer, equal_nan=True)
    assert (ours[0] != 0).all() and np.isnan(ours[1]).all() and np.isfinite(ours[2:]).all()
