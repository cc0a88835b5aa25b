"""FP8 dots as matrix units add them that cut products off: exact by hand, and in the proofs of Hopper's kernels."""

import contextlib
from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from autotune import arch as archs
from autotune import device, registry
from autotune.arch import Accumulation
from autotune.errors import WrongResult
from autotune.kernels._truncation import truncation
from autotune.tuning import space
from autotune.tuning.interpreter import corrections
from autotune.tuning.interpreter.alignment import accumulation, aligned_dot, products_of
from autotune.tuning.validation.validate import validate

HOPPER = Accumulation(bits=13, terms=32)


def fp8(rows, columns, seed, spread):
    generator = torch.Generator().manual_seed(seed)
    values = torch.randn(rows, columns, generator=generator)
    values *= torch.exp2(torch.randint(-spread, spread + 1, values.shape, generator=generator).float())
    return values.to(torch.float8_e4m3fn).float().numpy()


def exponent(value):
    return int(np.frexp(np.float64(value))[1]) - 1 if value else -1000


def by_hand(a, b, total, sums):
    """One element in exact arithmetic."""
    for start in range(0, len(a), sums.terms):
        pairs = list(zip(a[start : start + sums.terms], b[start : start + sums.terms], strict=True))
        top = max([exponent(total), *(exponent(x) + exponent(y) for x, y in pairs)])
        unit = Fraction(2) ** (max(top, -100) - sums.bits)
        added = sum(int(Fraction(float(x)) * Fraction(float(y)) / unit) for x, y in pairs) + int(Fraction(total) / unit)
        kept = Fraction(2) ** (exponent(float(added * unit)) - sums.bits)
        total = float(int(added * unit / kept) * kept)
    return total


@pytest.mark.parametrize("spread", [0, 5])
@pytest.mark.parametrize("sums", [HOPPER, Accumulation(bits=13, terms=16)])
def test_aligned_dot_equals_exact_arithmetic_with_cuts(sums, spread):
    a, b = fp8(8, 128, 0, spread), fp8(8, 128, 1, spread)
    a[0], total = 0, fp8(8, 8, 2, spread)
    got = aligned_dot(a, np.ascontiguousarray(b.T), total, sums)
    want = [[by_hand(x, y, float(total[i, j]), sums) for j, y in enumerate(b)] for i, x in enumerate(a)]
    assert np.array_equal(got, np.array(want, np.float32))
    assert not np.array_equal(got, a @ b.T + total)


@pytest.mark.parametrize("spread", [0, 5])
@pytest.mark.parametrize("block_k", [32, 64, 128])
def test_bound_holds_what_cuts_lose(block_k, spread):
    a, b = fp8(64, 512, 3, spread), fp8(64, 512, 4, spread)
    zero = np.zeros((64, 64), np.float32)
    steps = range(0, 512, block_k)
    dots = [aligned_dot(a[:, s : s + block_k], b[:, s : s + block_k].T, zero, HOPPER) for s in steps]
    wide_a, wide_b = torch.from_numpy(a).double(), torch.from_numpy(b).double()
    error = (sum(torch.from_numpy(dot).double() for dot in dots) - wide_a @ wide_b.T).abs()
    worst = truncation(wide_a, wide_b, 128, HOPPER, independent=False)
    likely = truncation(wide_a, wide_b, 128, HOPPER, independent=True)
    assert (error <= likely).all()
    assert (likely <= worst).all()
    assert (error / likely).max() > 0.05


def test_small_tiles_of_hopper_add_in_fp32():
    assert accumulation(128) is None
    with products_of(archs.named("sm_90")):
        assert (accumulation(32), accumulation(64)) == (None, HOPPER)
    with products_of(archs.named("sm_89")):
        assert accumulation(16) == Accumulation(bits=13, terms=16)
    with products_of(archs.named("sm_100")):
        assert accumulation(128) is None


@pytest.mark.parametrize(
    ("name", "at", "fp32_is_too_tight"),
    [("gemm/fp8_block_scaled", 0, False), ("moe/fp8_grouped_gemm", 0, True), ("indexer/ragged_logits", 10, True)],
)
def test_proof_for_hopper_sees_and_allows_what_its_units_lose(name, at, fp32_is_too_tight):
    corrections.correct_interpreter()
    gpu, kernel = device.named("h200"), registry.load(name)
    problem = space.load(kernel, gpu).check[at]
    config = kernel.default(problem, gpu)
    assert 0 < validate(kernel, problem, config, gpu) <= 1

    def in_fp32(*arguments):
        return tuple(replace(expected, truncation=None) for expected in kernel.reference(*arguments))

    with pytest.raises(WrongResult) if fp32_is_too_tight else contextlib.nullcontext():
        validate(replace(kernel, reference=in_fp32), problem, config, gpu)
