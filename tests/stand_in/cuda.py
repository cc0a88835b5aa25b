"""A CUDA GPU that is not there: tensors on the CPU that say that they lie on it, and what the driver tells of it.

Inside `standing_in`, every tensor that is made for `cuda`, or comes of one that was, is marked by its storage. What
torch refuses of real ones raises here: mixing them with tensors on the CPU, and waiting for them while a graph is
captured. All else is computed on the CPU.
"""

from __future__ import annotations

import contextlib
from types import SimpleNamespace
from unittest import mock

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves, tree_map_only

from autotune.tuning.measurement import cold_cache

WHERE = torch.device("cuda", 0)
WAITS = {"item", "tolist", "__bool__", "__int__", "__float__", "__index__", "nonzero", "masked_select", "cpu", "numpy"}
"""Each copies from the GPU to the CPU, which ends what the stream captures."""
SHAPED = {"copy_", "expand_as", "view_as", "reshape_as"}
"""Read only the shape of another tensor, or copy it between devices on purpose."""
STRICT = {"stack", "cat", "matmul", "mm", "bmm", "einsum", "__matmul__", "gather", "scatter_"}
"""Take no tensor from the CPU; other functions take one of no dimension, as a number."""
PROPERTIES = {
    "h200": {"major": 9, "minor": 0, "multi_processor_count": 132, "total_memory": 150_000_000_000},
    "mi355x": {"gcnArchName": "gfx950:sramecc+:xnack-", "multi_processor_count": 256, "total_memory": 309_000_000_000},
}
NAMES = {"h200": "NVIDIA H200", "mi355x": "AMD Instinct MI355X"}


class DeviceMismatch(RuntimeError):
    """Torch's error for tensors on two devices."""


class Capturing(RuntimeError):
    """CUDA's error for an operation that a stream cannot capture."""


def _storage(tensor):
    with torch._C.DisableTorchFunction():
        while torch._C._functorch.is_functorch_wrapped_tensor(tensor):
            tensor = torch._C._functorch.get_unwrapped(tensor)
        return tensor.untyped_storage()


def is_marked(tensor):
    return getattr(_storage(tensor), "stands_on_gpu", False)


def mark(tensor):
    _storage(tensor).stands_on_gpu = True
    return tensor


def _tensors(value):
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, torch.Tensor)]


def _is_cuda(place):
    return place is not None and torch.device(place).type == "cuda"


def _dimensions(tensor):
    with torch._C.DisableTorchFunction():
        return tensor.dim()


class Mode(TorchFunctionMode):
    """Sees every call of a torch function, and does what a GPU would make of it."""

    def __init__(self):
        super().__init__()
        self.capturing = False

    def __torch_function__(self, function, types, args=(), kwargs=None):
        name, kwargs = getattr(function, "__name__", ""), dict(kwargs or {})
        if name == "__get__":
            return self._attribute(function, args)
        marked = [is_marked(tensor) for tensor in _tensors((args, kwargs))]
        if any(marked) and not all(marked):
            _refuse_mixed(name, args, kwargs)
        if name == "to":
            return self._moved(function, args, kwargs, any(marked))
        made_here = _is_cuda(kwargs.get("device"))
        if made_here:
            kwargs["device"] = "cpu"
        if self.capturing and ((name in WAITS and any(marked)) or (name == "tensor" and made_here)):
            raise Capturing(f"{name}: operation not permitted when stream is capturing")
        if name == "numpy" and any(marked):
            raise TypeError("can't convert cuda:0 device type tensor to numpy")
        follows = name in SHAPED or name == "__setitem__" or (name.endswith("_") and not name.endswith("__"))
        stays = bool(args) and isinstance(args[0], torch.Tensor) and is_marked(args[0])
        result = function(*args, **kwargs)
        if name == "cpu":
            return result.clone()
        if stays if follows else made_here or (any(marked) and "device" not in kwargs):
            tree_map_only(torch.Tensor, mark, result)
        return result

    def _attribute(self, function, args):
        name = getattr(function.__self__, "__name__", "")
        if name in ("device", "is_cuda") and is_marked(args[0]):
            return WHERE if name == "device" else True
        result = function(*args)
        if isinstance(result, torch.Tensor) and is_marked(args[0]):
            mark(result)
        return result

    def _moved(self, function, args, kwargs, was_there):
        """`to`, whose device is one of its arguments."""
        places = [arg for arg in (*args[1:], kwargs.get("device")) if isinstance(arg, str | torch.device)]
        there = _is_cuda(places[0]) if places else was_there
        if self.capturing and there != was_there:
            raise Capturing("to: operation not permitted when stream is capturing")
        plain = [torch.device("cpu") if isinstance(arg, str | torch.device) and _is_cuda(arg) else arg for arg in args]
        if _is_cuda(kwargs.get("device")):
            kwargs["device"] = "cpu"
        result = function(*plain, **kwargs)
        if there == was_there:
            return mark(result) if there else result
        return mark(result.clone()) if there else result.clone()


def _refuse_mixed(name, args, kwargs):
    """Raises where torch would: `Expected all tensors to be on the same device`, in TensorIterator and in indexing."""
    if name in SHAPED:
        return
    if name == "__getitem__":
        if not is_marked(args[0]):
            raise DeviceMismatch("indices should be on the same device as the indexed tensor (cpu)")
        return
    if name == "__setitem__":
        target, index, value = args
        if not is_marked(target) and any(map(is_marked, _tensors(index))):
            raise DeviceMismatch("indices should be on the same device as the indexed tensor (cpu)")
        differs = isinstance(value, torch.Tensor) and is_marked(value) != is_marked(target) and _dimensions(value)
        if _tensors(index) and differs:
            raise DeviceMismatch("index_put_: expected tensors on the same device")
        return
    strays = [tensor for tensor in _tensors((args, kwargs)) if not is_marked(tensor)]
    if name in STRICT or any(map(_dimensions, strays)):
        raise DeviceMismatch(f"{name}: expected all tensors to be on the same device, found cuda:0 and cpu")


_GENERATOR = torch.Generator


class Generator:
    """torch has none for CUDA here: one of the CPU draws."""

    def __new__(cls, device="cpu"):
        return _GENERATOR("cpu")


_SET = torch.Tensor.set_


def set_(tensor, *args):
    """torch shows no mode this function, which gives a tensor another storage."""
    there = is_marked(tensor)
    result = _SET(tensor, *args)
    return mark(result) if there else result


class Event:
    """Two of them are always 20 us apart."""

    def __init__(self, enable_timing):
        assert enable_timing

    def record(self):
        pass

    def synchronize(self):
        pass

    def elapsed_time(self, other):
        return 0.02


def driver(device):
    """torch.cuda where one GPU is a `device`."""
    stream = SimpleNamespace(wait_stream=lambda other: None)
    properties = SimpleNamespace(name=NAMES[device], **PROPERTIES[device])
    return {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "set_device": lambda number: None,
        "get_device_properties": lambda number: properties,
        "get_device_name": lambda number: properties.name,
        "synchronize": lambda: None,
        "mem_get_info": lambda: (2**30, 2**30),
        "empty_cache": lambda: None,
        "Event": Event,
        "Stream": lambda: stream,
        "current_stream": lambda: stream,
        "stream": lambda one: contextlib.nullcontext(),
        "_sleep": lambda cycles: None,
    }


@contextlib.contextmanager
def standing_in(device, **instead):
    """A GPU of kind `device`; `instead` replaces functions of torch.cuda further. Gives the mode."""
    from autotune import device as devices

    devices.at.cache_clear()
    with contextlib.ExitStack() as stack:
        for name, function in (driver(device) | instead).items():
            stack.enter_context(mock.patch.object(torch.cuda, name, function))
        stack.enter_context(mock.patch.object(torch, "Generator", Generator))
        stack.enter_context(mock.patch.object(torch.Tensor, "set_", set_))
        # The caches of a GPU that computes on the CPU are small.
        stack.enter_context(mock.patch.object(cold_cache, "overfull_bytes", lambda last_level_bytes: 40_000))
        try:
            yield stack.enter_context(Mode())
        finally:
            devices.at.cache_clear()
