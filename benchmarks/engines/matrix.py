"""Our plugins and exports held against real releases of vLLM and SGLang, with no GPU and nothing installed.

    python -m benchmarks.engines.matrix                         # every release of RELEASES; 7 MB each, then kept
    python -m benchmarks.engines.matrix vllm==0.33.0 --write docs/engines.md

A release is fetched from its wheel by range requests. Its own lookup functions run with the device's name and the
switch of batch-invariant serving stood in for. Prints a page; exit code 1 where a cell is not right.
"""

from __future__ import annotations

import argparse
import ast
import functools
import json
import os
import sys
import tempfile
import tomllib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from autotune import device as devices
from autotune import registry, table, toolchain
from autotune.check import engine_lint, engine_source
from autotune.check.engine_source import Release
from autotune.config import Config, build, key
from autotune.interchange import engine_rows, plugins
from autotune.interchange.formats import FORMATS
from autotune.interchange.vllm_sglang import DENSE, FP8_EXPERTS
from autotune.state import state_root
from autotune.table import Row, Table
from benchmarks.serving import peers

RELEASES = (
    *(f"vllm==0.{minor}.0" for minor in range(26, 34)),
    *(f"sglang==0.5.{patch}" for patch in range(15, 24)),
)
OURS = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
GPU, AMD = devices.named("h200"), devices.named("mi355x")
SIZES = ((1, 64), (65, 1024), (1025, engine_rows.MOST_TOKENS))
"""Intervals of our rows: with no gap, and up to the largest step."""
LOADERS = {
    "vllm": ("vllm.plugins", "vllm.general_plugins", "VLLM_PLUGINS"),
    "sglang": ("sglang.srt.plugins", "sglang.srt.plugins", "SGLANG_PLUGINS"),
}
"""Module, group of entry points and allow-list of each engine's plugins."""

Check = Callable[[Release], None]
"""Raises AssertionError with what is not right."""


def entry_points(release: Release) -> None:
    """The engine loads the group that we register in, and its allow-list has the name that we document."""
    module, group, allow_list = LOADERS[release.engine]
    source = (release.folder / module.replace(".", "/") / "__init__.py").read_text()
    assert f'"{group}"' in source, f"no group {group}"
    assert allow_list in source, f"no allow-list {allow_list}"
    assert group in OURS["entry-points"], f"we register nothing in {group}"


def lookups(release: Release) -> None:
    """Both lookups lie in a home that the plugin knows, with the parameters that it knows."""
    assert not (found := list(engine_lint.moved(release))), f"{found[0].place}: {found[0].reason}"


def switch(release: Release) -> None:
    """The switch that the engine's own guard asks is one of which the plugin knows the place, in this release."""
    (home,) = plugins.HOMES[release.engine][plugins.EXPERTS]
    guards = [
        ast.unparse(node.test) for node in ast.walk(ast.parse(release.text(home) or "")) if isinstance(node, ast.If)
    ]
    known = [path for module, path in plugins.SWITCHES[release.engine] if _defines(release, module, path)]
    assert any(guard.endswith(path) for guard in guards for path in known), f"the guard asks none of {known}"


def guards(release: Release) -> None:
    """With our hooks around them the engine's own functions get free rows, or rows of one order, or what they had."""
    with _served(release, deterministic=False) as (peer, dense, experts):
        assert list(dense(2048, 7168, 128, 128) or ()) == _tokens(), "free rows are not served"
        assert list(experts(256, 256, "fp8_w8a8", 128, 128) or ()) == _tokens(), "free experts' rows are not served"
        assert dense(2048, 7168, 32, 32) is None, "blocks of 32x32 are not left alone"
        peer.switch.on = True
        assert dense(2048, 7168, 128, 128) is None, "batch-invariant serving gets free rows"
        assert experts(256, 256, "fp8_w8a8", 128, 128) is None, "batch-invariant experts get free rows"
    with _served(release, deterministic=True) as (peer, dense, experts):
        peer.switch.on = True
        for found in (dense(2048, 7168, 128, 128), experts(256, 256, "fp8_w8a8", 128, 128)):
            assert found is not None and list(found) == _tokens(), "rows of one order are not served"
            assert len({config["BLOCK_SIZE_K"] for config in found.values()}) == 1, "rows of two orders are served"


def clamps(release: Release) -> None:
    """A row that the engine would launch otherwise is not handed to it."""
    kernel, gpu, block_k = (DENSE, AMD, 64) if release.engine == "sglang" else (FP8_EXPERTS, GPU, 256)
    rows = tuple(_row(kernel, gpu, low, high, BLOCK_K=block_k) for low, high in SIZES)
    files, left = FORMATS[release.engine].write([_table(kernel, gpu, rows)])
    assert not files and len(left) == len(rows), f"BLOCK_K={block_k} is handed over"


def exports(release: Release) -> None:
    """The engine's own functions return what was exported, in the same order: the same config at every M."""
    with tempfile.TemporaryDirectory() as name:
        home = Path(name)
        files, _ = FORMATS[release.engine].write([_table(kernel, GPU, _rows(kernel, GPU)) for kernel in _KERNELS])
        peer = peers.load(release.engine, release.folder, home / "engine", "NVIDIA H200")
        dense_home = (home / "engine" / next(iter(peer.modules))).parent
        for relative, file in files.items():
            dense = not Path(relative).name.startswith("E=")
            root = dense_home / ("configs" if release.engine == "vllm" else "") if dense else home / "experts"
            (root / relative).parent.mkdir(parents=True, exist_ok=True)
            (root / relative).write_text(file.text)
        folder = {"vllm": "VLLM_TUNED_CONFIG_FOLDER", "sglang": "SGLANG_MOE_CONFIG_DIR"}[release.engine]
        with _environment(**{folder: str(home / "experts")}):
            found = [peer.block_fp8(2048, 7168, 128, 128), peer.moe(256, 256, "fp8_w8a8", 128, 128)]
        written = [json.loads(file.text) for name, file in sorted(files.items(), key=lambda item: "E=" in item[0])]
        wanted = [[(int(m), config) for m, config in content.items()] for content in written]
        assert len(wanted) == 2, f"{len(wanted)} files are written"
        assert [list((one or {}).items()) for one in found] == wanted, "the lookup returns something else"


def dependencies(release: Release) -> None:
    """No version that the engine pins is outside what we ask for, with the extra `tune` or without."""
    floors = (f"torch>={toolchain.SERVE.oldest_torch}", f"triton>={toolchain.SERVE.oldest}")
    asked = (*floors, *OURS["dependencies"], *OURS["optional-dependencies"]["tune"])
    ours = {canonicalize_name(one.name): one for one in map(Requirement, asked)}
    (metadata,) = release.folder.glob("*.dist-info/METADATA")
    lines = (line.partition(":")[2] for line in metadata.read_text().splitlines() if line.startswith("Requires-Dist:"))
    for theirs in map(Requirement, lines):
        pinned = [one.version for one in theirs.specifier if one.operator == "=="]
        name = canonicalize_name(theirs.name)
        if name in ours and pinned and not (theirs.marker and "extra" in str(theirs.marker)):
            assert ours[name].specifier.contains(pinned[0]), f"{theirs} and our {ours[name]}"


CHECKS: dict[str, Check] = {
    "entry points": entry_points,
    "lookups": lookups,
    "switch": switch,
    "guards kept": guards,
    "clamps": clamps,
    "exports read": exports,
    "dependencies": dependencies,
}
_KERNELS = (DENSE, FP8_EXPERTS)


def cells(wanted: str, root: Path) -> dict[str, str]:
    """`right`, or what is not, by the name of the check."""
    release = engine_source.find(wanted, root)
    found = {}
    for name, check in CHECKS.items():
        try:
            check(release)
            found[name] = "right"
        except Exception as error:  # a release that has changed may raise anything
            found[name] = str(error) or type(error).__name__
    return found


def page(rows: dict[str, dict[str, str]]) -> str:
    """Markdown, with the meaning of each column."""
    lines = ["# Releases of vLLM and SGLang", ""]
    lines += [
        "Our plugins and exports against the wheels on PyPI, without a GPU: the engines' own lookup functions run.",
        "Made by `python -m benchmarks.engines.matrix --write docs/engines.md`.",
        "",
        *(f"- *{name}*: {_first_line(check)}" for name, check in CHECKS.items()),
        "",
        f"| release | {' | '.join(CHECKS)} |",
        f"|---|{'---|' * len(CHECKS)}",
        *(f"| {release.replace('==', ' ')} | {' | '.join(found.values())} |" for release, found in rows.items()),
        "",
    ]
    return "\n".join(lines)


def _first_line(check: Check) -> str:
    return " ".join((check.__doc__ or "").split())


def _tokens() -> list[int]:
    return [high for _, high in SIZES]


def _row(kernel_name: str, gpu: devices.Device, low: int, high: int, **changes: int) -> Row:
    kernel, size = registry.load(kernel_name), registry.load(kernel_name).problem.VARYING[0]
    shape = {"n": 2048, "k": 7168} if kernel_name == DENSE else {"n": 512, "k": 7168, "topk": 8, "experts": 256}
    fixed = {"dtype": gpu.fp8, **({"gathers": True} if kernel_name != DENSE else {})}
    problem = build(kernel.problem, {size: high, **shape, **fixed}, "matrix")
    plain = {"BLOCK_M": 64, "BLOCK_N": 128, "BLOCK_K": 128, "PERSISTENT": False, "SPLIT_K": 1, "num_warps": 4}
    default = kernel.default(problem, gpu)
    config = Config({**default, **{name: value for name, value in plain.items() if name in default}, **changes})
    evidence = {"us": 2.0, "deterministic": {"order": "one"}}
    return Row(key(problem), config, "measured", evidence, "triton 3.9.0", "code", ((size, low, high),))


def _rows(kernel: str, gpu: devices.Device) -> tuple[Row, ...]:
    """Rows that differ in what changes no order."""
    return tuple(_row(kernel, gpu, low, high, num_stages=2 + turn) for turn, (low, high) in enumerate(SIZES))


def _table(kernel: str, gpu: devices.Device, rows: tuple[Row, ...], deterministic: bool = False) -> Table:
    return Table(kernel, gpu.arch, gpu.name, registry.load(kernel).identity.kernel, rows, deterministic)


@contextmanager
def _served(release: Release, deterministic: bool) -> Iterator[tuple[peers.Peer, peers.Lookup, peers.Lookup]]:
    """The engine's functions on a GPU whose tables are ours, with our hooks around them."""
    with tempfile.TemporaryDirectory() as name, _environment(AUTOTUNE_TABLES=name), _modules(release) as install:
        for kernel in _KERNELS:
            made = _table(kernel, GPU, _rows(kernel, GPU), deterministic)
            table.save(made, table.path_of(Path(name), GPU.arch, GPU.name, kernel))
        peer = peers.load(release.engine, release.folder, Path(name) / "engine", "NVIDIA H200")
        (Path(name) / "engine" / list(peer.modules)[1]).parent.joinpath("configs").mkdir(parents=True)
        install(peer.switch)
        engine_rows.rows.cache_clear()
        engine = plugins.Engine(release.engine, GPU)
        dense = functools.partial(plugins.block_fp8, engine, peer.block_fp8)
        yield peer, dense, functools.partial(plugins.moe, engine, peer.moe)
        engine_rows.rows.cache_clear()


@contextmanager
def _modules(release: Release) -> Iterator[Callable[[peers.Switch], None]]:
    """Modules in which the plugin finds the switch where this release has it, and nowhere else."""
    places = [(module, path) for module, path in plugins.SWITCHES[release.engine]]
    before = dict(sys.modules)

    def install(switch: peers.Switch) -> None:
        for module, _ in places:
            sys.modules[module] = ModuleType(module)
        for module, path in places:
            name = path.partition("(")[0]
            if release.engine == "vllm":
                sys.modules[module] = switch  # type: ignore[assignment]
            elif _defines(release, module, path):
                setattr(sys.modules[module], name, lambda: switch)

    try:
        yield install
    finally:
        for module, _ in places:
            sys.modules.pop(module, None)
            if module in before:
                sys.modules[module] = before[module]


@contextmanager
def _environment(**values: str) -> Iterator[None]:
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            os.environ.pop(name, None) if value is None else os.environ.update({name: value})


def _defines(release: Release, module: str, path: str) -> bool:
    source, name = release.text(module) or "", path.partition("(")[0]
    return f"def {name}(" in source or f"{name}:" in source


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("releases", nargs="*", default=list(RELEASES), metavar="ENGINE==VERSION")
    parser.add_argument("--write", type=Path, help="put the page there too")
    given = parser.parse_args(words)
    rows = {wanted: cells(wanted, state_root() / "engines") for wanted in given.releases}
    text = page(rows)
    print(text)
    if given.write:
        given.write.write_text(text)
    return 0 if all(cell == "right" for found in rows.values() for cell in found.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
