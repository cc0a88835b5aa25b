"""Garbage in one token, expert, key or page changes nothing that a finite change of it would not change.

What a finite change reaches is measured, not listed: so the test is the same for every kernel.
"""

from dataclasses import fields

import pytest
import torch

from autotune import device, registry
from autotune.config import resized
from autotune.tuning import space
from autotune.tuning.interpreter.sanitizer import sanitized

GPU = device.named("h100")
WIDE = ("ROWS", "BLOCK_M", "BLOCK_H", "BLOCK_T", "BLOCK_N", "BLOCK")
"""Parameters that put more items into one program, most telling first."""
FORMS = ("ratio", "group", "groups", "page_size")
"""Sizes that choose another path through a kernel, beside all fields of text and all switches but the FP8 format."""
OUTPUT_DIMS = {"indexer/ragged_logits": 2, "indexer/paged_logits": 2, "gemm/bf16_grouped": 2, "gemm/fp8_grouped": 2}
"""Dimensions of an output that are of items, where a key or a group has columns of its own."""
INTEGERS_ONLY = ("moe/align", *(name for name in registry.names() if name.startswith("metadata/")))
"""Kernels whose arguments are integers."""
QUICK = (
    "attention/dense_mqa", "compressor/decode_pool", "indexer/topk", "moe/combine", "moe/router", "norm/rms_norm",
    "quant/fp8_group_quant", "sampling/greedy",
)  # fmt: skip


def crowded(kernel):
    """Small check problems of several items, so many that every form of the kernel is among them."""
    checks = sorted((enlarged(problem) for problem in space.load(kernel, GPU).check), key=lambda problem: problem.flops)
    most = max(map(items_of, checks))
    chosen, covered = [], set()
    for problem in sorted(checks, key=lambda problem: items_of(problem) < most):
        if not chosen or forms_of(problem) - covered:
            chosen.append(problem)
            covered |= forms_of(problem)
    return chosen


def enlarged(problem):
    """The problem with three tokens at least where it has two, so that one is left when two are poisoned."""
    first = problem.VARYING[0]
    return problem if getattr(problem, first) != 2 else resized(problem, first, 3) or problem


def items_of(problem):
    return sum(getattr(problem, field) > 2 for field in problem.VARYING)


def forms_of(problem):
    values = {field.name: getattr(problem, field.name) for field in fields(problem) if field.name != "dtype"}
    return {(name, value) for name, value in values.items() if isinstance(value, str | bool) or name in FORMS}


def widest(kernel, problem):
    """The allowed config whose programs hold most items."""
    configs = space.feasible(space.load(kernel, GPU), kernel, problem, GPU)
    return max(configs, key=lambda config: [config.get(name, 0) for name in WIDE])


def run(kernel, problem, config, inputs):
    copies = [value.clone() if isinstance(value, torch.Tensor) else value for value in inputs]
    with sanitized():
        return kernel.decode(problem, kernel.launch(*copies, config=config, device=GPU))


def put(inputs, position, bits):
    """The inputs with the bytes of some items of one argument replaced; `bits` by item."""
    tensor = inputs[position].clone()
    for item, content in bits.items():
        tensor.view(torch.uint8).reshape(tensor.shape[0], -1)[item] = content
    return [*inputs[:position], tensor, *inputs[position + 1 :]]


def filled(tensor, *values):
    """Bytes of an item of `tensor` that holds `values` in turn; bytes whose meaning is not known here are all 255."""
    size = tensor[0].numel()
    if tensor.dtype == torch.uint8:
        return torch.full((size,), 255, dtype=torch.uint8)
    return torch.tensor(values).repeat(-(-size // len(values)))[:size].to(tensor.dtype).view(torch.uint8)


def random_bits(tensor):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (tensor[0].numel() * tensor.element_size(),), generator=generator).to(torch.uint8)


def poisons(tensor):
    """Contents of a poisoned item: NaN, infinities of both signs, any bits."""
    return filled(tensor, torch.nan), filled(tensor, torch.inf, -torch.inf), random_bits(tensor)


def finite_contents(tensor):
    """Contents of an item without NaN and infinities. Repeated, 0x11 and 0x44 are numbers in every format."""
    if tensor.dtype == torch.uint8:
        another = tensor[tensor.shape[0] // 2].reshape(-1)
        return [another, torch.full_like(another, 0x11), torch.full_like(another, 0x44)]
    return [filled(tensor, 9.0, -7.0, 0.25), filled(tensor, -3.0, 5.0)]


def changed(kernel, before, after):
    """Items of each output that differ."""
    dims = OUTPUT_DIMS.get(kernel.name, 1)
    same = ((a == b) | (a.isnan() & b.isnan()) for a, b in zip(before, after, strict=True))
    return [~(equal.flatten(dims).all(-1) if equal.ndim > dims else equal) for equal in same]


def allowed(reached, tensor, items):
    """Outputs that may change with `items` of `tensor`: what a finite change reached, and their own rows or columns.

    A row may not show a finite change: a token drawn all the same, a logit whose products are all below 0.
    """
    if tensor.shape[0] == reached.shape[0]:
        own = reached.clone()
        own[items] = True
        return own
    return reached if reached.ndim < 2 else reached.any(0, keepdim=True).expand_as(reached)


def holds_items(tensor, problem):
    """True for rows of numbers or bytes, and for a number a row of the batch."""
    of_numbers = tensor.dtype.is_floating_point or tensor.dtype == torch.uint8
    per_row = tensor.ndim > 1 or tensor.shape[0] in [getattr(problem, field) for field in problem.VARYING]
    return of_numbers and tensor.shape[0] > 1 and per_row


def check(kernel, problem):
    """Poison the first and the last item of each argument. Returns the names of the arguments."""
    config, inputs = widest(kernel, problem), list(problem.inputs(0, "cpu"))
    clean = run(kernel, problem, config, inputs)

    def differences(position, bits):
        return changed(kernel, clean, run(kernel, problem, config, put(inputs, position, bits)))

    poisoned = set()
    for position, tensor in enumerate(inputs):
        if not isinstance(tensor, torch.Tensor) or not holds_items(tensor, problem):
            continue
        last = tensor.shape[0] - 1
        reached = [differences(position, {0: bits, last: bits}) for bits in finite_contents(tensor)]
        first, second, third = poisons(tensor)
        for pair in ((first, second), (second, third), (third, first)):
            found = differences(position, dict(zip((0, last), pair, strict=True)))
            for mask, *by_finite in zip(found, *reached, strict=True):
                beyond = mask & ~allowed(torch.stack(by_finite).any(0), tensor, [0, last])
                assert not beyond.any(), (
                    f"{kernel.name} {problem} {config}: items 0 and {last} of "
                    f"{kernel.signature.parameters[position].name} reach items {beyond.nonzero().tolist()[:4]}"
                )
        poisoned.add(kernel.signature.parameters[position].name)
    return poisoned


@pytest.mark.thorough
@pytest.mark.parametrize("name", QUICK)
def test_poison_stays_where_it_is(name):
    kernel = registry.load(name)
    assert check(kernel, crowded(kernel)[0])


@pytest.mark.slow
@pytest.mark.parametrize("name", [name for name in registry.names() if name not in INTEGERS_ONLY])
def test_poison_stays_where_it_is_in_every_form(name):
    kernel = registry.load(name)
    for problem in crowded(kernel):
        assert check(kernel, problem)
