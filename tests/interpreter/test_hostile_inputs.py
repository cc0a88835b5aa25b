"""Inputs that engines send beside nice ones: NaN, infinities, any bits, experts of other ranks, nothing at all."""

import pytest
import torch

from autotune import device, registry
from autotune.config import Config
from autotune.tuning.interpreter.sanitizer import sanitized

GPU = device.named("h200")
INF, NAN = float("inf"), float("nan")


def call(name, *args, gpu=GPU, **parameters):
    """Return the outputs of the sanitized kernel, all written, by its default config with `parameters` put over it."""
    kernel = registry.load(name)
    config = Config({**kernel.default(kernel.problem_of(args, gpu), gpu), **parameters})
    with sanitized() as sanitizer:
        outputs = kernel.launch(*args, config=config, device=gpu)
        sanitizer.check_written(outputs)
    return outputs


def any_bits(*shape, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(-(2**31), 2**31, shape, generator=generator).to(torch.int32).view(torch.float32)


def hostile_rows(columns):
    """fp32 rows of numbers, and of what is none."""
    rows = torch.randn(12, columns, generator=torch.Generator().manual_seed(0))
    rows[0], rows[1], rows[2], rows[3] = NAN, -INF, INF, -1e30
    rows[4, 5], rows[5, 0], rows[5, columns - 1] = NAN, INF, NAN
    rows[6, ::2], rows[7, 1], rows[8, columns - 1] = -INF, INF, NAN
    rows[9] = any_bits(columns)
    rows[10] = 1e38
    return rows


@pytest.mark.parametrize("parts", [1, 2, 4])
def test_greedy_takes_the_first_nan_as_argmax_does(parts):
    logits = hostile_rows(1000)
    tokens = call("sampling/greedy", logits, PARTS=parts, BLOCK=256)
    assert torch.equal(tokens.long(), logits.argmax(1))


@pytest.mark.parametrize("bias", [0.0, -INF, NAN])
@pytest.mark.parametrize(
    ("scoring", "experts", "topk"), [("sqrtsoftplus", 8, 8), ("grouped_sigmoid", 32, 8), ("hash", 16, 4)]
)
def test_router_returns_distinct_experts_and_finite_weights(scoring, experts, topk, bias):
    logits = hostile_rows(experts)
    hashed = scoring == "hash"
    ids = any_bits(len(logits), topk).view(torch.int32) if hashed else None
    bias = None if hashed else torch.full((experts,), bias)
    weights, chosen = call("moe/router", logits, bias, ids, topk, scoring)
    assert ((chosen >= 0) & (chosen < experts)).all()
    assert hashed or all(len(set(row)) == topk for row in chosen.tolist())
    assert weights[logits.isfinite().all(1)].isfinite().all()


def test_topk_takes_nan_first_and_distinct_entries():
    logits = torch.cat((hostile_rows(300), any_bits(4, 300, seed=1)))
    logits[-1, ::3] = torch.tensor([-1], dtype=torch.int32).view(torch.float32)  # NaN with its sign set
    rows = len(logits)
    pages = torch.arange(rows * 5, dtype=torch.int32).view(rows, 5)
    lengths = torch.full((rows,), 300, dtype=torch.int32)
    slots = call("indexer/topk", logits, lengths, pages, 40, 64)
    for row, chosen in enumerate((slots - pages[:, :1] * 64).tolist()):
        assert len(set(chosen)) == 40 and set(chosen) <= set(range(300))
        nans = set(logits[row].isnan().nonzero()[:, 0].tolist())
        assert nans <= set(chosen) or set(chosen) <= nans
        left_out = [entry for entry in range(300) if entry not in chosen]
        assert logits[row, chosen].nan_to_num(INF).min() >= logits[row, left_out].nan_to_num(INF).max() or nans


@pytest.mark.thorough
def test_sampling_draws_a_token_of_the_vocabulary():
    logits = torch.cat((hostile_rows(700), hostile_rows(700)))
    rows = len(logits)
    odd = torch.tensor([NAN, -INF, INF, 0.0, -1.0, 1e-40, 1e30, 1.0, 0.5, 2.0, 1.5, 1.0])
    u = torch.tensor([NAN, -1.0, 1.0, 2.0, INF, 0.99, 0.0, 0.5]).repeat(3)
    k = torch.tensor([-5, 0, 1, 3, 10**9, 700, 20, 2], dtype=torch.int32).repeat(3)
    tokens = call("sampling/top_k_top_p", logits, odd.repeat(2), k, odd.flip(0).repeat(2), u)
    assert ((tokens >= 0) & (tokens < 700)).all()
    taken = logits[torch.arange(rows), tokens.long()]
    some = (logits > -INF).any(1)
    assert not taken[some].isnan().any() and (taken[some] > -INF).all()
    assert (taken[(logits == INF).any(1)] == INF).all()


@pytest.mark.parametrize("value", [NAN, INF, -INF])
@pytest.mark.parametrize(
    ("name", "rest", "group"),
    [
        ("quant/fp8_group_quant", (128, False), 128),
        ("quant/fp8_group_quant", (64, True), 64),
        ("quant/mx_quant", (False,), 32),
        ("quant/mx_quant", (True,), 32),
    ],
)
def test_quantised_group_with_nan_or_infinity_is_nan(name, rest, group, value):
    x = torch.randn(2, 256, generator=torch.Generator().manual_seed(0)).bfloat16()
    x[1, 3] = value
    kernel = registry.load(name)
    outputs = call(name, x, *rest)
    decoded = kernel.decode(kernel.problem_of((x, *rest), GPU), outputs)[0]
    assert decoded[1, :group].isnan().all()
    assert decoded[0].isfinite().all() and decoded[1, group:].isfinite().all()


def routed(experts, ids):
    """The operands of an expert layer in bf16 on a rank with `experts`, and the sum that its five kernels make."""
    generator = torch.Generator().manual_seed(0)
    tokens, topk = ids.shape
    x = torch.randn(tokens, 128, generator=generator).bfloat16()
    up = torch.randn(experts, 256, 128, generator=generator).bfloat16()
    down = torch.randn(experts, 128, 128, generator=generator).bfloat16()
    block = {"BLOCK_M": 16, "BLOCK_N": 64, "BLOCK_K": 64}
    alignment = call("moe/align", ids, experts, 16)[:2]
    hidden = call("moe/bf16_grouped_gemm", x, up, ids, alignment, **block)
    act, scale = call("moe/swiglu_quant", hidden)
    narrow = (act.double() * scale.double().repeat_interleave(128, 1)).bfloat16()
    out = call("moe/bf16_grouped_gemm", narrow, down, ids, alignment, **block)
    weights = torch.rand(tokens, topk, generator=generator)
    return x, up, down, weights, call("moe/combine", out, topk, weights)


def expected_sum(x, up, down, weights, ids):
    total = torch.zeros(len(x), 128, dtype=torch.float64)
    for token, row in enumerate(ids.tolist()):
        for choice, expert in enumerate(row):
            if 0 <= expert < len(up):
                gate, plain = (up[expert].double() @ x[token].double()).chunk(2)
                act = torch.nn.functional.silu(gate.clamp_max(10)) * plain.clamp(-10, 10)
                total[token] += weights[token, choice].double() * (down[expert].double() @ act)
    return total


@pytest.mark.parametrize(("experts", "topk"), [(8, 6), (3, 6), (1, 2)], ids=["few", "wide", "one"])
@pytest.mark.parametrize("here", [True, False], ids=["some here", "none here"])
def test_expert_layer_of_a_rank_adds_up_its_own_experts(experts, topk, here):
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(-2 if here else -9, 2 * experts if here else 0, (7, topk), generator=generator).to(torch.int32)
    *operands, total = routed(experts, ids)
    want = expected_sum(*operands, ids)
    assert total.isfinite().all()
    assert torch.allclose(total.double(), want, rtol=0.1, atol=0.1 * float(want.abs().max()))


@pytest.mark.parametrize(
    ("name", "args"),
    [
        (
            "moe/fp8_grouped_gemm",
            (
                torch.randn(4, 128).to(torch.float8_e4m3fn),
                torch.ones(4, 1),
                torch.randn(3, 64, 128).to(torch.float8_e4m3fn),
                torch.ones(3, 1, 1),
            ),
        ),
        (
            "moe/mxfp4_grouped_gemm",
            (
                torch.randn(4, 128).to(torch.float8_e4m3fn),
                torch.full((4, 4), 127, dtype=torch.uint8),
                torch.full((3, 64, 64), 34, dtype=torch.uint8),
                torch.full((3, 64, 4), 127, dtype=torch.uint8),
            ),
        ),
    ],
)
def test_rows_of_other_ranks_are_zeros_in_every_format(name, args):
    ids = torch.full((4, 6), -1, dtype=torch.int32)
    ids[:, 0] = torch.tensor([0, 1, 2, 7])
    out = call(name, *args, ids).view(4, 6, 64)
    assert (out[:, 1:] == 0).all() and (out[3] == 0).all()
    assert (out[:3, 0] != 0).any(1).all()


def test_empty_calls_fill_what_has_rows():
    none = torch.empty(0, dtype=torch.int32)
    plan = call("metadata/compress_plan", none, none, 4, 9)
    assert plan.shape == (9, 3) and (plan == -1).all()
    slots, owners, used = call("moe/align", torch.empty((0, 6), dtype=torch.int32), 8, 16)
    assert (slots.numel(), owners.numel(), used.tolist()) == (0, 0, [0])
    cache = torch.zeros((2, 64 * 132), dtype=torch.uint8)
    keys, scales = call("indexer/key_gather", cache, torch.empty((0, 2), dtype=torch.int32), none, none, 5)
    assert keys.shape == (5, 128) and not keys.view(torch.uint8).any() and not scales.any()
    q, sink = torch.randn(2, 16, 512).bfloat16(), torch.zeros(16)
    lists = torch.empty((2, 0), dtype=torch.int32)
    rows = torch.randn(3, 512).bfloat16()
    assert not call("attention/sparse_prefill", q, rows, lists, rows, None, lists, sink).any()
    assert (
        call(
            "indexer/topk",
            torch.empty(2, 0),
            torch.zeros(2, dtype=torch.int32),
            torch.empty((2, 0), dtype=torch.int32),
            4,
            64,
        )
        == -1
    ).all()


def test_padding_token_leaves_the_real_ones_to_the_bit():
    generator = torch.Generator().manual_seed(0)
    q, kv = (torch.randn(*shape, 512, generator=generator).bfloat16() for shape in ((4, 8), (40,)))
    clean = call("attention/dense_mqa", q, kv, torch.zeros(8))
    q[-1], kv[-1] = NAN, NAN
    dirty = call("attention/dense_mqa", q, kv, torch.zeros(8))
    assert torch.equal(clean[:-1], dirty[:-1]) and dirty[-1].isnan().all()
