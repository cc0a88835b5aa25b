"""The address arithmetic of a kernel at sizes past 2^31 elements, run without memory behind it.

Inputs are shapes only. Every argument gets an address space of its own, loads of indices return the largest that the
pools behind them allow, and of a launch's grid the corners run, of a loop its ends. Triton's own overflow checks are
on, so that each 32-bit sum and product is exact or an error; an address outside its argument is an error too.
"""

import dataclasses
import itertools
import sys
from types import SimpleNamespace
from unittest import mock

import numpy as np
import torch
import triton
import triton.language as tl

from autotune import device, registry
from autotune.tuning import kernel_facts, space
from autotune.tuning.interpreter.corrections import correct_interpreter
from autotune.tuning.interpreter.sanitizer import _device_call, _pointer, place

GPUS = ("mi355x", "h100")
TOKENS = 2**20
LAST_POSITION = 2**20 - 1
LARGEST = 2**31 - 1
POOL = 3 * 2**30
"""Elements of a cache or a state: past 2^31."""


def slots(call, pool, page_size="page_size"):
    """How many rows a cache has, whatever its layout."""
    cache = call[f"{pool}_ptr"]
    return cache.shape[0] * (call.get(page_size, call.get("PAGE_SIZE")) if cache.dtype == torch.uint8 else 1)


LARGEST_INDEX = {
    "indices_ptr": lambda call: slots(call, "cache") - 1,
    "extra_indices_ptr": lambda call: slots(call, "extra", "extra_page_size") - 1,
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


def largest_index(name, call, own):
    """The largest index that an argument of a launch may hold: as the kernel's file says, or as LARGEST_INDEX does."""
    if name not in own and name not in LARGEST_INDEX:
        raise Wrong(f"{name} holds indices: add its largest to largest_index in the kernel's search space")
    bound = own.get(name)
    if bound is None:
        return LARGEST_INDEX[name](call)
    if isinstance(bound, int):
        return bound
    if bound not in call:
        raise Wrong(f"largest_index: {name} is bounded by {bound!r}, but parameters are {', '.join(call)}")
    value = call[bound]
    return (value.shape[0] if isinstance(value, torch.Tensor) else int(value)) - 1


class Wrong(Exception):
    pass


class Addresses:
    """The arguments of one launch, 2^44 bytes apart."""

    def __init__(self, call):
        self.call = call
        tensors = [(name, value) for name, value in call.items() if isinstance(value, torch.Tensor)]
        self.spaces = dict(enumerate(tensors, 1))
        self.bases = {name: (space << 44) + (1 << 43) for space, (name, _) in self.spaces.items()}

    def check(self, pointers, mask, size):
        """The name of the argument that active lanes touch."""
        active = pointers[mask].astype(np.int64)
        if not active.size:
            return None
        name, tensor = self.spaces.get(int(active[0]) >> 44, ("nothing", torch.empty(0)))
        offsets = active - self.bases.get(name, 0)
        if offsets.min() < 0 or offsets.max() > tensor.numel() * tensor.element_size() - size:
            raise Wrong(f"{place()}: {name} at bytes {offsets.min()} to {offsets.max()} of {list(tensor.shape)}")
        return name


def ends(*bounds):
    whole = range(*map(int, bounds))
    return [*whole[:2], *whole[max(2, len(whole) - 2) :]]


def launcher(state):
    from triton.runtime import interpreter

    def run(self, *args, grid, warmup, **kwargs):
        known = self.fn.__code__.co_varnames[: self.fn.__code__.co_argcount]
        call = {**dict(zip(known, args, strict=False)), **{k: v for k, v in kwargs.items() if k in known}}
        state.addresses = Addresses(call)
        kinds = self.fn.__annotations__
        values = {
            name: _pointer(value, state.addresses.bases[name])
            if isinstance(value, torch.Tensor)
            else value
            if "constexpr" in str(kinds.get(name))
            else interpreter._implicit_cvt(value)
            for name, value in call.items()
        }
        function = self.rewrite()
        grid = (*grid, *(1,) * (3 - len(grid)))
        scope = interpreter._patch_lang(SimpleNamespace(__globals__={"tl": tl, "core": tl.core}))
        modules = [m for name, m in sys.modules.items() if name.startswith("autotune.kernels.")]
        try:
            interpreter.interpreter_builder.set_grid_dim(*grid)
            for module in modules:
                module.range = ends
            for program in itertools.product(*({0, size - 1} for size in grid)):
                interpreter.interpreter_builder.set_grid_idx(*program)
                function(**values)
        finally:
            for module in modules:
                vars(module).pop("range", None)
            scope.restore()

    return run


def loader(state):
    from triton.runtime.interpreter import TensorHandle, _get_np_dtype

    def load(self, pointers, mask, other, *rest):
        kind = pointers.get_element_ty()
        bits = _get_np_dtype(kind)
        name = state.addresses.check(pointers.data, mask.data, bits.itemsize)
        data = np.zeros(pointers.data.shape, dtype=bits)
        if name is not None and kind == tl.int32:
            data[...] = largest_index(name, state.addresses.call, state.largest_index)
        if other is not None:
            data = np.where(mask.data, data, other.data).astype(bits)
        return TensorHandle(data, kind)

    return load


def storer(state):
    from triton.runtime.interpreter import _get_np_dtype

    def store(self, pointers, value, mask, *rest):
        state.addresses.check(pointers.data, mask.data, _get_np_dtype(pointers.get_element_ty()).itemsize)

    return store


def outside(launch, own=None):
    """Runs `launch` with everything above in the interpreter's place; `own`: indices that its kernel's file bounds."""
    correct_interpreter()
    from triton.runtime import interpreter

    state, builder = SimpleNamespace(largest_index=own or {}), interpreter.InterpreterBuilder
    checked = dataclasses.replace(interpreter.interpreter_builder.options, debug=True)
    with (
        mock.patch.object(interpreter.InterpretedFunction, "run", launcher(state)),
        mock.patch.object(interpreter.InterpretedFunction, "__call__", _device_call),
        mock.patch.object(builder, "create_masked_load", loader(state)),
        mock.patch.object(builder, "create_masked_store", storer(state)),
        mock.patch.object(interpreter.interpreter_builder, "options", checked),
    ):
        try:
            launch()
        except (Wrong, AssertionError) as error:
            return str(error)
        except Exception as error:
            cause = error.__cause__ or error.__context__ or error
            return f"{type(error).__name__}: {error}: {cause}"[:600]
    return None


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


def verdict(name):
    """What is wrong on one of the GPUs, which kernels take in turn: block sizes differ, addresses hardly."""
    kernel, gpu = registry.load(name), device.named(GPUS[registry.names().index(name) % len(GPUS)])
    problem, facts = space.load(kernel, gpu).compile[-1], kernel_facts.read(name)
    large = dataclasses.replace(problem, **{problem.VARYING[0]: TOKENS, **(facts.large or {})})
    inputs = [v.to("meta") if isinstance(v, torch.Tensor) else v for v in large.inputs(0, "meta")]
    inputs, config = enlarged(kernel, inputs), kernel.default(large, gpu)
    return outside(lambda: kernel.launch(*inputs, config=config, device=gpu), facts.largest_index)


@triton.jit
def planted(x_ptr, slots_ptr, width, WIDE: tl.constexpr):
    slot = tl.load(slots_ptr + tl.arange(0, 16))
    if WIDE:
        slot = slot.to(tl.int64)
    tl.store(x_ptr + slot[:, None] * width + tl.arange(0, 16)[None, :], tl.zeros((16, 16), dtype=tl.float32))


def plant(wide):
    """A row store whose offset is computed in 64 bits, or in 32 as a mistake would."""
    x, slots = torch.empty((POOL // 512, 512), device="meta"), torch.empty((16,), dtype=torch.int32, device="meta")
    return outside(lambda: planted[(1,)](x, slots, 512, WIDE=wide), {"slots_ptr": "x_ptr"})
