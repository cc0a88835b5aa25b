"""The compile stage: each distinct binary once, from disk where an earlier session made it."""

from __future__ import annotations

from dataclasses import dataclass, field
from threading import Lock
from typing import Any

from autotune.config import Config, Problem, describe, key
from autotune.device import Device
from autotune.identity import Identity
from autotune.kernel import Kernel
from autotune.state import Cache
from autotune.toolchain import compilers_for
from autotune.tuning.compilation.launch import launches
from autotune.tuning.compilation.machine import check_named_assemblers
from autotune.tuning.compilation.resources import Resources
from autotune.tuning.jobs import check_machine, compile_job
from autotune.tuning.session.crash_log import Crash, CrashLog
from autotune.tuning.session.executors import Pool
from autotune.tuning.workers.process import Lost
from autotune.tuning.workers.worker import Job


@dataclass(frozen=True)
class Subject:
    """Kernel, device and everything else that each result of a session depends on."""

    kernel: Kernel[Any]
    device: Device
    identity: Identity
    toolchain: str

    @classmethod
    def of(cls, kernel: Kernel[Any], device: Device) -> Subject:
        """Raises MachineError where the environment names an assembler that does not run."""
        if device.vendor == "nvidia":
            check_named_assemblers()
        return cls(kernel, device, kernel.identity, compilers_for(device.arch))

    def job(self, problem: Problem, config: Config) -> Job:
        return Job(self.kernel.name, key(problem), config, self.device.name)

    def key(self, stage: str, *more: str) -> tuple[str, ...]:
        """Return the key of a result in a Cache, where it depends on the device."""
        return (stage, self.kernel.name, self.identity.kernel, self.toolchain, self.device.name, *more)

    def binary_key(self, binary: str) -> tuple[str, ...]:
        """Return the key of a binary's resources: equal for devices of one arch with the same limits."""
        limits = (self.device.shared_bytes_per_block, self.device.shared_bytes_per_unit)
        return (
            "compile",
            self.kernel.name,
            self.identity.kernel,
            self.toolchain,
            self.device.arch,
            str(limits),
            binary,
        )

    def proof_key(self, stage: str, problem: Problem, config: Config) -> tuple[str, ...]:
        """Return the key of a proof: equal for devices of one arch on which the launchers do the same."""
        seen = launches(self.kernel, problem, config, self.device)
        run = repr([(launch.function, launch.grid, launch.signature) for launch in seen])
        names = (stage, self.kernel.name, self.identity.kernel, self.identity.proof, self.toolchain, self.device.arch)
        return (*names, run, describe(problem), str(config))

    def crash(self, problem: Problem, config: Config, stage: str, kind: str, reason: str) -> Crash:
        names = (self.kernel.name, self.identity.kernel, self.toolchain, describe(problem), str(config))
        return Crash(*names, stage=stage, kind=kind, reason=reason)

    def crashed(self, crash_log: CrashLog, problem: Problem, config: Config) -> Crash | None:
        return crash_log.find(*self.crash(problem, config, "", "", "").where)


@dataclass(frozen=True)
class Candidate:
    """A config on a problem, with what Triton would compile for it."""

    problem: Problem
    config: Config
    binary: str
    """Equal for calls that Triton compiles to the same binaries."""
    grids: tuple[tuple[int, ...], ...]


@dataclass
class Compiler:
    """Threads may ask it together; the first to ask for a binary compiles it."""

    subject: Subject
    cache: Cache
    pool: Pool
    crash_log: CrashLog
    compiled: int = 0
    from_cache: int = 0
    cpu_s: float = 0.0
    """Spent by workers on what they compiled, with the assemblers that they started."""
    _known: dict[str, Resources | str] = field(default_factory=dict)
    _locks: dict[str, Lock] = field(default_factory=dict)
    _lock: Lock = field(default_factory=Lock)

    def candidate(self, problem: Problem, config: Config) -> Candidate:
        """For one thread at a time: launchers are run with a stand-in for Triton's own."""
        seen = launches(self.subject.kernel, problem, config, self.subject.device)
        binary = " ".join(launch.signature for launch in seen) + f" {config}"
        return Candidate(problem, config, binary, tuple(launch.grid for launch in seen))

    def resources(self, candidate: Candidate) -> Resources | str:
        """Return the resources of its binary, or the reason why there is none."""
        with self._lock:
            mine = self._locks.setdefault(candidate.binary, Lock())
        with mine:
            if candidate.binary not in self._known:
                self._known[candidate.binary] = self._make(candidate)
        return self._known[candidate.binary]

    def _make(self, candidate: Candidate) -> Resources | str:
        parts = self.subject.binary_key(candidate.binary)
        result = self.cache.get(*parts)
        if result is not None:
            self._count(from_cache=1)
            return _resources(result)
        problem, config = candidate.problem, candidate.config
        try:
            result = self.pool.submit(compile_job, self.subject.job(problem, config)).result()
        except Lost as lost:
            # LLVM ends the process where it cannot write its output.
            self.pool.submit(check_machine, self.subject.device.arch).result()
            # Not a result of the config, which may pass elsewhere, but known to the crash log.
            self.crash_log.add(self.subject.crash(problem, config, "compile", lost.kind, str(lost)))
            self._count(compiled=1)
            return str(lost)
        self._count(compiled=1, cpu_s=result.pop("cpu_s", 0.0))
        self.cache.put(result, *parts)
        return _resources(result)

    def _count(self, compiled: int = 0, from_cache: int = 0, cpu_s: float = 0.0) -> None:
        with self._lock:
            self.cpu_s += cpu_s
            self.compiled += compiled
            self.from_cache += from_cache


def _resources(result: dict[str, Any]) -> Resources | str:
    return result["failed"] if "failed" in result else Resources.from_json(result["resources"])
