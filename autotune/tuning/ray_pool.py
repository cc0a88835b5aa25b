"""A crew on a Ray cluster: compile tasks on its CPUs, one measuring actor a GPU of the wanted arch.

Nodes offer GPUs as a resource named after their arch: `ray start --address=HEAD --resources='{"gfx950": 8}'`. Each
actor keeps the isolated process of a local lane, so that what a config does to it is told apart from a lost node.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from queue import SimpleQueue
from typing import Any

from autotune.errors import DeviceError, UsageError
from autotune.tuning.bench import Bench
from autotune.tuning.crew import Crew, Hire
from autotune.tuning.worker import Limits, Workers

_TRIES = 5
"""Nodes that one task may lose before the session gives up."""


def hire(address: str, arch: str) -> Hire:
    """A crew on the cluster at `address` (`auto`: the one that runs here). Raises UsageError."""

    @contextmanager
    def hired(limits: Limits, state: Path, bench: Bench | None) -> Iterator[Crew]:
        ray = _connected(address)
        cpus = int(ray.cluster_resources().get("CPU", 0))
        gpus = int(ray.cluster_resources().get(arch, 0)) if bench else 0
        if bench and gpus < 1:
            raise DeviceError(
                f"--ray {address}: no node offers {arch}; start nodes with --resources='{{\"{arch}\": GPUS}}'"
            )
        compilers = [_Remote(ray, {"num_cpus": 1}, limits, state) for _ in range(max(1, min(cpus, limits.processes)))]
        one = replace(limits, timeout_s=limits.measure_timeout_s)
        slots = min(bench.slots, gpus) if bench and bench.tier == "simulated" else gpus
        lanes = [_Remote(ray, {"num_cpus": 0, "resources": {arch: 1}}, one, state) for _ in range(slots)]
        try:
            yield Crew(_Pool(compilers), [_Pool([lane]) for lane in lanes])
        finally:
            for remote in (*compilers, *lanes):
                remote.close()
            ray.shutdown()

    return hired


def _connected(address: str) -> Any:  # noqa: ANN401 - Ray is an optional extra without types here
    try:
        import ray
    except ImportError as error:
        raise UsageError("--ray: Ray is not installed; pip install 'deepseek-autotune[ray]'") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
    except (ConnectionError, ValueError) as error:
        raise UsageError(f"--ray {address}: {error}; start one with `ray start --head`") from error
    return ray


@dataclass
class _Remote:
    """An actor somewhere; another is started where its node is lost."""

    ray: Any
    options: dict[str, Any]
    limits: Limits
    state: Path
    actor: Any = None

    def call(self, task: Callable[[Any], Any], argument: Any) -> Any:  # noqa: ANN401
        """What `task` returns; raises what the actor's process raised, Lost among it."""
        for _ in range(_TRIES):
            if self.actor is None:
                # A node that is lost must not be waited for: Ray places the actor on one that lives.
                remote = self.ray.remote(**self.options)(_Actor)
                self.actor = remote.remote(replace(self.limits, processes=1), self.state, dict(os.environ))
            try:
                return self.ray.get(self.actor.call.remote(task, argument))
            except self.ray.exceptions.RayTaskError as error:
                raise error.cause from None
            except self.ray.exceptions.RayError:
                self.actor = None  # the node is gone, not the config: the same task again, elsewhere
        raise DeviceError(f"{_TRIES} Ray nodes were lost under one task; look at the cluster before going on")

    def close(self) -> None:
        if self.actor is not None:
            self.ray.kill(self.actor)


class _Actor:
    """On its node: one isolated process, as in a local crew."""

    def __init__(self, limits: Limits, state: Path, environment: dict[str, str]) -> None:
        os.environ.update({name: value for name, value in environment.items() if name == "PYTHONPATH"})
        self._workers = Workers(limits, state)

    def call(self, task: Callable[[Any], Any], argument: Any) -> Any:  # noqa: ANN401
        return self._workers.submit(task, argument).result()


class _Pool:
    def __init__(self, remotes: list[_Remote]) -> None:
        self._idle: SimpleQueue[_Remote] = SimpleQueue()
        for remote in remotes:
            self._idle.put(remote)
        self._threads = ThreadPoolExecutor(len(remotes), thread_name_prefix="ray")

    def submit(self, task: Callable[[Any], Any], argument: Any) -> Future[Any]:  # noqa: ANN401
        return self._threads.submit(self._call, task, argument)

    def _call(self, task: Callable[[Any], Any], argument: Any) -> Any:  # noqa: ANN401
        remote = self._idle.get()
        try:
            return remote.call(task, argument)
        finally:
            self._idle.put(remote)
