"""The GPU bench on a CPU: the code that asks a GPU runs as it is, on the stand-in of the tests, in the interpreter.

Its times are none; what it shows is that steps run to their end, and which results are wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from functools import cache, partial
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest import mock

from autotune.errors import UsageError

if TYPE_CHECKING:
    from autotune.tuning.measurement.bench import Meter

NAME = "stand-in"
_TESTS = Path(__file__).parents[2] / "tests"


@dataclass(frozen=True)
class StandIn:
    """A bench of one GPU of a kind that the stand-in can play."""

    device: str
    slots: int = 1

    name = NAME
    tier = "simulated"
    runs_code = False

    def table_device(self, device: str) -> str:
        return f"{device}.{NAME}"

    def open(self, slot: int) -> Meter:
        from autotune.tuning.measurement.gpu import Gpu

        _entered(self.device)
        return Gpu().open(slot)


@cache
def _entered(device: str) -> ExitStack:
    """Stands in until this process ends: what is kept here is not left."""
    stack = ExitStack()
    stack.enter_context(here(device, replays=False))
    return stack


@contextmanager
def here(device: str, replays: bool = True) -> Iterator[None]:
    """This process sees a GPU; TRITON_INTERPRET=1 must be set.

    Launches that a graph captures do not run. Its replays run them, but not where `replays` is false: there they would
    be timed, hundreds at once. Raises UsageError where the tests are missing.
    """
    if not (_TESTS / "stand_in").is_dir():
        raise UsageError(f"bench {NAME} needs the tests of a checkout: there is no {_TESTS / 'stand_in'}")
    from triton.runtime.interpreter import GridExecutor

    from autotune import device as devices
    from autotune.tuning.interpreter.alignment import products_of
    from autotune.tuning.interpreter.corrections import correct_interpreter

    if str(_TESTS) not in sys.path:
        sys.path.insert(0, str(_TESTS))
    standing_in = import_module("stand_in.cuda").standing_in
    correct_interpreter()
    driver = _Driver(GridExecutor.__call__, replays)
    graphs = {"CUDAGraph": _Graph, "graph": driver.capture}
    launches = mock.patch.object(GridExecutor, "__call__", driver.launcher())
    with standing_in(device, **graphs), launches, products_of(devices.named(device).architecture):
        yield


class _Driver:
    """Runs launches of the interpreter, or keeps them for the graph that captures them."""

    def __init__(self, execute: Callable[..., Any], replays: bool) -> None:
        self._execute, self._replays = execute, replays
        self._capturing: _Graph | None = None

    def launcher(self) -> Callable[..., None]:
        def call(*arguments: Any, **options: Any) -> None:  # noqa: ANN401
            launch = partial(self.run, *arguments, **options)
            if self._capturing is None:
                launch()
            elif self._replays:
                self._capturing.launches.append(launch)

        return call

    def run(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        import torch

        with torch._C.DisableTorchFunction():  # programs see the tensors that the stand-in computes with
            self._execute(*arguments, **options)

    @contextmanager
    def capture(self, graph: _Graph) -> Iterator[None]:
        self._capturing = graph
        try:
            yield
        finally:
            self._capturing = None


class _Graph:
    def __init__(self) -> None:
        self.launches: list[Callable[[], None]] = []

    def replay(self) -> None:
        for launch in self.launches:
            launch()
