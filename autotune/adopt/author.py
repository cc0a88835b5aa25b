"""Reads an author's `@triton.autotune`: its configs, and the hook that every launch calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from typing import Any

from autotune.config import Config
from autotune.errors import UsageError

Hook = Callable[[dict[str, Any]], None]

NEUTRAL = {"num_ctas": 1, "maxnreg": 0}
"""Values of options that mean what their absence means, and that some back ends refuse."""
OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg")
"""Launch options of a `triton.Config` that a config here may set."""


def configs_of(tuner: Any, parameters: Mapping[str, inspect.Parameter], name: str) -> tuple[Config, ...]:  # noqa: ANN401
    """Return the author's configs, each with a value for whatever one of them sets. Raises UsageError."""
    configs = [_config(config, name) for config in tuner.configs]
    filled = []
    for config in configs:
        absent = {part for other in configs for part in other} - set(config)
        defaults: dict[str, Any] = {
            part: NEUTRAL.get(part, parameters[part].default if part in parameters else None) for part in absent
        }
        for part, value in defaults.items():
            if not isinstance(value, int | str | bool):
                raise UsageError(f"{name}: its configs set different names: {config} has no {part}")
        filled.append(Config({**config, **defaults}))
    return tuple(dict.fromkeys(filled))


def _config(config: Any, name: str) -> Config:  # noqa: ANN401
    """Return a `triton.Config` as ours; options at a value that changes nothing are left out. Raises UsageError."""
    if getattr(config, "ir_override", None):
        raise UsageError(f"{name}: a config replaces the compiler's code by {config.ir_override}; it cannot be tuned")
    options = {option: getattr(config, option, None) for option in OPTIONS}
    kept = {option: value for option, value in options.items() if value not in (None, NEUTRAL.get(option))}
    for parameter, value in config.kwargs.items():
        if not isinstance(value, int | str | bool):
            raise UsageError(
                f"{name}: a config sets {parameter} to {value!r}; only integers, strings and booleans can be tuned"
            )
    return Config({**config.kwargs, **kept})


def hook_of(tuner: Any, name: str) -> tuple[Hook | None, tuple[str, ...]]:  # noqa: ANN401
    """Return the hook that every launch calls, and notes on parts that are left out. Raises UsageError."""
    if tuner is None:
        return None, ()
    hooks = [config.pre_hook for config in tuner.configs]
    if any(not _alike(hook, hooks[0]) for hook in hooks):
        raise UsageError(
            f"{name}: its configs have different pre_hooks, so a config that is not in the list would have none; "
            "adopt the function below @triton.autotune, and prepare its arguments in your own launcher"
        )
    notes = []
    if getattr(tuner, "user_defined_pre_hook", False) or getattr(tuner, "user_defined_post_hook", False):
        notes.append("hooks of @triton.autotune run around trials of its own search alone, and are left out")
    if tuner.perf_model is not None:
        notes.append("its perf_model ranks configs for its own search, and is left out")
    return hooks[0], tuple(notes)


def _alike(hook: Any, other: Any) -> bool:  # noqa: ANN401
    """True for one hook, and for functions of one code and closure, as a function that makes hooks returns them."""
    if hook is None or other is None or not inspect.isfunction(hook) or not inspect.isfunction(other):
        return hook is other
    cells = ([cell.cell_contents for cell in each.__closure__ or ()] for each in (hook, other))
    return hook.__code__ is other.__code__ and next(cells) == next(cells)
