"""Records what a program launches: `with autotune.capture("calls.json"):` around anything that calls Triton kernels."""

from __future__ import annotations

import dataclasses
import json
import logging
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from autotune.adopt import calls, foreign
from autotune.adopt.calls import Argument, Call, Plain, Sample, TensorSpec, Unkept
from autotune.adopt.foreign import ForeignKernel
from autotune.errors import UsageError

_MOST_COMPARED = 1 << 20
"""Integers of a tensor that are sorted to see whether one is there twice."""


@contextmanager
def capture(path: str | Path) -> Iterator[None]:
    """Write each distinct call of a Triton kernel inside to `path`, as JSON, also where the block ends by an error.

    Kernels run as they do outside, on a GPU or in Triton's interpreter; there an autotuned kernel takes its author's
    first config, as nothing can be timed. Values of tensors are not kept: of each its dtype, shape and strides, the
    smallest and the largest value, and for integers whether they ascend or differ. Raises OSError where `path` cannot
    be written.
    """
    from triton.runtime.autotuner import Autotuner, Heuristics
    from triton.runtime.interpreter import InterpretedFunction
    from triton.runtime.jit import JITFunction

    if _interpreted():
        from autotune.tuning.interpreter.corrections import correct_interpreter

        correct_interpreter()  # else bf16 is wrong there, and what the program computes next with it
    recorder = _Recorder()
    try:
        with ExitStack() as stack:
            for kind in (Autotuner, Heuristics, JITFunction, InterpretedFunction):
                stack.enter_context(mock.patch.object(kind, "run", recorder.around(kind.run)))
            yield
    finally:
        calls.write(Path(path), recorder.calls.values())


class _Recorder:
    """Distinct calls in the order in which they came."""

    def __init__(self) -> None:
        self.calls: dict[str, Call] = {}
        self._read: dict[int, tuple[Any, ForeignKernel | None]] = {}
        self._within = threading.local()

    def around(self, original: Callable[..., Any]) -> Callable[..., Any]:
        """Return a replacement of a wrapper's `run`, which notes a call and then makes it."""

        def run(kernel: Any, *args: Any, **named: Any) -> Any:  # noqa: ANN401
            # A wrapper runs the function below it, and an Autotuner runs it many times: the outermost is the call.
            if named.get("warmup") or getattr(self._within, "launch", False):
                return original(kernel, *args, **named)
            self._within.launch = True
            try:
                described = self._describe(kernel)
                if described is not None:
                    self._note(described, args, dict(named))
                    if _interpreted() and described.configs:
                        return _launch_unsearched(described, args, named)
                return original(kernel, *args, **named)
            finally:
                self._within.launch = False

        return run

    def _describe(self, kernel: Any) -> ForeignKernel | None:  # noqa: ANN401
        """Return the description of a kernel, or None, and a warning once, for one that cannot be adopted."""
        if id(kernel) not in self._read:
            try:
                described = foreign.read(kernel)
            except UsageError as refusal:
                logging.getLogger(__name__).warning("not captured: %s", refusal)
                described = None
            self._read[id(kernel)] = (kernel, described)  # the kernel is kept, so that no other gets its id
        return self._read[id(kernel)][1]

    def _note(self, kernel: ForeignKernel, args: tuple[Any, ...], named: dict[str, Any]) -> None:
        grid = named.pop("grid")
        named.pop("warmup", None)
        bound = kernel.bound(args, named)
        arguments = _with_shared({name: bound[name] for name in kernel.arguments if name in bound})
        options = {name: value for name, value in named.items() if name not in kernel.parameters and _is_plain(value)}
        first, samples = _grids(kernel, grid, bound)
        call = Call(kernel.name, arguments, options, first, samples)
        shapes = {name: _without_values(value) for name, value in arguments.items()}
        kept = json.dumps(calls.to_json(dataclasses.replace(call, arguments=shapes)), sort_keys=True)
        before = self.calls.get(kept)
        self.calls[kept] = call if before is None else _merged(before, call)


def argument(value: Any) -> Argument:  # noqa: ANN401
    """Return what a file keeps of one argument of a launch."""
    if isinstance(value, Tensor):
        return TensorSpec(str(value.dtype).removeprefix("torch."), tuple(value.shape), value.stride(), *_facts(value))
    value = getattr(value, "value", value) if type(value).__name__ == "constexpr" else value
    if _is_plain(value):
        return value  # type: ignore[no-any-return]
    if isinstance(value, torch.dtype):
        return Unkept(str(value))
    if type(value).__module__.startswith("triton.language") and type(value).__name__ == "dtype":
        return Unkept(f"tl.{value}")
    return Unkept(type(value).__name__)


def _with_shared(named: Mapping[str, Any]) -> dict[str, Argument]:
    """Return what a file keeps of the arguments of a launch, also which tensors begin at one address."""
    kept: dict[str, Argument] = {}
    first: dict[int, str] = {}
    for name, value in named.items():
        spec = argument(value)
        if isinstance(value, Tensor) and isinstance(spec, TensorSpec) and not value.is_meta and value.numel():
            owner = first.setdefault(value.data_ptr(), name)
            spec = dataclasses.replace(spec, shares=None if owner == name else owner)
        kept[name] = spec
    return kept


def _is_plain(value: Any) -> bool:  # noqa: ANN401
    return value is None or type(value) in (int, float, bool, str)


def _facts(tensor: Tensor) -> tuple[float | None, float | None, bool, bool]:
    """Return the smallest and the largest finite value, and for integers whether they ascend and whether all differ."""
    if tensor.is_meta or tensor.is_complex() or (tensor.is_cuda and torch.cuda.is_current_stream_capturing()):
        return None, None, False, False
    if tensor.is_floating_point():
        values = tensor.detach().float() if tensor.dtype.itemsize < 4 else tensor.detach()
        values = values[values.isfinite()]
        return (
            (values.min().item(), values.max().item(), False, False) if values.numel() else (None, None, False, False)
        )
    values = tensor.detach().flatten().long()
    if not values.numel():
        return None, None, False, False
    ascending = values.numel() > 1 and bool((values.diff() >= 0).all())
    few = 1 < values.numel() <= _MOST_COMPARED
    distinct = few and torch.unique(values).numel() == values.numel()
    return int(values.min()), int(values.max()), ascending, distinct


def _without_values(value: Argument) -> Argument:
    if not isinstance(value, TensorSpec):
        return value
    return TensorSpec(value.dtype, value.shape, value.stride, shares=value.shares)


def _merged(before: Call, call: Call) -> Call:
    """Return one record of two calls alike: with the whole range of values that both saw."""
    arguments = {name: _widened(value, call.arguments[name]) for name, value in before.arguments.items()}
    return dataclasses.replace(before, arguments=arguments, times=before.times + 1)


def _widened(a: Argument, b: Argument) -> Argument:
    if not isinstance(a, TensorSpec) or not isinstance(b, TensorSpec) or a.low is None or b.low is None:
        return a
    low, high = min(a.low, b.low), max(a.high or 0, b.high or 0)
    return dataclasses.replace(
        a, low=low, high=high, ascending=a.ascending and b.ascending, distinct=a.distinct and b.distinct
    )


def _grids(
    kernel: ForeignKernel,
    grid: Any,  # noqa: ANN401
    bound: Mapping[str, Any],
) -> tuple[tuple[int, ...], tuple[Sample, ...]]:
    """Return the grid of a call, and where it is a function of constexprs also its values for others."""
    config = dict(kernel.default(**bound)) if kernel.configs else {}
    if not callable(grid):
        return _sizes(grid), ()
    tuned = kernel.tuned or tuple(name for name in kernel.constexprs if type(bound.get(name)) is int)
    first = {name: value for name, value in {**bound, **config}.items() if name in tuned}
    tried: list[dict[str, Plain]] = [first]
    tried += [{name: value for name, value in each.items() if name in tuned} for each in kernel.configs]
    for name, value in first.items():  # tells apart two constexprs that are equal in every config
        if type(value) is int:
            tried += [{**first, name: 2 * value}, {**first, name: 4 * value}]
    samples: dict[str, Sample] = {}
    for constexprs in tried:
        try:
            sizes = _sizes(grid(kernel.with_heuristics({**bound, **config, **constexprs})))
        except Exception:  # the author's function refuses a config that its caller never passes
            logging.getLogger(__name__).debug("%s: no grid for %s", kernel.name, constexprs, exc_info=True)
            continue
        samples.setdefault(json.dumps(constexprs, sort_keys=True), Sample(constexprs, sizes))
    return _sizes(grid(kernel.with_heuristics({**bound, **config}))), tuple(samples.values())


def _sizes(grid: Any) -> tuple[int, ...]:  # noqa: ANN401
    return tuple(int(size) for size in grid)


def _interpreted() -> bool:
    import triton

    return bool(triton.knobs.runtime.interpret)


def _launch_unsearched(kernel: ForeignKernel, args: tuple[Any, ...], named: dict[str, Any]) -> None:
    grid = named.pop("grid")
    named.pop("warmup", None)
    kernel[grid](*args, **named, **kernel.default(**kernel.bound(args, named)))
