"""How much of other packages' Triton code can be adopted, and what stops the rest, by cause.

    pip download --no-deps -d wheels liger_kernel fla-core torchao sglang
    for w in wheels/*; do unzip -qo $w -d site; done
    TRITON_INTERPRET=1 PYTHONPATH=site:. python -m benchmarks.adopt.small_calls calls.json
    PYTHONPATH=site:. python -m benchmarks.adopt.exam liger_kernel fla torchao sglang --calls calls.json \\
        --results results.json --write docs/adoption_exam.md

Wheels are unpacked, never edited and never installed. Every kernel of the packages is described (`described`); those
with captured calls are adopted without a reference, proved against themselves, and compiled for ARCHS (`adopted`).
What was found is kept in the file of results, and not sought again: the exam resumes where it ended.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # before anybody imports Triton: captured calls run in its interpreter

from autotune.adopt import calls
from benchmarks.adopt.adopted import ARCHS, PROVED, adopted, compiled
from benchmarks.adopt.described import DESCRIBED, described

Results = dict[str, dict[str, Any]]
"""`described` by package and kernel, `adopted` by kernel, and `compiled` by kernel and arch."""

_BATCH = 8
"""Kernels that are compiled by one process, before what was found is kept."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", help="packages on PYTHONPATH whose Triton functions are described")
    parser.add_argument("--calls", type=Path, nargs="*", default=[], help="files of captured calls")
    parser.add_argument("--results", type=Path, required=True, help="JSON file of what was found, read and written")
    parser.add_argument("--write", type=Path, help="put the page there too")
    given = parser.parse_args()
    results: Results = {"described": {}, "adopted": {}, "compiled": {}}
    if given.results.exists():
        results = json.loads(given.results.read_text(encoding="utf-8"))
    for package in given.packages:
        if package not in results["described"]:
            results["described"][package] = dict(described(package))
            _keep(results, given.results)
    for path in given.calls:
        _examine(results, path, given.results)
    text = page(results, _versions(results["described"]), date.today().isoformat())
    print(text)
    if given.write:
        given.write.write_text(text, encoding="utf-8")


def _examine(results: Results, path: Path, kept: Path) -> None:
    """Adopt and compile the kernels of a file of captured calls."""
    names = sorted({call.kernel for call in calls.read(path)})
    folder = kept.absolute().with_suffix("") / "adopted"
    for name in names:
        if name not in results["adopted"]:
            results["adopted"][name] = adopted(name, path, folder)
            _keep(results, kept)
    waiting = [name for name in names if name not in results["compiled"]]
    for at in range(0, len(waiting), _BATCH):
        results["compiled"] |= compiled(folder, waiting[at : at + _BATCH])
        _keep(results, kept)


def _keep(results: Results, path: Path) -> None:
    path.write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")


def _versions(packages: Iterable[str]) -> dict[str, str]:
    """Return `liger_kernel 0.8.5` for each package, from the metadata of its unpacked wheel."""
    owners = metadata.packages_distributions()
    return {name: metadata.version(owners.get(name, [name])[0]) for name in packages}


def page(results: Results, versions: Mapping[str, str], day: str) -> str:
    """Markdown: kernels described by package, captured kernels that were proved and compiled, and causes of failure."""
    every = [said for kernels in results["described"].values() for said in kernels.values()]
    proved = sum(said == PROVED for said in results["adopted"].values())
    whole = [name for name, by_arch in results["compiled"].items() if list(by_arch.values()) == [""] * len(ARCHS)]
    total = len(results["adopted"])
    lines = [
        "# Exam of adoption",
        "",
        "Triton kernels of other packages, unpacked from their wheels and never edited, as",
        "[`autotune adopt`](guides/adopt.md) takes them. No GPU was used.",
        "",
        f"**{every.count(DESCRIBED)} of {len(every)} kernels can be read. Small calls were made of {total}: "
        f"{proved} are proved; of {len(results['compiled'])} that were compiled, {len(whole)} compile on five archs.** "
        f"{day}, by",
        f"`python -m benchmarks.adopt.exam {' '.join(results['described'])}",
        "--calls calls.json --results results.json --write docs/adoption_exam.md`, whose text says how.",
        "",
        "| package | kernels | can be read | called | proved | compiled on five archs |",
        "|---|---|---|---|---|---|",
        *(_row(package, results, versions, whole) for package in results["described"]),
        "",
        "- *Can be read:* configs, key, heuristics and hooks are understood. Helpers, which other kernels call, are "
        "not counted, nor is code for Ascend NPUs and XPUs.",
        "- The environment has torch and Triton, but not what the packages require beside them: a module that imports "
        "more is a cause below. Results are kept as they come, so a run may be the work of several.",
        "- *Called:* a small call of the package's own launcher was captured in Triton's interpreter, forward and "
        "backward (`benchmarks/adopt/small_calls.py`).",
        "- *Proved:* adopted without a word of help, and right at the author's first config, **against itself**: "
        "nobody named a reference.",
        f"- *Compiled:* for {', '.join(ARCHS)} at the same config; of how many that was tried.",
        "",
        "## What stops the rest",
        "",
        *_causes("what stops reading", (said for said in every if said != DESCRIBED)),
        *_causes("what stops adoption and proof", (said for said in results["adopted"].values() if said != PROVED)),
        *_causes("what stops compilation, by kernel and arch", _refusals(results)),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _row(package: str, results: Results, versions: Mapping[str, str], whole: Iterable[str]) -> str:
    kernels = results["described"][package]
    called = {name: said for name, said in results["adopted"].items() if name.partition(".")[0] == package}
    cells = [
        f"{package} {versions.get(package, '')}".strip(),
        str(len(kernels)),
        str(list(kernels.values()).count(DESCRIBED)),
        str(len(called)),
        str(sum(said == PROVED for said in called.values())),
        f"{len(called.keys() & set(whole))} of {len(called.keys() & results['compiled'].keys())}",
    ]
    return f"| {' | '.join(cells)} |"


def _refusals(results: Results) -> list[str]:
    return [reason or "compiled" for by_arch in results["compiled"].values() for reason in by_arch.values() if reason]


def _causes(title: str, reasons: Iterable[str]) -> list[str]:
    counts = Counter(_cause(reason) for reason in reasons)
    if not counts:
        return []
    shown = counts.most_common(8)
    rows = [f"| {cause} | {count} |" for cause, count in shown]
    rest = counts.total() - sum(count for _, count in shown)
    more = [f"| {len(counts) - len(shown)} other causes | {rest} |"] if rest else []
    return [f"| {title} | kernels |", "|---|---|", *rows, *more, ""]


def _cause(reason: str) -> str:
    """Return a reason without the names and numbers of one kernel, and fit for a cell of a table."""
    missing = re.search(r"No module named '([\w]+)", reason)
    if missing:
        return f"its module wants a package that is absent: {missing[1]}"
    general = re.sub(r"\b\d+(\.\d+)?(e[+-]?\d+)?\b", "N", re.sub(r"/\S+", "", reason))
    general = re.sub(r"\[N(, N)*\]", "[N]", general)
    return re.sub(r"\s+", " ", general.replace("|", "/"))[:110]


if __name__ == "__main__":
    main()
