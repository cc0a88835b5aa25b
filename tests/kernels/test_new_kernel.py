"""A kernel is two files and nothing shared: a copy of this project with one more, in a family of its own."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
NAME = "copied/copied_norm"


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """A copy of the project in which `norm/layer_norm` stands once more, as a kernel of the new family `copied`."""
    copy = tmp_path_factory.mktemp("project")
    for part in ("autotune", "kernels", "search_spaces", "tests"):
        shutil.copytree(ROOT / part, copy / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (copy / "tuned_configs").mkdir()
    shutil.copy(ROOT / "pyproject.toml", copy)
    for folder, ending in (("kernels", "py"), ("search_spaces", "yaml")):
        source = (copy / folder / f"norm/layer_norm.{ending}").read_text(encoding="utf-8")
        (copy / folder / "copied").mkdir()
        (copy / folder / f"{NAME}.{ending}").write_text(source.replace("layer_norm", "copied_norm"), encoding="utf-8")
    space = copy / "search_spaces" / f"{NAME}.yaml"
    kept = [part for part in space.read_text(encoding="utf-8").split("\n\n") if not part.startswith("compile:")]
    space.write_text("\n\n".join(kept), encoding="utf-8")
    return copy


def run(project, *words, **environment):
    command = [sys.executable, "-W", "ignore", *words]
    environment = {**os.environ, "PYTHONPATH": str(project), "AUTOTUNE_STATE": str(project / "state"), **environment}
    ended = subprocess.run(command, cwd=project, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


@pytest.mark.thorough
def test_new_kernel_is_listed_and_called_by_name(project):
    listed = json.loads(run(project, "-m", "autotune", "list", "--json"))
    (row,) = (row for row in listed["kernels"] if row["kernel"] == NAME)
    (path,) = (path for path in listed["hot_paths"] if path["hot path"] == row["serves"])
    assert NAME in path["kernels"]
    code = "import autotune.kernels.copied as copied; print(copied.copied_norm.name, 'copied_norm' in dir(copied))"
    assert run(project, "-c", code).split() == [NAME, "True"]


@pytest.mark.thorough
def test_workload_tests_accept_new_kernel(project):
    wanted = "test_every_hot_path_has_kernels_or_reason or test_every_hot_path_is_called"
    assert "2 passed" in run(project, "-m", "pytest", "tests/workload/test_workload.py", "-k", wanted)


@pytest.mark.slow
def test_compiler_and_proofs_accept_new_kernel(project):
    compiled = json.loads(run(project, "-m", "autotune", "compile", NAME, "--target", "gfx950", "--json"))
    assert len(compiled) == 1
    passed = run(project, "-m", "pytest", "tests/kernels/test_conformance.py", "-m", "not slow", "-k", "copied")
    assert "failed" not in passed and "passed" in passed


@pytest.mark.slow
def test_count_and_address_tests_accept_new_kernel(project):
    passed = run(project, "-m", "pytest", "tests/interpreter", "-m", "", "-k", f"{NAME} and (count or addresses)")
    assert "4 passed" in passed
