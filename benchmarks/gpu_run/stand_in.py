"""The GPU bench on a CPU: the code that asks a GPU runs as it is, on the stand-in of the tests, in the interpreter.

Its times are none; what it shows is that steps run to their end, and which results are wrong.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import dataclass
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

        ExitStack().enter_context(here(self.device))  # until the process ends
        return Gpu().open(slot)


@contextmanager
def here(device: str) -> Iterator[None]:
    """This process sees a GPU; TRITON_INTERPRET=1 must be set. Graphs run what they capture, and replay nothing.

    Raises UsageError where the tests are missing.
    """
    if not (_TESTS / "stand_in").is_dir():
        raise UsageError(f"bench {NAME} needs the tests of a checkout: there is no {_TESTS / 'stand_in'}")
    from triton.runtime.interpreter import GridExecutor

    from autotune.tuning.interpreter.corrections import correct_interpreter

    if str(_TESTS) not in sys.path:
        sys.path.insert(0, str(_TESTS))
    standing_in = import_module("stand_in.cuda").standing_in
    correct_interpreter()
    graphs = {"CUDAGraph": _Graph, "graph": _capture}
    with standing_in(device, **graphs), mock.patch.object(GridExecutor, "__call__", _unseen(GridExecutor.__call__)):
        yield


class _Graph:
    def replay(self) -> None:
        pass


def _capture(graph: _Graph) -> AbstractContextManager[None]:
    return nullcontext()


def _unseen(execute: Callable[..., Any]) -> Callable[..., Any]:
    """Programs of the interpreter see the tensors that the stand-in computes with."""
    import torch

    def call(*arguments: Any, **options: Any) -> Any:  # noqa: ANN401
        with torch._C.DisableTorchFunction():
            return execute(*arguments, **options)

    return call
