"""`pip install` of our wheel in the environments of engines changes no version that is there; an environment without
our extras serves."""

import json
import os
import shutil
import subprocess
import sys
import tomllib
import venv
from importlib import metadata
from pathlib import Path

import pytest
from packaging.requirements import Requirement

from autotune import packages, registry, toolchain
from autotune.check import engine_source

ROOT = Path(__file__).parents[1]
RELEASES = {
    **{f"vllm==0.{minor}.0": "3.7.1" for minor in range(29, 33)},
    "vllm==0.33.0": "3.8.0",
    **{f"sglang==0.5.{patch}": "3.7.1" for patch in range(18, 22)},
    **{f"sglang==0.5.{patch}": "3.8.0" for patch in range(22, 24)},
}
"""Engine releases, and the Triton that their torch pins."""

COMMON = {
    "numpy": "1.26.4",
    "pandas": "2.2.3",
    "scipy": "1.13.1",
    "PyYAML": "6.0.2",
    "networkx": "3.3",
    "rich": "13.9.4",
}
"""Packages that images have beside the pins, in old versions: pip would take newer ones if our floors asked."""

ROCM = {
    "triton under another name": {"torch": "2.11.0+rocm7.2", "triton-rocm": "3.7.1+rocm"},
    "pytorch's name of it": {"torch": "2.9.1+rocm7.1", "pytorch-triton-rocm": "3.5.1+git7e2a1f2"},
    "triton built from a commit": {"torch": "2.12.0+rocm10.0", "triton": "3.8.0+git4cff872c"},
}


def stub(site, name, version, requires=()):
    """A distribution that pip finds installed, and of which there is nothing but the name."""
    folder = site / f"{name.replace('-', '_')}-{version}.dist-info"
    folder.mkdir(parents=True)
    lines = [f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}", *(f"Requires-Dist: {one}" for one in requires)]
    (folder / "METADATA").write_text("\n".join(lines) + "\n")
    (folder / "INSTALLER").write_text("pip\n")
    (folder / "RECORD").write_text("")


def environment(folder, pins):
    """A new environment that holds `pins`, by name, and no more; its Python."""
    venv.create(folder, with_pip=False)
    (site,) = folder.glob("lib/*/site-packages")
    for name, version in pins.items():
        stub(site, name, version)
    return folder / "bin/python"


def would_install(python, wanted):
    """Names of what `pip install` would install."""
    pip = [sys.executable, "-m", "pip", "--python", str(python), "install", "--disable-pip-version-check", "-q"]
    shell = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    report = subprocess.run([*pip, "--dry-run", "--report", "-", wanted], capture_output=True, text=True, env=shell)
    assert report.returncode == 0, report.stderr
    installs = json.loads(report.stdout)["install"]
    return {item["metadata"]["name"].lower().replace("_", "-"): item["metadata"]["version"] for item in installs}


@pytest.fixture(scope="module")
def wheel(tmp_path_factory):
    out = tmp_path_factory.mktemp("dist")
    build = [sys.executable, "-m", "build", "--wheel", "--outdir", str(out), str(ROOT)]
    subprocess.run(build, check=True, capture_output=True)
    return next(out.glob("*.whl"))


def changes_nothing(wheel, python, pins):
    assert set(would_install(python, str(wheel))) == {packages.DISTRIBUTION}
    tuning = would_install(python, f"{wheel}[tune]")
    assert {"optuna", "pyelftools"} <= set(tuning)
    assert not set(tuning) & {name.lower() for name in pins}
    assert not {"torch", "triton"} & set(tuning)


@pytest.mark.slow
@pytest.mark.parametrize("release", RELEASES)
def test_pip_changes_no_version_of_engine(release, wheel, tmp_path):
    (found,) = engine_source.find(release, tmp_path).folder.glob("*.dist-info/METADATA")
    lines = [line.partition(": ")[2] for line in found.read_text().splitlines() if line.startswith("Requires-Dist:")]
    asked = [one for one in map(Requirement, lines) if one.marker is None or one.marker.evaluate({"extra": ""})]
    exact = {one.name: one.specifier for one in asked if str(one.specifier).startswith("==")}
    pins = {name: str(version).removeprefix("==") for name, version in exact.items()}
    assert "torch" in pins
    pins = COMMON | pins | {"triton": RELEASES[release]}
    changes_nothing(wheel, environment(tmp_path / "env", pins), pins)


@pytest.mark.slow
@pytest.mark.parametrize("image", ROCM)
def test_pip_changes_no_version_of_rocm_image(image, wheel, tmp_path):
    pins = COMMON | ROCM[image]
    changes_nothing(wheel, environment(tmp_path / "env", pins), pins)


SERVES = """
from autotune import device, registry, runtime
from autotune.tuning.compilation.launch import compile_launches
kernel, gpu = registry.load("gemm/fp8_block_scaled"), device.named("mi355x")
problem = kernel.problem(64, 2048, 7168, ue8m0=True)
choice = runtime.choose(kernel, problem, gpu)
print(choice.how, len([registry.load(name) for name in registry.names()]))
print(compile_launches(kernel, problem, choice.config, gpu)[0].asm["amdgcn"][:1])
"""
"""A lookup, and a call on a driver that compiles for a GPU that is not there."""


@pytest.mark.slow
def test_oldest_torch_serves_without_extras(wheel, tmp_path):
    """5 GB: torch before 2.13 has no small wheel on PyPI."""
    venv.create(tmp_path / "env", with_pip=True)
    python = tmp_path / "env/bin/python"
    shell = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    pip = [python, "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*pip, f"torch=={toolchain.SERVE.oldest_torch}"], check=True, env=shell)
    subprocess.run([*pip, "--no-deps", f"triton=={toolchain.SERVE.oldest}", str(wheel)], check=True, env=shell)
    done = subprocess.run([python, "-c", SERVES], cwd=tmp_path, env=shell, capture_output=True, text=True)
    shutil.rmtree(tmp_path / "env")
    assert done.stdout.split()[:2] == ["exact", str(len(registry.names()))], done.stderr


def extras():
    return tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]


def test_wheel_requires_nothing_and_no_extra_names_torch_or_triton():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["dependencies"] == []
    named = {extra: {Requirement(one).name for one in asked} for extra, asked in extras().items()}
    assert named.pop("cpu") == set(packages.LAUNCHERS)
    assert not [extra for extra, names in named.items() if names & set(packages.LAUNCHERS)]


def test_modules_of_extras_are_those_of_their_distributions():
    assert packages.EXTRAS.keys() == extras().keys() - {"cpu"}
    homes = metadata.packages_distributions()
    for extra, modules in packages.EXTRAS.items():
        asked = {Requirement(one).name.lower() for one in extras()[extra]}
        assert len(asked) == len(modules)
        for module in set(modules) & homes.keys():
            assert asked & {name.lower() for name in homes[module]}, module


HIDING = """
import sys
from importlib.machinery import PathFinder
hidden, words = set(sys.argv[1].split(",")), sys.argv[2:]
real = PathFinder.find_spec
def find_spec(name, path=None, target=None):
    return None if name.partition(".")[0] in hidden else real(name, path, target)
PathFinder.find_spec = find_spec
from autotune.cli import main
sys.exit(main(words))
"""


def without(modules, *words):
    """Runs a command where `modules` are not installed."""
    command = [sys.executable, "-c", HIDING, ",".join(modules), *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


TUNING = sorted({*packages.EXTRAS["tune"]} - {"numpy", "networkx"})  # these two come with torch
PROBLEM = ("gemm/fp8_block_scaled", "m=64,n=2048,k=7168,ue8m0=true", "--device", "mi355x")


@pytest.mark.thorough
def test_commands_of_serving_need_no_extra():
    assert "exact" in without(TUNING, "explain", *PROBLEM).stdout
    assert "mi300x" in without(TUNING, "devices").stdout
    doctor = without(TUNING, "doctor", "--json")
    assert doctor.returncode == 0, "an image that only serves is not at fault"
    rows = {row["check"]: row for row in json.loads(doctor.stdout)}
    assert rows["serve tuned configs"]["ok"] == "yes"
    for use in ("compile and tune", "prove configs in the interpreter", "compile for AMD"):
        assert rows[use]["ok"] == "NO"
        assert 'pip install "deepseek-autotune[tune]"' in rows[use]["detail"]


def test_command_without_its_extra_says_how_to_install_it():
    refused = without(["optuna", "elftools"], "tune", "norm/rms_norm", "--device", "h100")
    assert refused.returncode == 2
    words = 'error: optuna, elftools are not installed; pip install "deepseek-autotune[tune]"'
    assert refused.stderr.splitlines()[0] == words


@pytest.mark.parametrize("words", [("explain", *PROBLEM), ("doctor",)])
def test_missing_triton_is_said_with_remedy(words):
    refused = without(["triton"], *words)
    assert refused.returncode in (1, 2)
    said = " ".join((refused.stdout + refused.stderr).split())
    assert "triton is not installed: kernels need torch and Triton" in said
    assert '"deepseek-autotune[cpu]"' in said.replace("pip install ", "")
