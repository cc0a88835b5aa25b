"""One captured call in the interpreter: which of its arguments a kernel reads, writes, and writes entirely."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from autotune.adopt.calls import Argument, Call, TensorSpec
from autotune.adopt.drawing import Inputs
from autotune.adopt.foreign import ForeignKernel
from autotune.config import Config

_PROGRAMS = 256
"""Programs that are run; of a larger grid as many, evenly spread over it."""


_CONFIGS = 4
"""Configs that are tried: some add by atomics what others store."""


@dataclass(frozen=True)
class Touched:
    """Names of tensor arguments, and what one launch does."""

    read: frozenset[str]
    written: frozenset[str]
    covered: frozenset[str]
    """Written to the last byte."""
    dots: frozenset[str]
    """Dtypes of matrix products, as Triton names them."""
    adds: bool
    """True if it adds by atomics."""


def touched(kernel: ForeignKernel, call: Call, constants: Mapping[str, Any]) -> Touched:
    """Launch `call` with the author's first configs, under the sanitizer. Raises Defect where it misuses memory."""
    seen = [_touched(kernel, call, constants, config) for config in kernel.configs[:_CONFIGS]]
    return Touched(
        frozenset().union(*(each.read for each in seen)),
        frozenset().union(*(each.written for each in seen)),
        frozenset.intersection(*(each.covered for each in seen)),
        frozenset().union(*(each.dots for each in seen)),
        any(each.adds for each in seen),
    )


def _touched(kernel: ForeignKernel, call: Call, constants: Mapping[str, Any], config: Config) -> Touched:
    from autotune.tuning.interpreter.counting import count_call

    def prepare() -> Callable[[], None]:
        inputs = Inputs(0, "cpu")
        named = {name: constants.get(name, value_of(inputs, value)) for name, value in call.arguments.items()}
        for name in kernel.zeroed:
            named[name].zero_()
        given = {**named, **call.options, **config}
        return lambda: kernel[grid_of(call, config)](**given)

    (first, *_) = count_call(prepare, _PROGRAMS).launches
    moved = first.arguments
    stored = {name for name, traffic in moved.items() if traffic.stored_bytes}
    specs = {name: spec for name, spec in call.arguments.items() if isinstance(spec, TensorSpec)}
    return Touched(
        frozenset(name for name, traffic in moved.items() if traffic.loaded_bytes),
        frozenset(stored),
        frozenset(name for name in stored & specs.keys() if moved[name].unique_bytes >= specs[name].nbytes),
        frozenset(first.flops),
        first.atomics > 0,
    )


def grid_of(call: Call, config: Config) -> tuple[int, ...]:
    """Return the grid of a captured call with `config`, or the one with the author's first where it is not known."""
    for sample in call.samples:
        if all(config.get(name, value) == value for name, value in sample.constexprs.items()):
            return sample.grid
    return call.grid


def value_of(inputs: Inputs, value: Argument) -> Any:  # noqa: ANN401
    """Draw a tensor as a captured one was; other arguments are themselves."""
    if not isinstance(value, TensorSpec):
        return value
    stride = None if value.is_contiguous else value.stride
    if "float" in value.dtype:
        if value.low is None or value.high is None or value.low < 0:
            return inputs.floats(value.shape, value.dtype, stride=stride)
        return inputs.within(value.shape, value.dtype, value.low, value.high, stride=stride)
    low, high = int(value.low or 0), int(value.high or 0)
    return inputs.whole(
        value.shape, value.dtype, low, high, ascending=value.ascending, distinct=value.distinct, stride=stride
    )
