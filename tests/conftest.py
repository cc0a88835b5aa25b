"""Every test has its own state folder, so that none sees another's journals or caches. Proofs that this Triton's
interpreter cannot hold, and refuses in words, are skipped by name."""

import os

import pytest

from autotune.errors import ToolchainError
from autotune.toolchain import PROVE_FP4, compiler_environment, supports, triton_version

os.environ.update(compiler_environment())


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call():
    """Only a Triton that is too old for native FP4 may refuse, and nothing but that."""
    try:
        return (yield)
    except ToolchainError as refusal:
        if PROVE_FP4.name in str(refusal) and not supports(PROVE_FP4, triton_version()):
            pytest.skip(str(refusal))
        raise


def pytest_addoption(parser):
    parser.addoption("--shipped", help="folder of other projects' tables for benchmarks/serving/interchange.py")


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"
