"""The wheel, installed beside the package that owns the name `kernels` on PyPI."""

import subprocess
import sys
import venv
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

CODE = """
import sys, kernels, autotune, autotune.registry as registry, autotune.device as device, autotune.runtime as runtime
from autotune.tuning import space
assert "site-packages" in autotune.__file__ and str(sys.argv[1]) in autotune.__file__, autotune.__file__
assert hasattr(kernels, "get_kernel")
import autotune.kernels.gemm as gemm
kernel = registry.load("gemm/fp8_block_scaled")
assert gemm.fp8_block_scaled is kernel
gpu = device.named("mi355x")
assert space.load(kernel, gpu).size > 100
assert runtime.choose(kernel, kernel.problem(64, 2048, 7168, ue8m0=True), gpu).how == "exact"
print("both import")
"""


pytestmark = pytest.mark.thorough


@pytest.fixture(scope="module")
def distributions(tmp_path_factory):
    """Wheel and source archive, built while a table is being written: its lock file lies beside it."""
    out = tmp_path_factory.mktemp("dist")
    (ROOT / "tuned_configs/gfx950/mi355x/gemm/.lock").touch()
    subprocess.run([sys.executable, "-m", "build", "--outdir", str(out), str(ROOT)], check=True, capture_output=True)
    return out


def test_wheel_beside_pypis_kernels(distributions, tmp_path):
    env = tmp_path / "env"
    # torch, triton and the rest come from this environment; the two packages in question from the new one.
    venv.create(env, with_pip=True)
    python = env / "bin" / "python"
    site = next(env.glob("lib/*/site-packages"))
    outer = next(p for p in sys.path if p.endswith("site-packages"))
    (site / "outer.pth").write_text(outer + "\n")
    wheel = next(distributions.glob("*.whl"))
    install = [str(python), "-m", "pip", "install", "-q", "--disable-pip-version-check"]
    subprocess.run([*install, "--no-deps", "--ignore-installed", str(wheel)], check=True)
    subprocess.run([*install, "--ignore-installed", "kernels"], check=True)
    result = subprocess.run([str(python), "-c", CODE, str(env)], capture_output=True, text=True, cwd=tmp_path)
    assert result.stdout.strip() == "both import", result.stderr


def test_wheel_holds_licence_notices_and_type_marker(distributions):
    import zipfile

    with zipfile.ZipFile(next(distributions.glob("*.whl"))) as archive:
        names = {"/".join(name.split("/")[1:]) for name in archive.namelist()}
        (metadata,) = (name for name in archive.namelist() if name.endswith("dist-info/METADATA"))
        assert "License-Expression: Apache-2.0" in archive.read(metadata).decode()
    assert {"licenses/LICENSE", "licenses/NOTICE", "py.typed"} <= names
    assert not [name for name in names if name.endswith(".lock")]


def test_sdist_holds_trees(distributions):
    import tarfile

    with tarfile.open(next(distributions.glob("*.tar.gz"))) as archive:
        names = {"/".join(name.split("/")[1:]) for name in archive.getnames()}
    # Under the import path: the links of the checkout are followed once, and a wheel is built from this.
    assert "autotune/kernels/gemm/fp8_block_scaled.py" in names
    assert "autotune/search_spaces/gemm/fp8_block_scaled.yaml" in names
    assert "autotune/tuned_configs/gfx950/mi355x/gemm/fp8_block_scaled.json" in names
