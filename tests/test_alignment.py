"""FP8 dots as matrix units add them that cut products off: exact by hand, and in the proofs of Hopper's kernels."""

import json
import os
import subprocess
import sys
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from autotune import arch as archs
from autotune.arch import Accumulation
from autotune.kernels._truncation import truncation
from autotune.tuning.interpreter.alignment import accumulation, aligned_dot, products_of

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
def test_an_aligned_dot_equals_exact_arithmetic_with_the_cuts(sums, spread):
    a, b = fp8(8, 128, 0, spread), fp8(8, 128, 1, spread)
    a[0], total = 0, fp8(8, 8, 2, spread)
    got = aligned_dot(a, np.ascontiguousarray(b.T), total, sums)
    want = [[by_hand(x, y, float(total[i, j]), sums) for j, y in enumerate(b)] for i, x in enumerate(a)]
    assert np.array_equal(got, np.array(want, np.float32))
    assert not np.array_equal(got, a @ b.T + total)


@pytest.mark.parametrize("spread", [0, 5])
@pytest.mark.parametrize("block_k", [32, 64, 128])
def test_the_bound_holds_what_the_cuts_lose(block_k, spread):
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


CODE = """
import json
from dataclasses import replace
from autotune import device, registry
from autotune.errors import WrongResult
from autotune.kernel import Expected
from autotune.tuning import space
from autotune.tuning.interpreter import corrections as interpret
from autotune.tuning.validation.validate import validate
interpret.correct_interpreter()
gpu, shares = device.named("h200"), {}
chosen = {"gemm/fp8_block_scaled": 0, "moe/fp8_grouped_gemm": 0, "indexer/ragged_logits": 10}
for name, at in chosen.items():
    kernel = registry.load(name)
    problem = space.load(kernel, gpu).check[at]
    config = kernel.default(problem, gpu)
    shares[name] = validate(kernel, problem, config, gpu)
    fp32_bound = replace(kernel, reference=lambda p, *i, kernel=kernel: tuple(
        replace(want, truncation=None) for want in kernel.reference(p, *i)))
    try:
        shares[name + " in fp32"] = validate(fp32_bound, problem, config, gpu)
    except WrongResult:
        shares[name + " in fp32"] = "wrong"
print(json.dumps(shares))
"""


def test_proofs_for_hopper_see_and_allow_what_its_units_lose():
    environment = os.environ | {"TRITON_INTERPRET": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    root = Path(__file__).parents[1]
    done = subprocess.run(
        [sys.executable, "-c", CODE], env=environment, cwd=root, capture_output=True, text=True, check=True
    )
    shares = json.loads(done.stdout.splitlines()[-1])
    assert [shares[f"{name} in fp32"] for name in ("moe/fp8_grouped_gemm", "indexer/ragged_logits")] == ["wrong"] * 2
    assert all(0 < share <= 1 for name, share in shares.items() if "in fp32" not in name), shares
