"""Tuned configs for an Autotuner of somebody else, which then searches no more."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import device as devices
from autotune import registry, runtime
from autotune.adopt import foreign
from autotune.adopt.author import NEUTRAL
from autotune.config import values
from autotune.errors import UsageError

if TYPE_CHECKING:
    from autotune.config import Config
    from autotune.device import Device
    from autotune.kernel import Kernel


def serve(
    tuner: Any,  # noqa: ANN401
    kernel: Kernel[Any] | str | Path,
    *,
    tables: str | Path | None = None,
    device: Device | None = None,
) -> None:
    """Let `tuner`, an object of `@triton.autotune`, launch what our tables say, from now on and in every caller.

    `kernel` is what `autotune adopt` wrote of it, or the path of that file; `tables` is the folder of tables (default:
    where the runtime reads them), `device` the GPU (default: the one that is here). A call without a row gets its
    author's first config. No call searches again. `del tuner.run` ends it. Raises UsageError where `kernel` is of
    another function, TableError for a table that is not whole.
    """
    tuner = _innermost(tuner)
    if not hasattr(kernel, "launch"):
        (name,) = registry.named(str(kernel))
        kernel = registry.load(name)
    described = foreign.read(tuner)
    adopted: Kernel[Any] = kernel  # type: ignore[assignment]
    if adopted.jit is not described.jit:
        raise UsageError(f"{described.name}: {adopted.name} was adopted from another function")
    root = Path(tables) if tables is not None else runtime.tables_root()
    here = device or devices.current()
    lookup = runtime.Lookup(adopted, here, root)
    names = [parameter.name for parameter in adopted.signature.parameters]
    chosen: dict[Any, dict[str, Any]] = {}

    def run(*args: Any, **named: Any) -> Any:  # noqa: ANN401
        bound = described.bound(args, named)
        call = tuple(bound[name] for name in names)
        key = adopted.signature.reader(call)
        if key not in chosen:
            problem = adopted.problem_of(call, here)
            chosen[key] = _keywords(lookup[values(problem)].config)
        config = chosen[key]
        if described.pre_hook is not None:
            described.pre_hook({**bound, **config})
        return tuner.fn.run(*args, **named, **config)

    tuner.run = run


def _innermost(tuner: Any) -> Any:  # noqa: ANN401
    """Return the Autotuner of a kernel under any wrappers. Raises UsageError where there is none."""
    inner = tuner
    while not hasattr(inner, "configs"):
        if not hasattr(inner, "fn") or not hasattr(inner, "run"):
            raise UsageError("serve: wants an object of @triton.autotune; a kernel without one is called through ours")
        inner = inner.fn
    return inner


def _keywords(config: Config) -> dict[str, Any]:
    return {name: value for name, value in config.items() if NEUTRAL.get(name, ()) != value}
