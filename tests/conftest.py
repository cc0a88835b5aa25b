"""Every test has its own state folder, so that none sees another's journals or caches."""

import os

import pytest

from autotune.toolchain import compiler_environment

os.environ.update(compiler_environment())


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"
