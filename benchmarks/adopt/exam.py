"""How much of other packages' Triton code can be adopted, and what stops the rest, by cause.

    python -m benchmarks.adopt.exam --prepare exam
    export CUDA_VISIBLE_DEVICES= PYTHONPATH=exam/site:.
    TRITON_INTERPRET=1 exam/env/bin/python -m benchmarks.adopt.small_calls exam/calls.json
    exam/env/bin/python -m benchmarks.adopt.exam liger_kernel fla torchao sglang vllm --calls exam/calls.json \\
        --made 200 --results exam/results.json --write docs/adoption_exam.md

The first command makes an environment of the exam's own (`environment`), in which wheels are unpacked, never edited
and never installed. Every kernel of the packages is described (`described`). Those with captured calls, and as many
others as `--made` says, whose calls are made up from their text (`made_calls`), are adopted without a reference,
proved against themselves, and compiled for ARCHS (`adopted`). The others are taken in the order of the hashes of their
names, so any number of them is a sample. What was found is kept in the file of results, and not sought again: the exam
resumes where it ended.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import time
from collections import Counter
from collections.abc import Iterable, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from datetime import date
from importlib import metadata
from pathlib import Path
from typing import Any

os.environ["TRITON_INTERPRET"] = "1"  # before anybody imports Triton: captured calls run in its interpreter

from autotune.adopt import calls
from benchmarks.adopt.adopted import ARCHS, PROVED, adopted, compiled
from benchmarks.adopt.described import DESCRIBED, described
from benchmarks.adopt.environment import prepare

Results = dict[str, dict[str, Any]]
"""`described` by package and kernel, `adopted` by captured kernel, `made` by others, `compiled` by kernel and arch."""

_BATCH = 4
"""Kernels that are compiled by one process, before what was found is kept."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("packages", nargs="*", help="packages on PYTHONPATH whose Triton functions are described")
    parser.add_argument("--calls", type=Path, nargs="*", default=[], help="files of captured calls")
    parser.add_argument("--made", type=int, default=0, help="kernels for which calls are made up")
    parser.add_argument("--minutes", type=float, default=1440, help="begin no kernel later than this")
    parser.add_argument("--prepare", type=Path, metavar="FOLDER", help="only make the exam's environment there")
    parser.add_argument("--results", type=Path, help="JSON file of what was found, read and written")
    parser.add_argument("--write", type=Path, help="put the page there too")
    given = parser.parse_args()
    if given.prepare:
        prepare(given.prepare)
        return
    if given.results is None:
        parser.error("--results is needed")
    ends = time.monotonic() + 60 * given.minutes
    results: Results = {"described": {}, "adopted": {}, "made": {}, "compiled": {}}
    if given.results.exists():
        results = json.loads(given.results.read_text(encoding="utf-8"))
    for package in given.packages:
        if package not in results["described"]:
            results["described"][package] = dict(described(package))
            _keep(results, given.results)
    _examine(results, _work(results, given.calls, given.made), given.results, ends)
    text = page(results, _versions(results["described"]), date.today().isoformat())
    print(text)
    if given.write:
        given.write.write_text(text, encoding="utf-8")


def _work(results: Results, captured: Iterable[Path], made: int) -> list[tuple[str, str, Path | None]]:
    """Return what is examined, `adopted` or `made`, the kernel and the file of its calls, in the order of hashes."""
    own: dict[str, Path | None] = {call.kernel: path for path in captured for call in calls.read(path)}
    every = (kernels for package, kernels in results["described"].items())
    names = {name for kernels in every for name, said in kernels.items() if said == DESCRIBED}
    others = sorted(names - own.keys(), key=_hash)[:made]
    return [("adopted" if name in own else "made", name, own.get(name)) for name in sorted([*own, *others], key=_hash)]


def _hash(name: str) -> bytes:
    return hashlib.sha256(name.encode()).digest()


def _examine(results: Results, work: list[tuple[str, str, Path | None]], kept: Path, ends: float) -> None:
    """Adopt kernels in turn, while those before them are compiled; none is begun later than `ends`."""
    folder = kept.absolute().with_suffix("") / "adopted"
    with ThreadPoolExecutor(1) as pool:
        running: list[Future[dict[str, dict[str, str]]]] = []
        for at in range(0, len(work), _BATCH):
            batch = work[at : at + _BATCH]
            for kind, name, path in batch:
                if name not in results[kind] and time.monotonic() < ends:
                    results[kind][name] = adopted(name, path, folder)
            waiting = [name for kind, name, _ in batch if name in results[kind] and name not in results["compiled"]]
            if waiting:
                running.append(pool.submit(compiled, folder, waiting))
            for future in [future for future in running if future.done()]:
                results["compiled"] |= future.result()
            _keep(results, kept)
        for future in running:
            if time.monotonic() < ends or not future.cancel():
                results["compiled"] |= future.result()
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
    tried = {**results["adopted"], **results["made"]}
    readable = every.count(DESCRIBED)
    proved = sum(said == PROVED for said in tried.values())
    built = results["compiled"]
    whole = sum(map(_is_whole, built.values()))
    lines = [
        "# Exam of adoption",
        "",
        "Triton kernels of other packages, unpacked from their wheels and never edited, as",
        "[`autotune adopt`](guides/adopt.md) takes them. No GPU was used.",
        "",
        f"**{readable} of {len(every)} kernels ({_share(readable, len(every))}) can be read. "
        f"Of {len(tried)} that were tried, {proved} ({_share(proved, len(tried))}) are proved; of {len(built)} that "
        f"were compiled, {whole} ({_share(whole, len(built))}) compile on five archs, with no edit.** {day}, by",
        f"`python -m benchmarks.adopt.exam {' '.join(results['described'])} --calls exam/calls.json",
        f"--made {len(results['made'])} --results exam/results.json --write docs/adoption_exam.md`; its text says how.",
        "",
        "| package | kernels | can be read | captured | proved | compiled | made up | proved | compiled |",
        "|---|---|---|---|---|---|---|---|---|",
        *(_row(package, results, versions) for package in results["described"]),
        "",
        "- *Can be read:* configs, key, heuristics and hooks are understood. Helpers, which other kernels call, are "
        "not counted, nor is code for Ascend NPUs and XPUs.",
        "- The environment has what the packages require beside them, but nothing that needs CUDA; torchvision's "
        "library does not load beside torch for a CPU, so its operators are only declared, never called.",
        "- *Captured:* a small call of the package's own launcher was captured in Triton's interpreter, forward and "
        "backward (`benchmarks/adopt/small_calls.py`).",
        "- *Made up:* a call was guessed from the kernel's text, all sizes 32 (`benchmarks/adopt/made_calls.py`): it "
        "shows that the kernel is adopted and compiled, not that its author would call it so.",
        "- Kernels are tried in the order of the hashes of their names, captured or not, so that a run which "
        "ends early has tried a sample of all; it may be resumed, and what is compiled follows behind.",
        "- *Proved:* adopted without a word of help, and right at the author's first config, **against itself**: "
        "nobody named a reference.",
        f"- *Compiled:* for {', '.join(ARCHS)}, all five, at the same config; of how many that was tried; a "
        "kernel that was not adopted counts as not compiled.",
        "- torchao's wheel has tests beside it (`test/`), SGLang's has some of its servers and pictures; the others "
        "have hardly any. None was run here.",
        "",
        "## What stops the rest",
        "",
        *_causes("what stops reading", (said for said in every if said != DESCRIBED)),
        *_causes("what stops adoption and proof", (said for said in tried.values() if said != PROVED)),
        *_causes("what stops compilation, by kernel and arch", _refusals(results)),
    ]
    return "\n".join(lines).rstrip("\n") + "\n"


def _is_whole(by_arch: Mapping[str, str]) -> bool:
    return by_arch.keys() == set(ARCHS) and not any(by_arch.values())


def _share(part: int, total: int) -> str:
    return f"{part / total:.0%}" if total else "none"


def _row(package: str, results: Results, versions: Mapping[str, str]) -> str:
    kernels = results["described"][package]
    cells = [f"{package} {versions.get(package, '')}".strip(), str(len(kernels))]
    cells.append(str(list(kernels.values()).count(DESCRIBED)))
    for kind in ("adopted", "made"):
        tried = {name: said for name, said in results[kind].items() if name.partition(".")[0] == package}
        built = [results["compiled"][name] for name in tried if name in results["compiled"]]
        cells += [str(len(tried)), str(sum(said == PROVED for said in tried.values()))]
        cells.append(f"{sum(map(_is_whole, built))} of {len(built)}")
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
    general = re.sub(r"(two programs write one address).*", r"\1", general)
    return re.sub(r"\s+", " ", general.replace("|", "/"))[:110]


if __name__ == "__main__":
    main()
