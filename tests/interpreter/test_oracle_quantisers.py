"""Our kernels quantise and choose bit for bit as DeepSeek's TileKernels 1.0.0 do in plain torch."""

import pytest
import tile_kernels_reference
import torch

from autotune import device, registry
from autotune.inputs import Draw
from autotune.kernels._quant import decode_e8m0, decode_fp4, decode_fp8
from autotune.tuning.interpreter.sanitizer import sanitized

GPU = device.named("h100")
ROWS, COLS = 37, 512


@pytest.fixture(scope="module")
def cast():
    return tile_kernels_reference.load("cast")


def ours(name, *inputs):
    """The kernel's outputs with its default config, in the interpreter."""
    kernel = registry.load(name)
    problem = kernel.problem.of(kernel.arguments(*inputs))
    with sanitized():  # Triton's own interpreter rounds ties of FP8 upwards
        return kernel.launch(*inputs, config=kernel.default(problem, GPU), device=GPU)


def activations(scale=1.0):
    """Rows of many sizes, from below FP8's smallest scale to beyond its largest value."""
    x = Draw(7, "cpu").normal((ROWS, COLS), torch.float32)
    return (x * scale * torch.logspace(-4, 4, ROWS)[:, None]).to(torch.bfloat16)


def values(data, scale, group):
    """float64 values of quantised data with a scale for each group of columns."""
    return data.double() * scale.double().repeat_interleave(group, 1)


@pytest.mark.parametrize("group", [64, 128])
def test_fp8_with_power_of_two_scales_agrees(cast, group):
    x = activations()
    q, scale = ours("quant/fp8_group_quant", x, group, True)
    want_q, want_scale = cast.cast(x, "e4m3", (1, group), round_sf=True)
    got, powers = decode_fp8(q, scale, group)
    assert torch.equal(powers, want_scale.double())
    assert torch.equal(got, values(want_q, want_scale, group))


def test_mx_fp8_agrees(cast):
    x = activations(scale=100.0)
    q, scale = ours("quant/mx_quant", x)
    want_q, want_scale = cast.cast(x, "e4m3", (1, 32), round_sf=True)
    assert torch.equal(q.double() * decode_e8m0(scale), values(want_q, want_scale, 32))


def test_mx_fp4_agrees(cast):
    x = activations()
    q, scale = ours("quant/mx_quant", x, True)
    want_q, want_scale = cast.cast(x, "e2m1", (1, 32), round_sf=True)
    assert torch.equal(decode_fp4(q) * decode_e8m0(scale), values(decode_fp4(want_q.view(torch.uint8)), want_scale, 32))


@pytest.mark.parametrize("mx", [False, True])
def test_swiglu_and_quantisation_agree(cast, mx):
    # Their smallest maximum of a group is 1e-4 for FP8, ours of a group of 32 is 2^-120: none is drawn between.
    x, weight = activations(scale=1000.0), Draw(8, "cpu").uniform((ROWS,), 0.1, 2.0)
    swiglu = tile_kernels_reference.load("swiglu").swiglu_forward
    activated = swiglu(x, torch.arange(ROWS, dtype=torch.int32), weight[:, None], swiglu_clamp_value=10.0)
    group = 32 if mx else 128
    want_q, want_scale = cast.cast(activated, "e4m3", (1, group), round_sf=True)
    q, scale = ours("moe/swiglu_quant", x, weight, mx, "e4m3fn", 10.0, True)
    assert torch.equal(decode_fp8(q, scale, group)[0], values(want_q, want_scale, group))


def test_router_chooses_same_experts_ties_included():
    gate = tile_kernels_reference.load("topk").top2_sum_gate
    draw = Draw(9, "cpu")
    logits, bias = draw.integers((33, 384), -8, 8, torch.int64).float() / 4, draw.normal((384,), torch.float32, 0.3)
    bias = (bias * 4).round() / 4
    weights, experts = ours("moe/router", logits, bias, None, 6, "sqrtsoftplus", 2.5)
    want_experts, want_weights = gate(
        logits, bias, 6, 0, 0, False, 0, 2.5, ep_rank=0, num_ep_ranks=1, tp_rank=0, num_tp_ranks=1,
        scoring_func="sqrtsoftplus",
    )  # fmt: skip
    assert torch.equal(experts.long(), want_experts)
    torch.testing.assert_close(weights, want_weights, rtol=1e-6, atol=0.0)
