"""Executors on a Ray cluster: compile tasks on its CPUs, one measuring actor a GPU of the wanted arch.

Nodes offer GPUs as a resource named after their arch: `ray start --address=HEAD --resources='{"gfx950": 8}'`. Each
actor keeps the isolated process of a local lane, so that what a config does to it is told apart from a lost node.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from threading import Lock
from typing import Any

from autotune import own_parts, packages
from autotune.errors import DeviceError, UsageError
from autotune.own_parts import OwnParts
from autotune.tuning.measurement.bench import Bench
from autotune.tuning.session.executors import Executors, Start, lane
from autotune.tuning.workers.worker import Limits, Workers


def start(address: str, arch: str) -> Start:
    """Executors on the cluster at `address` (`auto`: the one that runs here). Raises UsageError."""

    @contextmanager
    def started(limits: Limits, state: Path, bench: Bench | None) -> Iterator[Executors]:
        ray = _connected(address)
        cpus = int(ray.cluster_resources().get("CPU", 0))
        gpus = int(ray.cluster_resources().get(arch, 0)) if bench else 0
        if bench and gpus < 1:
            raise DeviceError(
                f"--ray {address}: no node offers {arch}; start nodes with --resources='{{\"{arch}\": GPUS}}'"
            )
            # Ray shows an actor the GPU that it holds and no other; a simulated one needs none.
        real = bench is not None and bench.tier == "measured"
        held = {"num_cpus": 0, "num_gpus": int(real), "resources": {arch: 1}}
        slots = min(bench.slots, gpus) if bench and bench.tier == "simulated" else gpus
        lanes = [_Remote(ray, held, limits, state, measures=True) for _ in range(slots)]
        # A core a GPU stays free, as on one machine.
        busy = max(1, min(cpus - slots if real else cpus, limits.processes))
        compilers = [_Remote(ray, {"num_cpus": 1}, limits, state) for _ in range(busy)]
        try:
            yield Executors(
                _Pool(compilers, len(compilers)), [_Pool([*lanes[i:], *lanes[:i]], 1) for i in range(slots)]
            )
        finally:
            for remote in (*compilers, *lanes):
                remote.close()
            ray.shutdown()

    return started


def _connected(address: str) -> Any:  # noqa: ANN401 - Ray is an optional extra without types here
    try:
        import ray
    except ImportError as error:
        raise UsageError(f"--ray: Ray is not installed; {packages.remedy('ray')}") from error
    try:
        ray.init(address=address, log_to_driver=False, logging_level="ERROR", ignore_reinit_error=True)
    except (ConnectionError, ValueError) as error:
        raise UsageError(f"--ray {address}: {error}; start one with `ray start --head`") from error
    return ray


class _NodeLost(Exception):
    pass


@dataclass
class _Remote:
    """An actor on whichever node Ray found for it, one call at a time; gone for good with its node."""

    ray: Any
    options: dict[str, Any]
    limits: Limits
    state: Path
    measures: bool = False
    actor: Any = None
    lost: str = ""
    """Why, in Ray's words."""
    busy: Lock = field(default_factory=Lock)

    def call(self, task: Callable[[Any], Any], argument: Any) -> Any:  # noqa: ANN401
        """Return the task's result; raises what it raised on the node (also Lost), or _NodeLost."""
        try:
            if self.actor is None:
                remote = self.ray.remote(**self.options)(_Actor)
                limits = replace(self.limits, processes=1)
                self.actor = remote.remote(limits, self.state, self.measures, own_parts.of_this_process())
            return self.ray.get(self.actor.call.remote(task, argument))
        except self.ray.exceptions.RayTaskError as error:
            raise error.cause from None
        except self.ray.exceptions.RayError as error:
            self.lost = f"{type(error).__name__}: {error}"
            raise _NodeLost from None

    def close(self) -> None:
        if self.actor is not None:
            self.ray.kill(self.actor)


class _Actor:
    """On its node: one isolated process, as on one machine."""

    def __init__(self, limits: Limits, state: Path, measures: bool, parts: OwnParts) -> None:
        own_parts.know(parts)
        self._workers = lane(limits, state) if measures else Workers(limits, state)

    def call(self, task: Callable[[Any], Any], argument: Any) -> Any:  # noqa: ANN401
        return self._workers.submit(task, argument).result()


class _Pool:
    """Prefers its first remotes; where a node is lost, the same task goes to another one that lives."""

    def __init__(self, remotes: Sequence[_Remote], threads: int) -> None:
        self._remotes, self._spreads = remotes, threads > 1
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="ray")

    def submit(self, task: Callable[[Any], Any], argument: Any) -> Future[Any]:  # noqa: ANN401
        return self._threads.submit(self._call, task, argument)

    def _call(self, task: Callable[[Any], Any], argument: Any) -> Any:  # noqa: ANN401
        while True:
            remote = self._take()
            try:
                return remote.call(task, argument)
            except _NodeLost:
                continue  # of the node, not of the config: nothing is blamed on what ran there
            finally:
                remote.busy.release()

    def _take(self) -> _Remote:
        """The first idle one that lives, else the first that lives, once it is idle. Raises DeviceError."""
        living = [remote for remote in self._remotes if not remote.lost]
        if not living:
            raise DeviceError(
                f"every Ray actor of this session was lost ({self._remotes[0].lost}); finished trials are on disk: "
                "look at the cluster, then run the same command again"
            )
        for remote in living if self._spreads else living[:1]:
            if remote.busy.acquire(blocking=False):
                return remote
        living[0].busy.acquire()
        return living[0]
