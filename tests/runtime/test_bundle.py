"""A bundle made here is hit, not recompiled, by a fresh process that may not write."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from autotune import bundle, device, registry, runtime, table
from autotune.cli import main
from autotune.config import key
from autotune.errors import UsageError
from autotune.table import Row, Table
from autotune.toolchain import compiler_environment
from autotune.tuning.compilation import bundle_builder
from autotune.tuning.workers.worker import Limits

KERNEL = registry.load("norm/rms_norm_quant")

SERVE = """
import json, sys
from pathlib import Path
from triton.compiler.compiler import ASTSource
from autotune import bundle, device, registry, runtime
from autotune.tuning.compilation import launch

compiled = []
original = ASTSource.make_ir
ASTSource.make_ir = lambda self, *args, **kwargs: compiled.append(self.name) or original(self, *args, **kwargs)
manifest = bundle.use(Path(sys.argv[1]))
gpu = device.named(manifest.device)
kernel = registry.load("norm/rms_norm_quant")
keys = []
for rows in json.loads(sys.argv[2]):
    problem = kernel.problem(rows, 1536, False, not gpu.is_amd, dtype=gpu.fp8)
    config = runtime.choose(kernel, problem, gpu).config
    keys += [binary.hash for binary in launch.compile_launches(kernel, problem, config, gpu)]
print(json.dumps({"compiled": compiled, "keys": keys}))
"""


def problem(rows, gpu):
    return KERNEL.problem(rows, 1536, False, not gpu.is_amd, dtype=gpu.fp8)


@pytest.fixture(scope="module", params=["mi355x", pytest.param("b200", marks=pytest.mark.thorough)])
def made(request, tmp_path_factory):
    """(folder, device): a bundle for a table with two rows; the folder has moved since, and is read-only."""
    gpu, root = device.named(request.param), tmp_path_factory.mktemp("bundles")
    rows = [
        Row(key(problem(n, gpu)), KERNEL.default(problem(n, gpu), gpu), "modeled", {}, "triton", "c") for n in (1, 64)
    ]
    path = table.path_of(root / "tables", gpu.arch, gpu.name, KERNEL.name)
    table.save(Table(KERNEL.name, gpu.arch, gpu.name, KERNEL.identity.kernel, tuple(rows)), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOTUNE_TABLES", str(root / "tables"))
        runtime.forget()
        manifest, failed = bundle_builder.make(
            root / "made", gpu, {KERNEL.name: []}, Limits(processes=2), lambda *_: None
        )
        runtime.forget()
    assert not failed
    assert manifest.specialisations
    (root / "made").rename(root / "moved")
    for path in [root / "moved", *(root / "moved").rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    return root / "moved", gpu


def serve(folder, sizes, tmp_path):
    ordinary = {name: value for name, value in os.environ.items() if name not in compiler_environment()}
    environment = {
        **ordinary,
        "AUTOTUNE_TABLES": str(folder.parent / "tables"),
        "TRITON_CACHE_DIR": str(tmp_path / "ordinary"),
    }
    command = [sys.executable, "-c", SERVE, str(folder), json.dumps(sizes)]
    result = subprocess.run(command, capture_output=True, text=True, env=environment)
    assert result.returncode == 0, result.stderr[-2000:]
    return json.loads(result.stdout.splitlines()[-1])


def snapshot(folder):
    return {path: (path.stat().st_mtime_ns, path.stat().st_size) for path in folder.rglob("*")}


@pytest.mark.thorough
def test_serving_compiles_nothing_and_writes_nothing(made, tmp_path):
    folder, _ = made
    before = snapshot(folder)
    found = serve(folder, [1, 2, 16, 17, 64, 100, 4096], tmp_path)
    assert found["compiled"] == []
    assert set(found["keys"]) <= {k for one in bundle.read(folder).specialisations for k in one.keys}
    assert snapshot(folder) == before
    assert not (tmp_path / "ordinary").exists()


@pytest.mark.slow
def test_count_of_compiles_can_fail(made, tmp_path):
    """Without the binaries the same process does compile: the test above counts what it says it counts."""
    folder, _ = made
    empty = tmp_path / "empty"
    (empty / bundle.CACHE).mkdir(parents=True)
    shutil.copy(folder / bundle.MANIFEST, empty)
    shutil.copytree(folder.parent / "tables", tmp_path / "tables")
    assert serve(empty, [64], tmp_path)["compiled"]


def test_verify_names_what_is_missing(made, tmp_path, capsys, monkeypatch):
    import triton
    from triton.runtime import driver

    monkeypatch.setattr(triton.knobs.cache, "manager_class", triton.knobs.cache.manager_class)
    monkeypatch.setattr(driver, "_active", getattr(driver, "_active", None), raising=False)
    folder, _ = made
    monkeypatch.setenv("AUTOTUNE_TABLES", str(folder.parent / "tables"))
    runtime.forget()
    assert main(["bundle", "verify", str(folder)]) == 0
    copy = tmp_path / "copy"
    shutil.copytree(folder, copy, copy_function=shutil.copyfile)
    victim = next(path for path in (copy / bundle.CACHE).iterdir() if any(path.glob("__grp__*")))
    victim.parent.chmod(0o755)
    victim.chmod(0o755)
    shutil.rmtree(victim)
    assert main(["bundle", "verify", str(copy)]) == 1
    assert "no binary of key" in " ".join(capsys.readouterr().out.split())
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "none"))
    runtime.forget()
    assert main(["bundle", "verify", str(folder)]) == 2
    assert "made for other tables" in capsys.readouterr().err


@pytest.mark.parametrize("text", ["{", "[]", '{"format": 2}', '{"format": 1, "arch": 3}', "[" * 100_000])
def test_damaged_manifest_is_refused(tmp_path, text):
    (tmp_path / bundle.MANIFEST).write_text(text)
    with pytest.raises(UsageError, match=bundle.MANIFEST):
        bundle.read(tmp_path)


@pytest.mark.parametrize(("size", "classes"), [(64, (64, 1, 65)), (37, (37, 1, 32)), (1, (1, 16, 2)), (2, (2, 1, 16))])
def test_every_class_of_size_is_asked_for(size, classes):
    assert bundle_builder._classes(size) == classes


def test_folders_that_are_no_bundle_are_left_alone(tmp_path):
    (tmp_path / "precious").write_text("x")
    with pytest.raises(UsageError, match="not empty"):
        bundle_builder.make(tmp_path, device.named("mi355x"), {}, Limits(processes=1), lambda *_: None)
    assert [path.name for path in Path(tmp_path).iterdir()] == ["precious"]
