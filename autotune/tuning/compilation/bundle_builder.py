"""Making a bundle of binaries, and verifying that every launch finds its own there."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import triton

from autotune import bundle, registry, runtime
from autotune import device as devices
from autotune.bundle import BundleCache, Manifest, Specialisation
from autotune.config import Config, Problem, build, key, values
from autotune.device import Device
from autotune.errors import UsageError
from autotune.kernel import Kernel
from autotune.tuning.workers.worker import Job, Limits, Workers

Progress = Callable[[int, int], None]


def jobs(kernel: Kernel[Any], device: Device, problems: Sequence[Problem]) -> Iterator[Job]:
    """One call for every specialisation that `problems` and the table's rows can ask for.

    Triton tells integers apart that are 1, divisible by 16, or neither: every row is asked for at the nearest size of
    each class, with its own config and with the one that serves that size.
    """
    from autotune.tuning.compilation.launch import launches

    rows = runtime.rows(kernel, device)
    known: dict[Problem, list[Config]] = {problem: [] for problem in problems}
    for row in rows:
        known.setdefault(build(kernel.problem, dict(row.problem), kernel.name), []).append(row.config)
    seen: set[tuple[str, ...]] = set()
    for problem, own in known.items():
        for variant in _variants(problem):
            served = runtime.lookup(kernel, device)[values(variant)]
            first = () if served.how == "refused" else (served.config,)
            for config in dict.fromkeys((*first, *own)):
                if kernel.reject(variant, config, device) is not None:
                    continue
                signature = tuple(launched.signature for launched in launches(kernel, variant, config, device))
                if signature not in seen:
                    seen.add(signature)
                    yield Job(kernel.name, key(variant), config, device.name)


def make(
    folder: Path, device: Device, problems: Mapping[str, Sequence[Problem]], limits: Limits, progress: Progress
) -> tuple[Manifest, dict[str, str]]:
    """Compiles everything into `folder`; returns the manifest, and why what is not in it failed to compile."""
    if folder.exists() and any(folder.iterdir()) and not (folder / bundle.MANIFEST).exists():
        raise UsageError(f"{folder}: is not empty and no bundle; name a new folder")
    folder.mkdir(parents=True, exist_ok=True)
    asked = [job for name in problems for job in jobs(registry.load(name), device, problems[name])]
    made: list[Specialisation] = []
    failed: dict[str, str] = {}
    with Workers(limits, folder) as workers:
        for done, (job, result) in enumerate(workers.run(bundle_job, asked), 1):
            if isinstance(result, str) or "failed" in result:
                place = f"{job.kernel} " + ",".join(f"{name}={value}" for name, value in job.problem)
                failed[place] = result if isinstance(result, str) else result["failed"]
            else:
                made.append(Specialisation(job.kernel, job.problem, job.config, tuple(result["keys"])))
            progress(done, len(asked))
    made.sort(key=lambda entry: (entry.kernel, str(entry.problem), str(entry.config)))
    blank = Manifest(device.arch, device.name, triton.__version__, {}, tuple(made))
    manifest = replace(blank, tables={name: bundle.table_hash(blank, name) for name in sorted(problems)})
    bundle.write(manifest, folder)
    return manifest, failed


def bundle_job(job: Job) -> dict[str, Any]:
    """`{"keys": ...}` of the binaries, which lie in Triton's cache afterwards, or `{"failed": why}`."""
    try:
        return {"keys": _keys(job.kernel, dict(job.problem), job.config, devices.named(job.device))}
    except Exception as error:  # the compiler raises anything; one config must not end the bundle
        return {"failed": f"{type(error).__name__}: {str(error)[:300]}"}


def verify(folder: Path) -> list[str]:
    """Return the faults of a bundle in words: every launch is prepared as in serving, and none may compile."""
    manifest = bundle.use(folder)
    device = devices.named(manifest.device)
    triton.knobs.cache.manager_class = _Strict
    wrong = []
    for specialisation in manifest.specialisations:
        place = f"{specialisation.kernel} " + ",".join(f"{name}={value}" for name, value in specialisation.problem)
        try:
            keys = tuple(_keys(specialisation.kernel, dict(specialisation.problem), specialisation.config, device))
        except _Missing as missing:
            wrong.append(f"{place}: {missing}")
        else:
            if keys != specialisation.keys:
                wrong.append(
                    f"{place}: the manifest says {', '.join(specialisation.keys)}, serving asks for {', '.join(keys)}"
                )
    return wrong


def _keys(kernel: str, problem: Mapping[str, Any], config: Config, device: Device) -> list[str]:
    from autotune.tuning.compilation.launch import compile_launches

    loaded = registry.load(kernel)
    binaries = compile_launches(loaded, build(loaded.problem, problem, kernel), config, device)
    return [str(binary.hash) for binary in binaries]


def _variants(problem: Problem) -> Iterator[Problem]:
    """`problem`, and its neighbours whose varying sizes are 1, divisible by 16, and neither."""
    names = problem.VARYING
    sizes = [_classes(int(getattr(problem, name))) for name in names]
    for chosen in itertools.product(*sizes):
        try:
            yield replace(problem, **dict(zip(names, chosen, strict=True)))
        except ValueError:
            continue  # sizes that cannot be together, such as more requests than tokens


def _classes(size: int) -> tuple[int, ...]:
    divisible = max(16, round(size / 16) * 16)
    neither = size if size > 1 and size % 16 else size + 1
    return tuple(dict.fromkeys((size, 1, divisible, neither)))


class _Missing(Exception):
    pass


class _Strict(BundleCache):
    """A bundle without the ordinary cache behind it."""

    def __init__(self, key: str, override: bool = False, dump: bool = False) -> None:
        if not (self.root / key).is_dir():
            raise _Missing(f"no binary of key {key}: the kernel's source, a config or Triton changed; make it again")
        super().__init__(key, override, dump)
