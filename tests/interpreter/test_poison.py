"""Garbage in one token, expert, key or page changes nothing that a finite change of it would not change.

What a finite change reaches is measured, not listed: so the test is the same for every kernel.
"""

import pytest
import torch

from autotune import device, registry
from autotune.tuning import space
from autotune.tuning.interpreter.sanitizer import sanitized

GPU = device.named("h100")
WIDE = ("ROWS", "BLOCK_M", "BLOCK_H", "BLOCK_T", "BLOCK_N", "BLOCK")
"""Parameters that put more items into one program, most telling first."""
BY_KEY = ("indexer/ragged_logits", "indexer/paged_logits")
"""Kernels of which an item is a key: a column of the output."""
QUICK = (
    "attention/dense_mqa", "compressor/decode_pool", "indexer/topk", "moe/bf16_grouped_gemm", "moe/combine",
    "moe/router", "norm/rms_norm", "quant/fp8_group_quant", "sampling/greedy",
)  # fmt: skip


def crowded(kernel):
    """A small check problem of several items, and the allowed config whose programs hold most of them."""
    loaded = space.load(kernel, GPU)
    several = [p for p in loaded.check if getattr(p, p.VARYING[0]) > 2] or loaded.check[-1:]
    problem = min(several, key=lambda p: p.flops)
    configs = space.feasible(loaded, kernel, problem, GPU)
    return problem, max(configs, key=lambda config: [config.get(name, 0) for name in WIDE])


def run(kernel, problem, config, inputs):
    copies = [value.clone() if isinstance(value, torch.Tensor) else value for value in inputs]
    with sanitized():
        return kernel.decode(problem, kernel.launch(*copies, config=config, device=GPU))


def put(inputs, position, item, bits):
    """The inputs with the bytes of one item of one argument replaced."""
    tensor = inputs[position].clone()
    tensor.view(torch.uint8).reshape(tensor.shape[0], -1)[item] = bits
    return [*inputs[:position], tensor, *inputs[position + 1 :]]


def filled(tensor, *values):
    """Bytes of an item of `tensor` that holds `values` in turn."""
    size = tensor[0].numel()
    if tensor.dtype == torch.uint8:
        return torch.full((size,), 255, dtype=torch.uint8)
    return torch.tensor(values).repeat(-(-size // len(values)))[:size].to(tensor.dtype).view(torch.uint8)


def random_bits(tensor):
    generator = torch.Generator().manual_seed(1)
    return torch.randint(0, 256, (tensor[0].numel() * tensor.element_size(),), generator=generator).to(torch.uint8)


def changed(kernel, before, after):
    """Which items of each output differ: its first dimension, and the second too where that is of keys."""
    dims = 2 if kernel.name in BY_KEY else 1
    same = ((a == b) | (a.isnan() & b.isnan()) for a, b in zip(before, after, strict=True))
    return [~(equal.flatten(dims).all(-1) if equal.ndim > dims else equal) for equal in same]


def drawn(tensor, *, finite):
    """Bytes that are no NaN: of another item where it is of bytes, whose meaning is not known here."""
    if tensor.dtype == torch.uint8:
        return tensor[tensor.shape[0] // 2].reshape(-1)
    return filled(tensor, *finite)


def holds_items(tensor, problem):
    """True for rows of numbers or bytes, and for a number a row of the batch."""
    of_numbers = tensor.dtype.is_floating_point or tensor.dtype == torch.uint8
    per_row = tensor.ndim > 1 or tensor.shape[0] == getattr(problem, problem.VARYING[0])
    return of_numbers and tensor.shape[0] > 1 and per_row


def check(kernel):
    problem, config = crowded(kernel)
    inputs = list(problem.inputs(0, "cpu"))
    clean = run(kernel, problem, config, inputs)
    poisoned = 0
    for position, tensor in enumerate(inputs):
        if not isinstance(tensor, torch.Tensor) or not holds_items(tensor, problem):
            continue
        for item in {0, tensor.shape[0] - 1}:
            reached = [torch.zeros_like(mask) for mask in changed(kernel, clean, clean)]
            for finite in ((9.0, -7.0, 0.25), (-3.0, 5.0)):
                other = run(kernel, problem, config, put(inputs, position, item, drawn(tensor, finite=finite)))
                reached = [old | new for old, new in zip(reached, changed(kernel, clean, other), strict=True)]
            for bits in (filled(tensor, torch.nan), filled(tensor, torch.inf, -torch.inf), random_bits(tensor)):
                other = run(kernel, problem, config, put(inputs, position, item, bits))
                beyond = [m & ~r for m, r in zip(changed(kernel, clean, other), reached, strict=True)]
                assert not any(mask.any() for mask in beyond), (
                    f"{kernel.name} {problem} {config}: item {item} of {kernel.signature.parameters[position].name}"
                )
                poisoned += 1
    return poisoned


@pytest.mark.thorough
@pytest.mark.parametrize(
    "name", [name if name in QUICK else pytest.param(name, marks=pytest.mark.slow) for name in registry.names()]
)
def test_poison_stays_where_it_is(name):
    kernel = registry.load(name)
    poisoned = check(kernel)
    assert poisoned or kernel.family == "metadata" or name == "moe/align"
