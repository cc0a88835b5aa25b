"""Every test has its own state folder, so that none sees another's journals or caches."""

import os

import pytest

os.environ.setdefault("TRITON_DEFAULT_FP_FUSION", "1")


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_STATE", str(tmp_path / "state"))
    return tmp_path / "state"
