"""Builds calls with toolchains, each binary once, and proves configs again; every result is on disk when it ends."""

from __future__ import annotations

import base64
import zlib
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any

from autotune.check.artifact import Build, code_of, loop_of, of_answer
from autotune.check.call import CheckedCall, Proved
from autotune.check.compilers import Toolchain
from autotune.check.triage import Pair
from autotune.check.worker_pool import Answer, Processes
from autotune.device import Device
from autotune.state import Cache
from autotune.tuning import space
from autotune.tuning.compilation.instructions import Loop
from autotune.tuning.compilation.npu.tools import managed
from autotune.tuning.workers.worker import Limits

_FORMAT = "check 3"

Progress = Callable[[str, int, int], None]
"""(stage, done, of)"""


class Builder:
    """Counts what it `compiled` and `proved`, and what it took `from_cache`."""

    def __init__(self, state: Path, limits: Limits, progress: Progress) -> None:
        self.state = state
        self._cache = Cache(state / "check")
        self._limits, self._progress = limits, progress
        self.compiled = self.from_cache = self.proved = 0

    def builds(self, toolchain: Toolchain, calls: Iterable[CheckedCall]) -> dict[str, Build]:
        """By `signature`. Raises UsageError where the toolchain does not work at all, ToolchainError where a call is on
        an NPU and its compilers are absent."""
        wanted = {call.signature: call for call in calls}
        if not all(call.device.architecture.is_gpu for call in wanted.values()):
            managed(self.state / "toolchains", toolchain.npu_release)
        found, missing = self._known(toolchain, wanted)
        builds = {name: Build.from_json(data) for name, data in found.items()}
        self.from_cache += len(found)
        self.compiled += len(missing)

        unasked: set[str] = set()

        def read(call: CheckedCall, answer: Answer) -> Build:
            made = of_answer(answer, call.device, toolchain.name)
            if answer.get("unasked"):
                unasked.add(call.signature)
            if made.resources:
                packed = base64.b64encode(zlib.compress(code_of(answer, call.device))).decode()
                self._cache.put({"zlib": packed}, _FORMAT, "code", made.resources.code)
            return made

        with Processes(toolchain, self._limits) as processes:
            for name, made in processes.run("compile", missing, read):
                builds[name] = made
                if not made.late and name not in unasked:  # no compiler's fault, perhaps: tried again next time
                    self._cache.put(made.as_json(), _FORMAT, toolchain.identity, name)
                self._progress(f"compile with {toolchain.name}", len(builds) - len(found), len(missing))
        return builds

    def with_loops(self, pairs: Iterable[Pair]) -> list[Pair]:
        """The pairs, with the hot loops of those that cannot be judged by their resources alone."""
        pairs = list(pairs)
        sides = [(build, pair.device) for pair in pairs if pair.needs_loops for build in (pair.before, pair.after)]
        wanted = {build.resources.code: device for build, device in sides if build.resources}
        loops: dict[str, Loop | None] = {}
        with ThreadPoolExecutor(self._limits.processes) as threads:
            for code, loop in zip(wanted, threads.map(self._loop, wanted, wanted.values()), strict=True):
                loops[code] = loop
                self._progress("read hot loops", len(loops), len(wanted))

        def read(build: Build) -> Build:
            return replace(build, loop=loops.get(build.resources.code)) if build.resources else build

        return [replace(p, before=read(p.before), after=read(p.after)) if p.needs_loops else p for p in pairs]

    def _loop(self, code: str, device: Device) -> Loop | None:
        known = self._cache.get(_FORMAT, "loop", code)
        if known is None:
            packed = self._cache.get(_FORMAT, "code", code)
            if packed is None:
                return None  # somebody emptied a part of the cache
            known = {"loop": loop_of(zlib.decompress(base64.b64decode(packed["zlib"])), device)}
            self._cache.put(known, _FORMAT, "loop", code)
        return tuple(known["loop"])

    def refuted(self, toolchain: Toolchain, calls: Iterable[CheckedCall]) -> dict[Proved, str]:
        """Configs that the interpreter of `toolchain` does not prove on the check problems of their space, and why."""
        checks = {c.proved: check_calls(c) for c in calls}
        wanted = {f"proof {proof.computation}": proof for several in checks.values() for proof in several}
        found, missing = self._known(toolchain, wanted)
        self.proved += len(missing)
        with Processes(toolchain, self._limits, interpret=True) as processes:
            answers = processes.run("validate", missing, lambda _, answer: answer)
            for done, (name, answer) in enumerate(answers, 1):
                found[name] = answer
                if not answer.get("late") and not answer.get("unasked"):
                    self._cache.put(answer, _FORMAT, toolchain.identity, name)
                self._progress(f"prove with {toolchain.name}", done, len(missing))
        failed = {name.removeprefix("proof "): told["failed"] for name, told in found.items() if "failed" in told}
        reasons = {
            proved: [failed[c.computation] for c in several if c.computation in failed]
            for proved, several in checks.items()
        }
        return {proved: why[0] for proved, why in reasons.items() if why}

    def times(self, toolchain: Toolchain, calls: Mapping[str, CheckedCall]) -> dict[str, Answer]:
        """Checked and timed on the GPU of this machine; times are of today and not kept."""
        return self._on_gpu("time", toolchain, calls)

    def checked(self, toolchain: Toolchain, calls: Mapping[str, CheckedCall]) -> dict[str, Answer]:
        """Held against the reference on the GPU of this machine, which runs the machine code itself."""
        return self._on_gpu("check", toolchain, calls)

    def _on_gpu(self, action: str, toolchain: Toolchain, calls: Mapping[str, CheckedCall]) -> dict[str, Answer]:
        # CUDA maps much memory and touches little.
        limits = Limits(processes=1, timeout_s=self._limits.timeout_s, memory_gb=64)
        found: dict[str, Answer] = {}
        with Processes(toolchain, limits) as processes:
            for name, answer in processes.run(action, calls, lambda _, answer: answer):
                found[name] = answer
                self._progress(f"{action} with {toolchain.name}", len(found), len(calls))
        return found

    def _known(
        self, toolchain: Toolchain, wanted: Mapping[str, CheckedCall]
    ) -> tuple[dict[str, dict[str, Any]], dict[str, CheckedCall]]:
        cached = {name: self._cache.get(_FORMAT, toolchain.identity, name) for name in wanted}
        found = {name: data for name, data in cached.items() if data is not None}
        return found, {name: call for name, call in wanted.items() if name not in found}


def check_calls(call: CheckedCall) -> list[CheckedCall]:
    """The calls by which its config is proved: the check problems of the search space that the rules allow."""
    if call.kernel.choices is None and not call.kernel.origin.space.exists():
        return [call]  # a kernel that a script holds has no search space that names problems
    problems = space.load(call.kernel, call.device).check
    allowed = [p for p in problems if call.kernel.reject(p, call.config, call.device) is None]
    return [CheckedCall(call.kernel, problem, call.config, call.device) for problem in allowed]
