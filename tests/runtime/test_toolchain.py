"""Facts of compilers lie in one place, and every other place that names a release agrees with it."""

import importlib.metadata
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import triton

from autotune import arch as archs
from autotune import toolchain
from autotune.cli import doctor, main
from autotune.errors import ToolchainError, UsageError

ROOT = Path(__file__).parents[2]


@pytest.mark.parametrize("suffix", ["", "+git4cff872c", "+rocm7.1.0.gitb0e26b73", ".post1", "rc2", ".dev20261101"])
def test_release_survives_every_suffix_of_version(suffix):
    assert toolchain.release(f"3.10.1{suffix}") == (3, 10)


def test_release_refuses_what_is_no_version():
    with pytest.raises(UsageError, match="'main': expected a release such as"):
        toolchain.release("main")


def test_order_sorts_post_releases_and_two_digit_numbers():
    versions = ["3.10.0", "3.8.0.post1", "3.9.0", "3.8.0"]
    assert sorted(versions, key=toolchain.order) == ["3.8.0", "3.8.0.post1", "3.9.0", "3.10.0"]


def test_triton_of_row_is_read_with_its_suffix():
    assert toolchain.recorded_triton("triton 3.8.0+git4cff872c, ptxas 13.0.88") == "3.8.0+git4cff872c"
    assert toolchain.recorded_triton("triton 3.9.0") == "3.9.0"
    assert toolchain.recorded_triton("unknown") is None


def test_uses_begin_with_oldest_release_tried():
    assert all(toolchain.supports(use, version) for use in toolchain.USES for version in toolchain.TRIED)
    assert toolchain.supports(toolchain.PROVE, "3.12.0+gitabc"), "a newer release is given the chance"


def test_refusal_names_what_is_missing_and_remedy():
    with pytest.raises(
        ToolchainError,
        match=r"3\.6\.0 is too old .*block-scaled products; Triton 3\.7 to .*pip install triton==3\.9\.0",
    ):
        toolchain.require(toolchain.MEASURE_FP4, "3.6.0")


def test_arch_newer_than_compiler_is_refused_in_words():
    with pytest.raises(ToolchainError, match=r"3\.8\.0 is too old to compile for sm_107: .*Triton 3\.9 is known"):
        toolchain.require_arch("sm_107", "3.8.0")
    toolchain.require_arch("sm_107", "3.9.1+gitabc")
    assert {archs.named(name).oldest_triton for name in archs.names()} <= set(toolchain.TRIED)


def test_importing_module_imports_no_compiler():
    code = "import autotune.toolchain, sys; print({'torch', 'triton'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"


def test_caller_of_compiler_keeps_its_fusion_flag(monkeypatch):
    monkeypatch.setenv("TRITON_DEFAULT_FP_FUSION", "0")
    assert toolchain.compiler_environment() == {"TRITON_DEFAULT_FP_FUSION": "0"}
    monkeypatch.delenv("TRITON_DEFAULT_FP_FUSION")
    assert toolchain.compiler_environment() == {"TRITON_DEFAULT_FP_FUSION": "1"}


def test_only_one_module_names_fusion_flag():
    homes = {p.name for p in (ROOT / "autotune").rglob("*.py") if "TRITON_DEFAULT_FP_FUSION" in p.read_text()}
    assert homes == {"toolchain.py"}


NAMING_RELEASES = ["Makefile", "README.md", ".github/workflows/release-check.yml", "autotune/**/*.py"]


@pytest.mark.parametrize("pattern", NAMING_RELEASES)
def test_every_triton_named_elsewhere_was_tried(pattern):
    texts = [path.read_text(encoding="utf-8") for path in ROOT.glob(pattern)]
    named = {version for text in texts for version in re.findall(r"triton==(\d[\w.+]*)", text)}
    assert named
    assert named <= set(toolchain.TRIED)
    assert toolchain.NEWEST in named


def test_messages_name_no_range_of_releases_of_their_own():
    """Ranges are `Triton 3.6 to 3.9`, `(3, 8)`, or a look into metadata; `triton==X` in a command is none."""
    pattern = re.compile(r"\b3\.\d (to|or|-) 3\.\d|[<>=] \(3, \d\)|metadata.version\(.triton")
    texts = {path.name: path.read_text(encoding="utf-8") for path in (ROOT / "autotune").rglob("*.py")}
    assert not [(name, found[0]) for name, text in texts.items() if (found := pattern.search(text))]


def test_floors_of_package_are_what_was_tried():
    requirements = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]["cpu"]
    floors = dict(requirement.split(">=") for requirement in requirements)
    assert floors["torch"] == toolchain.OLDEST_TORCH.removesuffix(".0")
    assert floors["triton"] == toolchain.TRIED[0].removesuffix(".0")
    assert f"torch>={floors['torch']}" in (ROOT / "Makefile").read_text()
    said = f"Python 3.11, torch {floors['torch']} and Triton {floors['triton']} are the oldest that work"
    assert said in (ROOT / "README.md").read_text()


def test_doctor_says_which_uses_release_has(monkeypatch, capsys):
    uses = (toolchain.SERVE, toolchain.TUNE, toolchain.PROVE)
    for version, answer in (("3.6.0+git4cff872c", "yes"), ("3.5.1", "NO")):
        monkeypatch.setattr(doctor, "triton_version", lambda version=version: version)
        main(["doctor", "--json"])
        rows = {row["check"]: row for row in json.loads(capsys.readouterr().out)}
        assert [rows[use.name]["ok"] for use in uses] == [answer] * 3
        assert "pip install triton==" in rows[toolchain.TUNE.name]["detail"] or answer == "yes"


def test_doctor_needs_no_distribution_named_triton(monkeypatch, capsys):
    """ROCm's is named triton-rocm or pytorch-triton-rocm."""
    real = importlib.metadata.version

    def version(name):
        if name == "triton":
            raise importlib.metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(importlib.metadata, "version", version)
    assert main(["doctor", "--json"]) == 0
    assert f"triton {triton.__version__}" in capsys.readouterr().out
