"""Every kernel as a `torch.library` op, so that `torch.compile` and export see one opaque call with known shapes."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import torch

from autotune import device as devices

if TYPE_CHECKING:
    from autotune.device import Device
    from autotune.kernel import Kernel
    from autotune.launcher_signature import Parameter, Signature

Result = list[torch.Tensor] | tuple[torch.Tensor, ...] | torch.Tensor | None

_UNKNOWN_SIZE = 1024
"""Stands for a size that the trace does not know; it picks a config, and no shape of a result depends on one."""

_patching = threading.RLock()


def define(kernel: Kernel[Any]) -> Callable[..., Result]:
    """Registers `torch.ops.autotune.<family>_<kernel>`: the launcher's arguments, and the name of a device record.

    It returns the new tensors alone; what the launcher writes in place is marked as written.
    """
    name, signature = f"autotune::{kernel.origin.op_name}", kernel.signature
    writes = [signature.parameters[i].name for i in signature.written]

    def launch(*args: Any, device: str = "") -> Result:  # noqa: ANN401
        here = devices.named(device) if device else None
        args = _plain(args, kernel)
        served = kernel.serve(args, here)
        served.calls += 1
        return _new(kernel.launch(*args, config=served.config, device=served.device), args, signature)

    def fake(*args: Any, device: str = "") -> Result:  # noqa: ANN401
        if not signature.fresh:
            return None
        here = devices.named(device) if device else kernel.home(args)
        args = _plain(args, kernel)
        problem = kernel.problem_of(tuple(_hinted(arg) for arg in args), here)
        with _without_launching(type(kernel.jit)):
            outputs = kernel.launch(*args, config=kernel.default(problem, here), device=here)
        return _new(outputs, args, signature)

    op = torch.library.custom_op(name, launch, mutates_args=writes, schema=schema(signature))
    op.register_fake(fake)
    return op


def schema(signature: Signature) -> str:
    """The op's schema: `(Tensor q, Tensor(a!) cache, SymInt page_size=1, *, str device="") -> Tensor[]`."""
    marks = {index: f"({chr(ord('a') + n)}!)" for n, index in enumerate(signature.written)}
    parts = [_argument(parameter, marks.get(i, "")) for i, parameter in enumerate(signature.parameters)]
    return f"({', '.join(parts)}, *, str device='') -> {_returns(signature)}"


def call(kernel: Kernel[Any], args: tuple[Any, ...], device: Device | None) -> Any:  # noqa: ANN401
    """The launcher's own results, through the op."""
    signature = kernel.signature
    args = signature.complete(args, {}, kernel.name)
    new = kernel.op(*args, device=device.name if device else "")
    fresh = () if new is None else (new,) if isinstance(new, torch.Tensor) else new
    results = (*fresh, *(args[i] for i in signature.written if args[i] is not None))
    return results[0] if signature.bare and len(results) == 1 else results


def _argument(parameter: Parameter, mark: str) -> str:
    kinds = {"Tensor": f"Tensor{mark}", "Tensor | None": f"Tensor{mark}?", "int": "SymInt"}
    tuples = "Tensor[]?" if parameter.kind.endswith("| None") else "Tensor[]"
    kind = tuples if parameter.kind.startswith("tuple[Tensor") else kinds.get(parameter.kind, parameter.kind)
    text = f"{kind} {parameter.name}"
    # torch 2.11 strips arguments that are at their default and then indexes the written ones: IndexError.
    if mark or parameter.default is parameter.EMPTY:
        return text
    return f"{text}={parameter.default!r}"


def _returns(signature: Signature) -> str:
    if not signature.written:
        return "Tensor[]"
    # Of an op that writes its arguments, torch accepts single tensors only.
    return f"({', '.join(['Tensor'] * len(signature.fresh))})"


def _plain(args: tuple[Any, ...], kernel: Kernel[Any]) -> tuple[Any, ...]:
    """Return the arguments as the launcher expects them.

    Torch leaves out trailing defaults, makes tuples lists, and integers symbols. A plain integer, such as a page size,
    is a constant of the model: a trace is for its value.
    """
    forms = {list: tuple, torch.SymInt: int}
    return tuple(forms.get(type(arg), _same)(arg) for arg in kernel.signature.complete(args, {}, kernel.name))


def _same(arg: Any) -> Any:  # noqa: ANN401
    return arg


def _new(outputs: Any, args: tuple[Any, ...], signature: Signature) -> Result:  # noqa: ANN401
    """Return the results that are not arguments, in the form of the schema."""
    written = [args[i] for i in signature.written]
    results = outputs if isinstance(outputs, tuple) else (outputs,)
    fresh = [result for result in results if not any(result is output for output in written)]
    if not signature.written:
        return fresh
    return (fresh[0] if len(fresh) == 1 else tuple(fresh)) if fresh else None


def _hinted(arg: Any) -> Any:  # noqa: ANN401
    """Sizes as first seen in place of symbols, so that choosing a config puts no guard on them."""
    if isinstance(arg, torch.SymInt):
        hint = arg.node.hint
        return _UNKNOWN_SIZE if hint is None else int(hint)
    if isinstance(arg, torch.Tensor) and any(isinstance(size, torch.SymInt) for size in arg.shape):
        return torch.empty([_hinted(size) for size in arg.shape], dtype=arg.dtype, device="meta")
    return arg


@contextmanager
def _without_launching(jit: Any) -> Iterator[None]:  # noqa: ANN401
    """Triton launches of this thread do nothing; other threads' go on."""
    me = threading.get_ident()
    with _patching:
        original = jit.run

        def run(function: Any, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
            return None if threading.get_ident() == me else original(function, *args, **kwargs)

        jit.run = run
        try:
            yield
        finally:
            jit.run = original
