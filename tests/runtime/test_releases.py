"""Every Triton release that is said to work, in an environment made afresh: it tunes, compiles, proves and serves."""

import json
import os
import shutil
import subprocess
import venv
from pathlib import Path

import pytest

from autotune import table, toolchain

ROOT = Path(__file__).parents[2]
TORCH = "2.13.0"
"""Its CPU wheel; torch 2.11.0 has none, and its other one brings 2.6 GB of CUDA libraries."""

TESTS = [
    *("runtime/test_toolchain.py", "runtime/test_torch_ops.py", "runtime/test_device.py", "runtime/test_runtime.py"),
    *("runtime/test_bundle.py", "tuning/compilation/test_compile.py", "tuning/measurement/test_gpu.py"),
    *("tuning/test_interpreter_guards.py", "interpreter/test_corrections.py", "interpreter/test_sanitizer.py"),
    *("interpreter/test_validate.py", "interpreter/test_op_checks.py", "interpreter/test_bench_on_stand_in.py"),
]
PROVED = "rms_norm_quant or fp8_block_scaled or mxfp8_mxfp4 or mxfp4_grouped or paged_logits or qk_prep or topk"
"""Kernels whose sampled configs are proved: both forms of FP8, FP4, sorting, writing in place."""


@pytest.fixture
def python(request, tmp_path):
    """Runs the Python of an environment with one Triton release and all else as pip brings it (2 GB, removed)."""
    folder = tmp_path / "environment"
    shell = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    shell |= {"AUTOTUNE_STATE": str(tmp_path / "state"), "AUTOTUNE_TABLES": str(ROOT / "tuned_configs")}
    venv.create(folder, with_pip=True)

    def run(*arguments):
        command = [folder / "bin/python", *arguments]
        done = subprocess.run(command, cwd=ROOT, env=shell, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout[-5000:] + done.stderr[-3000:]
        return done.stdout

    pip = ("-m", "pip", "install", "-q", "--disable-pip-version-check")
    run(*pip, f"torch=={TORCH}")
    run(*pip, "--no-deps", f"triton=={request.param}")
    run(
        *pip, "-e", f"{ROOT}[tune]", "pytest", "hypothesis"
    )  # refuses where the package's floors are above these releases
    yield run
    shutil.rmtree(folder, ignore_errors=True)


@pytest.mark.slow
@pytest.mark.parametrize(("release", "python"), [(r, r) for r in toolchain.TRIED], indirect=["python"])
def test_release_tunes_and_proves_in_fresh_environment(release, python, tmp_path):
    assert python("-c", "import triton; print(triton.__version__)").strip() == release
    can = uses(python)
    for use in (use for use in toolchain.USES if use.extra in ("", "tune")):
        assert can[use.name] == toolchain.supports(use, release), use.name
    rows = tuned_rows(python, tmp_path / "tables")
    assert rows and all(row.toolchain.startswith(f"triton {release}") for row in rows)
    pytest_options = ("-m", "pytest", "-vv", "-p", "no:cacheprovider", "-m", "not slow and not gpu")
    python(*pytest_options, *(f"tests/{name}" for name in TESTS))
    proved = python(*pytest_options, "tests/kernels/test_conformance.py", "-k", f"sampled and ({PROVED})")
    assert "SKIPPED" not in proved


def uses(python):
    """Doctor's verdict on each use of the environment."""
    said = {row["check"]: row["ok"] == "yes" for row in json.loads(python("-m", "autotune", "doctor", "--json"))}
    return {use.name: said[use.name] for use in toolchain.USES}


def tuned_rows(python, tables):
    """The rows that a rehearsal writes, each proved in the interpreter."""
    where = ("--device", "h200", "--problem", "m=64,n=2048,k=7168", "--tables", str(tables))
    kernel = "gemm/fp8_block_scaled"
    python("-m", "autotune", "tune", kernel, *where, "--bench", "simulated:7", "--trials", "20")
    (path,) = tables.rglob("fp8_block_scaled.json")
    return table.load(path).rows
