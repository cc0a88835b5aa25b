"""How much of other packages' Triton code can be adopted, and what stops the rest, by cause.

    pip download --no-deps -d wheels liger_kernel fla-core && for w in wheels/*; do unzip -qo $w -d site; done
    PYTHONPATH=site python -m benchmarks.adopt.exam liger_kernel fla           # described
    PYTHONPATH=site python -m benchmarks.adopt.exam --calls calls.json         # adopted, proved, compiled

Wheels are unpacked, never edited and never installed. The first form imports every module and describes each function
under `@triton.jit` that a wrapper holds or that no other one calls; a function that others call is a helper, and not
counted. The second takes calls that `autotune.capture` recorded, adopts each kernel without a reference, and compiles
what was written for ARCHS.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import pkgutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from autotune.adopt import calls, foreign
from autotune.errors import UsageError

ARCHS = ("sm_90", "sm_100", "sm_120", "gfx942", "gfx950")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", help="packages on PYTHONPATH whose Triton functions are described")
    parser.add_argument("--calls", type=Path, help="captured calls whose kernels are adopted and compiled")
    arguments = parser.parse_args()
    for package in arguments.packages:
        _print(package, Counter(reason for _, reason in described(package)))
    if arguments.calls:
        names = sorted({call.kernel for call in calls.read(arguments.calls)})
        outcomes: Counter[str] = Counter()
        with tempfile.TemporaryDirectory() as folder:
            for name in names:
                outcome = adopted(name, arguments.calls, Path(folder))
                print(f"{name}: {outcome}", flush=True)
                outcomes[outcome] += 1
        _print("captured kernels", outcomes)


def described(package: str) -> Iterator[tuple[str, str]]:
    """Yield each kernel of `package`, and `described` or a reason why it cannot be; and modules that fail to import."""
    functions: dict[int, tuple[str, Any]] = {}
    for module in _modules(package):
        try:
            there = importlib.import_module(module)
        except BaseException as error:  # anybody's module may raise anything, or exit
            yield module, f"module not imported: {type(error).__name__}: {error}"[:90]
            continue
        for name, value in vars(there).items():
            if _triton(value) and getattr(_innermost(value).fn, "__module__", None) == module:
                functions[id(value)] = (f"{module}:{name}", value)
    called = {id(other) for _, value in functions.values() for other in _called(_innermost(value).fn)}
    for name, value in functions.values():
        if value is _innermost(value) and id(value) in called:
            continue
        try:
            foreign.read(value)
            yield name, "described"
        except UsageError as refusal:
            yield name, str(refusal).partition(": ")[2][:90]


def adopted(name: str, path: Path, folder: Path) -> str:
    """Return how far a captured kernel comes: `proved, compiled on 5`, or the reason that stops it."""
    command = [sys.executable, "-W", "ignore", "-m", "autotune"]
    output = folder / name.replace(":", ".").replace(".", "_")
    words = ["adopt", name, "--calls", str(path), "-o", str(output), "--name", "kernel", "--json"]
    ended = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    if ended.returncode == 2:
        return "not adopted: " + ended.stderr.strip().splitlines()[0].partition(name)[2].strip(": ")[:100]
    try:
        failure = json.loads(ended.stdout)["failure"]
    except ValueError:
        return "not adopted: " + ended.stderr.strip().splitlines()[-1][:100]
    said = "proved" if failure is None else f"not proved: {failure.partition(': ')[0]}"
    words = ["compile", str(output / "kernel.py"), "--target", ",".join(ARCHS), "--json"]
    ended = subprocess.run([*command, *words], capture_output=True, text=True, check=False)
    try:
        rows = json.loads(ended.stdout)
    except ValueError:
        return f"{said}, not compiled: {ended.stderr.strip().splitlines()[-1][:80]}"
    fine = {row["target"] for row in rows} - {row["target"] for row in rows if row.get("reason")}
    return f"{said}, compiled on {len(fine)}"


def _modules(package: str) -> Iterator[str]:
    found = importlib.util.find_spec(package)
    yield package
    if found is not None and found.submodule_search_locations:
        places = found.submodule_search_locations
        for module in pkgutil.walk_packages(places, f"{package}.", onerror=lambda name: None):
            yield module.name


def _triton(value: Any) -> bool:  # noqa: ANN401
    return hasattr(value, "fn") and hasattr(value, "arg_names") and hasattr(value, "run")


def _innermost(value: Any) -> Any:  # noqa: ANN401
    while _triton(value.fn):
        value = value.fn
    return value


def _called(function: Any) -> Iterator[Any]:  # noqa: ANN401
    """Yield the Triton functions that `function` names."""
    for name in function.__code__.co_names:
        other = function.__globals__.get(name)
        if _triton(other):
            yield other


def _print(title: str, outcomes: Counter[str]) -> None:
    print(f"{title}: {outcomes.total()}")
    for outcome, count in outcomes.most_common():
        print(f"  {count:5}  {outcome}")


if __name__ == "__main__":
    main()
