"""The addresses of every kernel here past 2^31 elements: a million tokens, and pools as large as servers have."""

import dataclasses

import torch

from autotune import device, registry
from autotune.tuning import kernel_facts, space
from autotune.tuning.interpreter.addresses import check_addresses
from autotune.tuning.interpreter.index_bounds import declared

GPUS = ("mi355x", "h100")
TOKENS = 2**20
LAST_POSITION = 2**20 - 1
LARGEST = 2**31 - 1
POOL = 3 * 2**30
"""Elements of a cache or a state: past 2^31."""


def slots(call, pool, page_size="PAGE_SIZE"):
    """How many rows a cache has, whatever its layout."""
    cache = call[f"{pool}_ptr"]
    return cache.shape[0] * (call[page_size] if cache.dtype == torch.uint8 else 1)


LARGEST_INDEX = {
    "indices_ptr": lambda call: slots(call, "cache") - 1,
    "extra_indices_ptr": lambda call: slots(call, "extra", "EXTRA_PAGE_SIZE") - 1,
    "chunk_indices_ptr": lambda call: call["chunk_ptr"].shape[0] - 1,
    "slots_ptr": lambda call: slots(call, "cache") - 1,
    "positions_ptr": lambda call: call["table_ptr"].shape[0] - 1 if "table_ptr" in call else LAST_POSITION,
    "page_table_ptr": lambda call: call["cache_ptr"].shape[0] - 1 if "cache_ptr" in call else LARGEST // 64 - 1,
    "state_rows_ptr": lambda call: call["kv_ptr"].shape[0] - 1,
    "requests_ptr": lambda call: call["page_table_ptr"].shape[0] - 1 if "page_table_ptr" in call else 999,
    "lengths_ptr": lambda call: call.get("n", call.get("pages", 1) * call.get("PAGE_SIZE", 1)),
    "starts_ptr": lambda call: 0,
    "ends_ptr": lambda call: call["keys"],
    "plan_ptr": lambda call: 0,
    "ids_ptr": lambda call: call["experts"] - 1,
    "hash_ids_ptr": lambda call: call["experts"] - 1,
    "block_expert_ptr": lambda call: call["w_ptr"].shape[0] - 1,
    "sorted_ptr": lambda call: call["slots"] - 1,
    "counts_ptr": lambda call: 0,
    "k_ptr": lambda call: 40,
    "index_ptr": lambda call: 0,
    "cache_ptr": lambda call: 0,  # scales moved as words
    # Rows of a chunk; or where a request's keys begin, of which 0 leaves the furthest key.
    "offsets_ptr": lambda call: call["x_ptr"].shape[0] - LAST_POSITION % 128 - 2 if "x_ptr" in call else 0,
}
"""By parameter name, since one word means one thing in every kernel; a kernel with another one names its own."""


def bound_of(facts):
    """The largest index that an argument of a launch holds: as the kernel's file says, or as LARGEST_INDEX does."""
    own = declared(facts.largest_index)

    def bound(name, call):
        said = own(name, call)
        return LARGEST_INDEX[name](call) if said is None and name in LARGEST_INDEX else said

    return bound


def enlarged(kernel, inputs):
    """Caches and states with as many rows as make them POOL elements; their scales with as many."""
    rows, larger = {}, []
    names = kernel.launch.__code__.co_varnames
    for name, value in zip(names, inputs, strict=False):
        pool = next((p for p in ("extra", "cache", "kv_state", "score_state") if name.startswith(p)), None)
        if isinstance(value, torch.Tensor) and pool and not name.endswith("indices"):
            rows.setdefault(pool, POOL // value[0].numel())
            value = torch.empty((rows[pool], *value.shape[1:]), dtype=value.dtype, device="meta")
        if name == "table":
            value = torch.empty((LAST_POSITION + 1, value.shape[1]), device="meta")
        larger.append(value)
    return larger


def guessed(name):
    """Arguments whose indices nothing bounds, on one of the GPUs, which kernels take in turn. Raises Defect."""
    kernel, gpu = registry.load(name), device.named(GPUS[registry.names().index(name) % len(GPUS)])
    problem, facts = space.load(kernel, gpu).compile[-1], kernel_facts.read(name)
    large = dataclasses.replace(problem, **{problem.VARYING[0]: TOKENS, **(facts.large or {})})
    inputs = [v.to("meta") if isinstance(v, torch.Tensor) else v for v in large.inputs(0, "meta")]
    inputs, config = enlarged(kernel, inputs), kernel.default(large, gpu)
    return check_addresses(lambda: kernel.launch(*inputs, config=config, device=gpu), bound_of(facts))
