"""Padding rows may hold any bits, and one token's ids change nothing of another token.

What padding is, each kernel's docstring says: a slot of -1, a list without keys, a length of 0, another rank's expert.
"""

import pytest
import torch
from test_poison import GPU, crowded, poisons, put, run, widest

from autotune import registry
from autotune.tuning.interpreter.sanitizer import sanitized

PADDING = {
    "attention/sparse_decode": ({"indices": -1, "extra_indices": -1}, ["q"]),
    "attention/sparse_mla": ({"indices": -1}, ["q_latent", "q_rope"]),
    "attention/sparse_prefill": ({"chunk_indices": -1, "indices": -1}, ["q"]),
    "compressor/decode_pool": ({"state_rows": -1}, ["x"]),
    "compressor/index_key_store": ({"slots": -1}, ["pooled"]),
    "compressor/norm_rope_store": ({"slots": -1}, ["pooled"]),
    "compressor/state_write": ({"lengths": 0}, ["x"]),
    "indexer/key_prep": ({"slots": -1}, ["k"]),
    "indexer/paged_logits": ({"lengths": 0}, ["q", "weights"]),
    "indexer/ragged_logits": ({"starts": 0, "ends": 0}, ["q", "weights"]),
    "indexer/topk": ({"lengths": 0}, ["logits"]),
    "moe/bf16_grouped_gemm": ({"expert_ids": -1}, ["a"]),
    "moe/fp8_grouped_gemm": ({"expert_ids": -1}, ["a", "a_scale"]),
    "moe/mxfp4_grouped_gemm": ({"expert_ids": -1}, ["a", "a_scale"]),
    "rope/mla_prep": ({"slots": -1}, ["kv"]),
    "rope/qk_prep": ({"slots": -1}, ["kv"]),
}
"""Kernel -> (what makes its first row padding, what that row may then hold of any bits)."""

QUICK = ("attention/sparse_decode", "compressor/decode_pool", "indexer/topk", "moe/bf16_grouped_gemm", "rope/qk_prep")
ANY_IDS = {
    "metadata/window_indices": ["positions", "requests"],
    "moe/bf16_grouped_gemm": ["expert_ids"],
    "moe/fp8_grouped_gemm": ["expert_ids"],
    "moe/mxfp4_grouped_gemm": ["expert_ids"],
    "moe/router": ["hash_ids"],
    "sampling/top_k_top_p": ["k"],
}
"""Kernel -> arguments that may hold any number."""

SMALLEST, LARGEST = torch.iinfo(torch.int32).min, torch.iinfo(torch.int32).max


def position_of(kernel, name):
    return [parameter.name for parameter in kernel.signature.parameters].index(name)


def with_first_row(kernel, inputs, values):
    """The inputs with the first row of some integer arguments replaced, by argument."""
    inputs = list(inputs)
    for name, value in values.items():
        at = position_of(kernel, name)
        if inputs[at] is not None:
            inputs[at] = inputs[at].clone()
            inputs[at][0] = value
    return inputs


def same(before, after):
    pairs = zip(before, after, strict=True)
    return all(torch.equal(a.nan_to_num(nan=-7e77), b.nan_to_num(nan=-7e77)) for a, b in pairs)


def slow_beyond(names, quick):
    return [name if name in quick else pytest.param(name, marks=pytest.mark.slow) for name in names]


@pytest.mark.thorough
@pytest.mark.parametrize("name", slow_beyond(PADDING, QUICK))
def test_padding_row_changes_nothing(name):
    kernel, (marks, poisoned) = registry.load(name), PADDING[name]
    for problem in crowded(kernel):
        config = widest(kernel, problem)
        inputs = with_first_row(kernel, problem.inputs(0, "cpu"), marks)
        clean = run(kernel, problem, config, inputs)
        for argument in poisoned:
            at = position_of(kernel, argument)
            for bits in poisons(inputs[at]):
                assert same(clean, run(kernel, problem, config, put(inputs, at, {0: bits}))), f"{problem}: {argument}"


def others(outputs, tokens):
    """The rows of each output that belong to all tokens but the first."""
    return [output.reshape(tokens, -1)[1:] for output in outputs]


@pytest.mark.thorough
@pytest.mark.parametrize("name", slow_beyond(ANY_IDS, ("metadata/window_indices", "moe/bf16_grouped_gemm")))
def test_any_ids_of_a_token_leave_others_as_they_are(name):
    kernel = registry.load(name)
    for problem in crowded(kernel):
        inputs, tokens = problem.inputs(0, "cpu"), getattr(problem, problem.VARYING[0])
        config = widest(kernel, problem)
        clean = others(run(kernel, problem, config, inputs), tokens)
        for value in (-1, SMALLEST, LARGEST, 123_456_789):
            changed = with_first_row(kernel, inputs, dict.fromkeys(ANY_IDS[name], value))
            assert same(clean, others(run(kernel, problem, config, changed), tokens)), f"{problem}: {value}"


@pytest.mark.parametrize("name", ["metadata/chunk_indices", "metadata/compressed_indices"])
def test_key_list_of_a_token_is_its_own(name):
    """Positions and requests of padding tokens are those of some token."""
    kernel = registry.load(name)
    for problem in crowded(kernel):
        inputs, config = problem.inputs(0, "cpu"), widest(kernel, problem)
        clean = others(run(kernel, problem, config, inputs), problem.tokens)
        changed = with_first_row(kernel, inputs, {"positions": 1, "requests": 0})
        assert same(clean, others(run(kernel, problem, config, changed), problem.tokens))


def test_plan_of_a_request_stands_before_later_ones():
    kernel = registry.load("metadata/compress_plan")
    starts, lengths = (torch.tensor(values, dtype=torch.int32) for values in ((0, 6, 3), (9, 4, 14)))
    config = kernel.default(kernel.problem_of((starts, lengths, 4, 12), GPU), GPU)
    longer = lengths.clone()
    longer[2] = 30
    with sanitized():
        plan, grown = (kernel.launch(starts, each, 4, 12, config=config, device=GPU) for each in (lengths, longer))
    earlier, earlier_grown = (rows[(rows[:, 0] >= 0) & (rows[:, 0] < 2)] for rows in (plan, grown))
    assert torch.equal(earlier, earlier_grown) and len(earlier) == 3
    assert (grown[:, 0] == 2).sum() > (plan[:, 0] == 2).sum()


def slots_of(aligned, block_m, slots):
    """Expert -> its slots, in their order."""
    sorted_slots, experts, _ = aligned
    blocks = zip(experts.tolist(), sorted_slots.view(-1, block_m).tolist(), strict=True)
    of = {}
    for expert, block in blocks:
        if expert >= 0:
            of.setdefault(expert, []).extend(slot for slot in block if slot < slots)
    return of


@pytest.mark.parametrize("value", [-1, SMALLEST, LARGEST])
def test_any_ids_of_a_token_leave_order_of_others(value):
    kernel, (tokens, topk, experts, block_m) = registry.load("moe/align"), (9, 4, 8, 16)
    ids = torch.randint(0, experts, (tokens, topk), generator=torch.Generator().manual_seed(0)).int()
    hostile = ids.clone()
    hostile[4] = value
    config = kernel.default(kernel.problem_of((ids, experts, block_m), GPU), GPU)
    with sanitized():
        before, after = (kernel.launch(each, experts, block_m, config=config, device=GPU) for each in (ids, hostile))
    own = set(range(4 * topk, 5 * topk))
    kept = {e: [s for s in slots if s not in own] for e, slots in slots_of(before, block_m, tokens * topk).items()}
    assert slots_of(after, block_m, tokens * topk) == {expert: slots for expert, slots in kept.items() if slots}


@pytest.mark.parametrize("overlap", [True, False], ids=["overlap", "none"])
def test_state_that_no_window_names_is_not_pooled(overlap):
    """Two requests have states; windows of the second alone close, one of which began before its chunk."""
    kernel, ratio, d = registry.load("compressor/prefill_pool"), 4 if overlap else 128, 32
    channels, rows = (2 * d, 2 * ratio) if overlap else (d, ratio)
    generator = torch.Generator().manual_seed(0)
    x, ape = (
        torch.randn(2 * ratio, 2 * channels, generator=generator),
        torch.randn(ratio, channels, generator=generator),
    )
    states = [torch.randn(2, rows, channels, generator=generator) for _ in range(2)]
    plan = torch.tensor([[1, 0, -2], [1, 1, ratio - 2], [-1, -1, -1]], dtype=torch.int32)
    starts, state_rows = (torch.tensor(values, dtype=torch.int32) for values in ((0, 2), (0, 1)))

    def pooled(kv, score):
        args = x, ape, plan, starts, kv, score, state_rows
        config = kernel.default(kernel.problem_of(args, GPU), GPU)
        with sanitized():
            return kernel.launch(*args, config=config, device=GPU)

    clean = pooled(*states)
    assert clean[:2].isfinite().all() and not clean[2].any()
    for bits in poisons(states[0]):
        hostile = [put([state], 0, {0: bits})[0] for state in states]
        assert torch.equal(clean, pooled(*hostile))
