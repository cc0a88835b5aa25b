"""Every test has its own state folder, so that none sees another's journals or caches. What an older Triton cannot do,
and refuses in words, is skipped by name."""

import os
import sys
from functools import partial

import pytest

from autotune import identity, origin, registry
from autotune.cli import main
from autotune.errors import ToolchainError
from autotune.toolchain import NEWEST, compiler_environment, release, triton_version
from autotune.tuning import counted_work

os.environ.update(compiler_environment())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """Only a Triton older than the newest may refuse, and only what came after it."""
    try:
        return (yield)
    except ToolchainError as refusal:
        if release(triton_version()) < release(NEWEST) and "is too old to" in str(refusal):
            pytest.skip(str(refusal))
        raise


def pytest_addoption(parser):
    parser.addoption("--shipped", help="folder of other projects' tables for benchmarks/serving/interchange.py")


@pytest.fixture
def own(tmp_path):
    """A folder outside the package in which `autotune new` began a kernel; it is forgotten afterwards."""
    folder = tmp_path / "own"
    assert main(["new", str(folder / "softmax")]) == 0
    registry._named.clear()
    modules = set(sys.modules)
    yield folder
    registry._named.clear()
    if counted_work._workers.cache_info().currsize:  # processes that know this folder's kernels
        counted_work._workers().__exit__(None, None, None)
        counted_work._workers.cache_clear()
    origin._import_path.cache_clear()
    for name in set(sys.modules) - modules:
        if name == folder.name or name.startswith(f"{folder.name}."):
            del sys.modules[name]


@pytest.fixture
def changed(own):
    """A function that loads the kernel of a file in `own` after replacements in its text."""

    def load(path, *replacements):
        text = path.read_text()
        for before, after in replacements:
            assert before in text
            text = text.replace(before, after)
        path.write_text(text)
        registry.named(str(path))
        identity._module.cache_clear()
        return registry.load(f"own/{path.stem}")

    return load


@pytest.fixture
def loaded(own, changed):
    """A function that loads the kernel `own/softmax` after replacements in its file."""
    return partial(changed, own / "softmax.py")


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"
