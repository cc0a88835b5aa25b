import pytest

from autotune import device, registry, runtime, table
from autotune.errors import TableError
from autotune.table import Row, Table

KERNEL = registry.load("gemm/fp8_block_scaled")
MI355X = device.named("mi355x")


def problem(m, n=2048, k=7168, dtype="e4m3fn"):
    return KERNEL.problem(m, n, k, dtype)


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path))
    runtime.forget()
    yield tmp_path
    runtime.forget()


def write(root, *rows, kernel=KERNEL.name):
    path = table.path_of(root, MI355X.arch, MI355X.name, KERNEL.name)
    table.save(Table(kernel, MI355X.arch, MI355X.name, "s", rows), path)
    return path


def row(m, tier="modeled", **changes):
    from autotune.config import Config, key

    config = Config({**KERNEL.default(problem(m), MI355X), **changes})
    return Row(key(problem(m)), config, tier, {}, "triton", "code")


def test_no_table_means_default(tables):
    choice = runtime.choose(KERNEL, problem(64), MI355X)
    assert (choice.how, choice.config) == ("default", KERNEL.default(problem(64), MI355X))
    assert "no table" in choice.reason


def test_exact_then_nearest(tables):
    write(tables, row(16, GROUP_M=1), row(64, GROUP_M=4))
    assert runtime.choose(KERNEL, problem(16), MI355X).how == "exact"
    near = runtime.choose(KERNEL, problem(50), MI355X)
    assert (near.how, near.config["GROUP_M"]) == ("nearest", 4)
    assert "m=64" in near.reason


def test_a_measured_row_is_preferred_to_a_nearer_modeled_one(tables):
    write(tables, row(16, "measured", GROUP_M=1), row(64, "modeled", GROUP_M=4))
    assert runtime.choose(KERNEL, problem(60), MI355X).row.tier == "measured"


def test_fixed_fields_must_agree(tables):
    write(tables, row(16))
    choice = runtime.choose(KERNEL, problem(16, n=4096), MI355X)
    assert choice.how == "default"
    assert "no row agrees" in choice.reason


def test_a_refused_row_is_passed_over(tables):
    write(tables, row(16, SPLIT_K=7 * 1024), row(64, GROUP_M=4))
    choice = runtime.choose(KERNEL, problem(16), MI355X)
    assert (choice.how, choice.config["GROUP_M"]) == ("nearest", 4)


def test_a_table_in_the_wrong_folder_is_refused(tables):
    write(tables, row(16), kernel="gemm/other")
    with pytest.raises(TableError, match="move it"):
        runtime.choose(KERNEL, problem(16), MI355X)


def test_damage_is_loud(tables):
    write(tables, row(16)).write_text("{")
    with pytest.raises(TableError, match="not JSON"):
        runtime.choose(KERNEL, problem(16), MI355X)


def test_explain_says_how_and_why(tables):
    write(tables, row(16))
    assert "nearest (modeled row of m=16" in runtime.explain(KERNEL, problem(17), MI355X)
