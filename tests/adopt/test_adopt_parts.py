"""Parts of `adopt` that run no kernel: expressions of sizes and grids, widened lists, tolerances, drawn tensors."""

from __future__ import annotations

import pytest
import torch
import yaml
from torch import Tensor

from autotune import device, launcher_signature
from autotune.adopt import expressions, foreign
from autotune.adopt.drawing import Inputs
from autotune.adopt.nearness import near
from autotune.adopt.space_text import values_of, yaml_text
from autotune.config import Config
from autotune.errors import WrongResult
from autotune.tuning.validation.error_budget import spent

SIZES = {"m": (64, 100, 64), "n": (96, 96, 33)}


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ((64, 100, 64), "m"),
        ((64 * 96, 9600, 64 * 33), "m * n"),
        ((65, 101, 65), "m + 1"),
        ((1, 1, 1), "1"),
        ((3, 3, 3), "3"),
        ((2, 2, 1), "triton.cdiv(n, 64)"),
        ((7, 5, 3), None),
    ],
)
def test_size_is_simplest_expression_that_fits_all_calls(values, said):
    expression = expressions.of_size(values, {**SIZES, "k": (8, 9, 10)})
    assert (expression.spelled() if expression else None) == said


def test_size_of_one_call_is_no_constant():
    assert expressions.of_size((77,), {"m": (64,)}) is None


@pytest.mark.parametrize(
    ("grid", "said"),
    [
        (lambda m, n, bm, bn: -(-m // bm) * -(-n // bn), "triton.cdiv(m, BM) * triton.cdiv(n, BN)"),
        (lambda m, n, bm, bn: -(-m // bm), "triton.cdiv(m, BM)"),
        (lambda m, n, bm, bn: n * -(-m // bm) * bn, "n * triton.cdiv(m, BM) * BN"),
        (lambda m, n, bm, bn: -(-m * n // bm), "triton.cdiv(m * n, BM)"),
        (lambda m, n, bm, bn: 2 * -(-m // bm) * n, "2 * n * triton.cdiv(m, BM)"),
        (lambda m, n, bm, bn: min(m, 17 * bm) + bn, None),
    ],
)
def test_grid_is_product_that_fits_all_samples(grid, said):
    rows = [(m, n, bm, bn) for m, n in ((64, 96), (100, 33)) for bm in (16, 32) for bn in (16, 64)]
    m, n, bm, bn = zip(*rows, strict=True)
    found = expressions.of_grid(tuple(grid(*row) for row in rows), {"m": m, "n": n}, {"BM": bm, "BN": bn})
    assert (found.spelled() if found else None) == said


def test_constexpr_that_is_not_tuned_may_be_size_of_grid():
    values, step = (32, 32, 64, 64), (16, 32, 16, 32)
    found = expressions.of_grid((2, 1, 4, 2), {"V": values}, {"V": values, "BV": step})
    assert found.spelled() == "triton.cdiv(V, BV)"


def test_block_is_power_of_two_that_holds_size():
    assert expressions.of_block((128, 64, 128), {"n": (96, 33, 128)}).spelled() == "triton.next_power_of_2(n)"
    assert expressions.of_block((128, 128, 64), {"n": (96, 33, 128)}) is None


@pytest.mark.parametrize(
    ("name", "author", "widened"),
    [
        ("BLOCK_M", [64, 128], [32, 64, 128, 256]),
        ("BLOCK_K", [16], [16, 32]),
        ("GROUP_M", [8], [4, 8, 16]),
        ("num_warps", [4, 16], [2, 4, 8, 16]),
        ("num_stages", [3], [2, 3, 4]),
        ("EVEN", [True], [True]),
    ],
)
def test_widened_list_has_powers_of_two_around(name, author, widened):
    assert values_of(author, name, widen=True) == widened
    assert values_of(author, name, widen=False) == sorted(author)


def test_tolerance_lets_rounding_pass_and_nothing_more():
    value = torch.randn(64, 64, dtype=torch.float64)
    want = near("y", value, "bfloat16", "bfloat16", terms=512)
    assert spent(want, value.bfloat16().double()) <= 1
    with pytest.raises(WrongResult):
        spent(want, value * 1.05)
    with pytest.raises(WrongResult):
        spent(near("ids", torch.arange(4), "float32", "int64", terms=4), torch.tensor([0.0, 1, 2, 4]))


def test_value_that_may_overflow_its_format_may_be_anything():
    want = near("y", torch.tensor([1.0, 65504.0, torch.nan]), "float16", terms=1)
    assert spent(want, torch.tensor([1.0, torch.inf, 3.0]).double()) <= 1


def test_drawn_integers_keep_order_ends_and_strides():
    draw = Inputs(0, "cpu")
    starts = draw.whole((9,), "int32", 0, 100, ascending=True)
    assert (starts.diff() >= 0).all() and (starts[0], starts[-1], starts.dtype) == (0, 100, torch.int32)
    slots = draw.whole((4, 4), "int64", 2, 20, distinct=True)
    assert slots.unique().numel() == 16 and slots.min() >= 2 and slots.max() <= 20
    spread = draw.floats((3, 4), "float32", stride=(0, 2))
    assert spread.stride() == (0, 2) and torch.equal(spread[0], spread[2])


class ByStride:
    @classmethod
    def of(cls, args):
        return args.x.stride(0), args.x.dtype


def test_key_of_call_has_strides_that_problem_reads():
    def launch(x: Tensor, *, config, device) -> Tensor:
        return x

    reader = launcher_signature.read(launch, ByStride.of).reader
    wide, narrow = (torch.zeros(8, step)[:, :64] for step in (100, 200))
    assert reader((wide,)) != reader((narrow,))


def test_warps_that_a_wavefront_lacks_are_fewer_on_amd():
    text = yaml_text("k", [Config(num_warps=32)], [{"m": 1}], [{"m": 1}], widen=False)
    assert yaml.safe_load(text)["params"] == {"num_warps": [32]}
    assert yaml.safe_load(text)["per_arch"] == {"amd": {"num_warps": [16]}}
    author = foreign.ForeignKernel(
        "a:k", None, (Config(num_warps=32),), (), {}, (), (), None, None, {}, frozenset(), (), False
    )
    for name, warps in (("mi355x", 16), ("b200", 32)):
        gpu = device.named(name)
        config = author.default_on(gpu)
        assert config == Config(num_warps=warps)
        assert author.lists(config, gpu) and author.refuses(config, gpu) is None
