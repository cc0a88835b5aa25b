"""Every example runs as it stands."""

import json
import os
import shutil
import subprocess
import sys

import pytest
import yaml
from markdown_blocks import ROOT

EXAMPLES = ROOT / "examples"
PYTHON = sys.executable


def run(*words, root=ROOT, **environment):
    environment = {**os.environ, "PYTHONPATH": str(root), **environment}
    ended = subprocess.run(words, cwd=root, env=environment, capture_output=True, text=True, check=False)
    assert ended.returncode == 0, ended.stdout + ended.stderr
    return ended.stdout


def test_sampler_example_finds_the_optimum():
    assert "best 20.00 us" in run(PYTHON, "examples/feasible_sampler.py")


def test_engine_example_serves_and_records_one_miss():
    said = run(PYTHON, "examples/engine/engine.py", AUTOTUNE_TABLES=str(ROOT / "tuned_configs"))
    assert said.count("BLOCK_M") == 4
    assert "1 shapes without a row" in said


@pytest.mark.thorough
def test_notebook_runs_from_its_first_cell_to_its_last(tmp_path):
    """Without Jupyter: the cells hold plain Python, and assert what their text says."""
    cells = json.loads((EXAMPLES / "session_report.ipynb").read_text(encoding="utf-8"))["cells"]
    assert not [cell for cell in cells if cell.get("outputs")], "results differ from machine to machine: clear them"
    script = tmp_path / "notebook.py"
    script.write_text("\n".join("".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"))
    run(PYTHON, str(script))


@pytest.mark.thorough
def test_quickstart_example_tunes_and_serves():
    said = run(PYTHON, "examples/quickstart.py")
    assert "rows=64: exact" in said and "rows=50: nearest" in said


@pytest.fixture
def project(tmp_path):
    """A copy of the project with the example's kernel put into place as its page says."""
    for part in ("autotune", "kernels", "search_spaces", "tests", "examples"):
        shutil.copytree(ROOT / part, tmp_path / part, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    (tmp_path / "tuned_configs").mkdir()
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    (tmp_path / "kernels/mine").mkdir()
    (tmp_path / "kernels/mine/__init__.py").touch()
    (tmp_path / "search_spaces/mine").mkdir()
    for folder, name in (("kernels", "softmax.py"), ("search_spaces", "softmax.yaml")):
        shutil.copy(EXAMPLES / "own_kernel" / name, tmp_path / folder / "mine" / name)
    return tmp_path


@pytest.mark.thorough
def test_own_kernel_is_proved_compiled_and_tuned(project):
    def autotune(*words):
        return run(PYTHON, "-m", "autotune", *words, root=project)

    assert "right" in autotune("validate", "mine/softmax", "--device", "mi355x")
    compiled = autotune("compile", "mine/softmax", "--target", "gfx950,sm_90")
    assert "gfx950" in compiled and "sm_90" in compiled
    tuned = autotune(
        "tune", "mine/softmax", "--device", "mi355x", "--problem", "rows=64,cols=4096", "--tables", "tables"
    )
    assert "1 row of 1 written" in tuned
    run(PYTHON, "-m", "pytest", "tests/kernels/test_conformance.py", "-m", "not slow", "-k", "softmax", root=project)


def test_workflow_example_runs_commands_that_parse():
    steps = yaml.safe_load((EXAMPLES / "release_check/github.yml").read_text())["jobs"]["check"]["steps"]
    commands = [step["run"].split()[1:] for step in steps if step.get("run", "").startswith("autotune ")]
    assert len(commands) == 2
    from autotune import cli

    for words in commands:
        cli._parser().parse_args(words)


def test_compose_file_describes_a_cluster():
    """Only parsed: nothing here starts containers."""
    services = yaml.safe_load((EXAMPLES / "cluster/compose.yaml").read_text())["services"]
    assert set(services) == {"db", "head", "worker", "session"}
    words = services["session"]["command"]
    assert "--storage postgresql://tuner@db/trials" in words and "--ray auto" in words
    if shutil.which("docker") and subprocess.run(["docker", "compose", "version"], capture_output=True).returncode == 0:
        run("docker", "compose", "-f", str(EXAMPLES / "cluster/compose.yaml"), "config", "--quiet")


def test_every_example_is_in_the_list_of_examples():
    listed = (EXAMPLES / "README.md").read_text(encoding="utf-8")
    missing = [path.name for path in EXAMPLES.iterdir() if path.name not in listed and path.name != "README.md"]
    assert not missing
