"""Compilations saved by compiling each thing once: equal binaries between problems, equal code and stages within one.

    python -m benchmarks.session.deduplication [--device mi300x] [--kernels gemm/bf16_linear] [--configs 4]

Between problems: sampled configs on four values of M, compiled one by one as Triton does from an empty cache, then
once a binary as a session does (`Candidate.binary`); the winners by the cost model with the binaries' own
resources must agree. Within one problem: all launch options (warps, stages, waves) of one random tile, because
duplicates lie among those; duplicates between tiles are not seen. `ideal stage cache`: what a cache would save that
never makes one text of a stage (ttir, ttgir, llir, assembly) twice. It is 1.1 to 1.3x, too little to keep one: all
options share the source and ttir (4 to 10 % of the time), those of AMD that differ in waves share ttgir (23 to 29 %),
and llir, near half of the time, is another text for each of them.
"""

from __future__ import annotations

import argparse
import dataclasses
import hashlib
import os
import random
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from triton import knobs

from autotune import device as devices
from autotune import registry
from autotune.config import Config, Problem
from autotune.device import Device
from autotune.errors import CompileFailed
from autotune.kernel import Kernel
from autotune.tuning import space
from autotune.tuning.compilation import resources
from autotune.tuning.compilation.launch import compile_launches, launches
from autotune.tuning.compilation.resources import Resources
from autotune.tuning.cost_model.model import predict
from benchmarks.search.simulated import PROBLEMS

KERNELS = ("gemm/bf16_linear", "gemm/fp8_block_scaled", "gemm/bf16_grouped", "gemm/mxfp8_mxfp4")
"""The four with the most configs, on mi300x and on h100 alike."""
OPTIONS = ("num_warps", "num_stages", "num_ctas", "maxnreg", "waves_per_eu", "matrix_instr_nonkdim")
ROWS = {"m": (64, 128, 1024, 4096), "tokens": (64, 128, 1024, 4096)}


@dataclasses.dataclass(frozen=True)
class Subject:
    kernel: Kernel[Any]
    device: Device
    problems: list[Problem]
    feasible: list[Config]
    """On all problems."""

    @classmethod
    def of(cls, kernel_name: str, device_name: str) -> Subject:
        kernel, device = registry.load(kernel_name), devices.named(device_name)
        loaded = space.load(kernel, device)
        start = dataclasses.replace(loaded.check[0], **PROBLEMS.get(kernel_name, {}))
        rows = next(name for name in ROWS if hasattr(start, name))
        problems = [dataclasses.replace(start, **{rows: value}) for value in ROWS[rows]]
        allowed = [space.feasible(loaded, kernel, problem, device) for problem in problems]
        both = set(allowed[0]).intersection(*allowed[1:])
        return cls(kernel, device, problems, [config for config in allowed[0] if config in both])

    def compiled(self, problem: Problem, config: Config) -> Resources | None:
        """None where it does not fit."""
        try:
            return resources.read(compile_launches(self.kernel, problem, config, self.device), self.device)
        except CompileFailed:
            return None

    def us(self, problem: Problem, config: Config, found: Resources | None) -> float:
        if found is None:
            return float("inf")
        return predict(self.kernel.work(problem, config, self.device), config, self.device, found).us


@contextmanager
def cold() -> Iterator[None]:
    """An empty Triton cache."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ["TRITON_CACHE_DIR"] = folder
        yield


def between_problems(subject: Subject, count: int) -> str:
    configs = random.Random(0).sample(subject.feasible, count)
    candidates = [(problem, config) for problem in subject.problems for config in configs]
    begin = time.perf_counter()
    every = {}
    for candidate in candidates:
        with cold():
            every[candidate] = subject.compiled(*candidate)
    all_seconds = time.perf_counter() - begin
    begin = time.perf_counter()
    made: dict[str, Resources | None] = {}
    once = {}
    for problem, config in candidates:
        binary = _binary(subject, problem, config)
        if binary not in made:
            with cold():
                made[binary] = subject.compiled(problem, config)
        once[problem, config] = made[binary]
    seconds = time.perf_counter() - begin
    same = all(_winner(subject, p, configs, every) == _winner(subject, p, configs, once) for p in subject.problems)
    wrong = sum(_code(every[candidate]) != _code(once[candidate]) for candidate in candidates)
    return (
        f"{len(candidates)} candidates on {len(subject.problems)} problems are {len(made)} binaries: "
        f"{len(candidates) / all_seconds:.2f} to {len(candidates) / seconds:.2f} candidates/s, "
        f"{all_seconds / seconds:.2f}x; {wrong} other codes, {'same winners' if same else 'OTHER WINNERS'}"
    )


def _binary(subject: Subject, problem: Problem, config: Config) -> str:
    seen = launches(subject.kernel, problem, config, subject.device)
    return " ".join(launch.signature for launch in seen) + f" {config}"


def _code(found: Resources | None) -> str | None:
    return found.code if found else None


def _winner(subject: Subject, problem: Problem, configs: list[Config], found: dict[Any, Resources | None]) -> Config:
    return min(configs, key=lambda config: subject.us(problem, config, found[problem, config]))


def within_one(subject: Subject, seed: int) -> str:
    def tile(config: Config) -> str:
        return ",".join(f"{name}={value}" for name, value in config.items() if name not in OPTIONS)

    chosen = random.Random(seed).choice(sorted({tile(config) for config in subject.feasible}))
    configs = [config for config in subject.feasible if tile(config) == chosen]
    spent: Counter[str] = Counter()
    texts: dict[str, set[str]] = defaultdict(set)

    def listen(*, metadata_group: dict[str, str], times: Any, cache_hit: bool, **_: Any) -> None:  # noqa: ANN401
        if cache_hit:
            return
        files = {name.rpartition(".")[2]: Path(path) for name, path in metadata_group.items()}
        for stage, us in [("source", times.ir_initialization), *times.lowering_stages]:
            spent[stage] += us
            texts[stage].add(hashlib.sha256(files[stage].read_bytes()).hexdigest())

    knobs.compilation.listener = listen
    try:
        with cold():
            found = [subject.compiled(subject.problems[0], config) for config in configs]
    finally:
        knobs.compilation.listener = None
    codes = {resources.code for resources in found if resources}
    fits = sum(resources is not None for resources in found)
    total = sum(spent.values())
    needed = sum(us * len(texts[stage]) / len(configs) for stage, us in spent.items())
    stages = ", ".join(f"{stage} {len(texts[stage])} ({us / total:.0%} of the time)" for stage, us in spent.items())
    return (
        f"{chosen}: {len(codes)} codes of {fits} configs that fit of {len(configs)}, "
        f"{1 - len(codes) / max(1, fits):.0%} duplicates; distinct texts: {stages}; "
        f"ideal stage cache {total / needed:.2f}x"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="mi300x")
    parser.add_argument("--configs", type=int, default=4)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--kernels", default=",".join(KERNELS))
    arguments = parser.parse_args()
    for name in arguments.kernels.split(","):
        subject = Subject.of(name, arguments.device)
        print(f"{name} on {arguments.device}, {len(subject.feasible)} configs")
        print(f"  between problems: {between_problems(subject, arguments.configs)}", flush=True)
        print(f"  within one, {within_one(subject, arguments.seed)}", flush=True)


if __name__ == "__main__":
    main()
