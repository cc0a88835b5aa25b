"""Identities of kernels change with their meaning, never with comments, docstrings or formatting."""

import shutil
from dataclasses import asdict
from pathlib import Path

import pytest

import autotune
from autotune import identity

KERNELS = Path(autotune.__file__).parent / "kernels"
GEMM, NORM, MHC = "gemm/fp8_block_scaled", "norm/rms_norm_quant", "hyperconnection/mhc_pre"


@pytest.fixture
def folder(tmp_path):
    """A copy of the kernels, to be edited."""
    return Path(shutil.copytree(KERNELS, tmp_path / "kernels", ignore=shutil.ignore_patterns("__pycache__")))


def read(folder, kernel):
    identity._module.cache_clear()
    path = folder / f"{kernel}.py"
    return identity.read(path, path.stem)


def edited(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after, 1))


def everywhere(folder):
    names = sorted(f"{p.parent.name}/{p.stem}" for p in folder.glob("*/[!_]*.py"))
    return {name: read(folder, name) for name in names}


def test_identity_ignores_comments_docstrings_and_formatting(folder):
    before = read(folder, GEMM)
    edited(folder / "_launch.py", '    """Keywords', '    # A comment.\n    """Other words for keywords')
    edited(folder / f"{GEMM}.py", "blocks = k // 128", "blocks = (\n        k // 128\n    )  # groups")
    assert read(folder, GEMM) == before


@pytest.mark.thorough
def test_constant_of_device_helper_changes_its_readers(folder):
    edited(folder / "_quant.py", "AMAX_FLOOR = ", "AMAX_FLOOR = 2 * ")
    after, before = everywhere(folder), everywhere(KERNELS)
    changed = {name for name in after if after[name].kernel != before[name].kernel}
    assert {NORM, "quant/fp8_group_quant"} <= changed
    assert not changed & {GEMM, "sampling/greedy", "moe/combine"}


@pytest.mark.thorough
def test_device_function_changes_exactly_its_callers(folder):
    edited(folder / "norm" / "_residual.py", "h += tl.load(", "h -= tl.load(")
    after, before = everywhere(folder), everywhere(KERNELS)
    changed = {name for name in after if after[name] != before[name]}
    assert changed == {name for name in after if "load_sum" in (folder / f"{name}.py").read_text()}
    assert all(after[name].proof == before[name].proof for name in changed)


@pytest.mark.parametrize(
    ("kernel", "file", "before", "after", "part"),
    [
        (GEMM, f"{GEMM}.py", "value = wide_a @ wide_b.T", "value = 1.0 * (wide_a @ wide_b.T)", "proof"),
        (GEMM, "gemm/_scales.py", "0.01, 0.1", "0.01, 0.2", "proof"),
        (MHC, "hyperconnection/_projection.py", "torch.float32, k**-0.5)", "torch.float32, k**-0.4)", "proof"),
        (GEMM, f"{GEMM}.py", "reduction_bytes=2 * partials", "reduction_bytes=3 * partials", "work"),
    ],
    ids=["reference", "drawn inputs", "inputs of a shared base", "work"],
)
def test_edit_changes_one_part_only(folder, kernel, file, before, after, part):
    old = asdict(read(folder, kernel))
    edited(folder / file, before, after)
    new = asdict(read(folder, kernel))
    assert {name for name in old if new[name] != old[name]} == {part}


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("acc, a, b, a_scale_rows", "acc, a, a, a_scale_rows"),
        ("split_buffers(c, split, tiles, device)", "split_buffers(c, split, m, device)"),
        ("block_n % GROUP", "GROUP % block_n"),
        ("problem.m <= 64", "problem.m <= 32"),
    ],
    ids=["device code", "launcher", "reject", "default"],
)
def test_code_that_serves_changes_kernel(folder, before, after):
    old = read(folder, GEMM)
    edited(folder / f"{GEMM}.py", before, after)
    new = read(folder, GEMM)
    assert new.kernel != old.kernel
    assert new.proof == old.proof
