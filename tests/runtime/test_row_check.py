"""Rows that no call could launch: never served, always said, and named by lint with all else that is wrong."""

import logging
from dataclasses import replace

import pytest

from autotune import device, registry, row_check, runtime, table
from autotune.check import lint, served_rows
from autotune.cli import main
from autotune.config import Config, key, parse
from autotune.errors import UsageError
from autotune.table import Row, Table

KERNEL, GPU = registry.load("gemm/fp8_block_scaled"), device.named("mi355x")
HEAD = Table(KERNEL.name, GPU.arch, GPU.name, KERNEL.identity.kernel, ())


def problem(m):
    return KERNEL.problem(m, 2048, 7168, "e4m3fn")


def row(m, **changes):
    return Row(key(problem(m)), Config({**KERNEL.default(problem(m), GPU), **changes}), "modeled", {}, "triton", "c")


def older(m):
    """A row of a kernel that had no BLOCK_K yet."""
    config = {name: value for name, value in row(m).config.items() if name != "BLOCK_K"}
    return replace(row(m), config=Config(config))


def of_form(**fields):
    """A row whose problem has other fields or kinds."""
    return replace(row(16), problem=tuple({**dict(row(16).problem), **fields}.items()))


@pytest.fixture
def tables(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path))
    runtime.forget()
    yield tmp_path
    runtime.forget()


def write(root, *rows, head=HEAD, kernel=KERNEL.name):
    path = table.path_of(root, GPU.arch, GPU.name, kernel)
    table.save(replace(head, rows=rows), path)
    return path


FLAWS = [
    (older(16), "stale", "it lacks BLOCK_K"),
    (row(16, TILE_K=64), "stale", "takes no 'TILE_K'"),
    (row(16, BLOCK_M=48), "invalid", "BLOCK_M must be a power of two, got 48"),
    (row(16, BLOCK_M=0), "invalid", "BLOCK_M must be a power of two, got 0"),
    (row(16, BLOCK_M=-16), "invalid", "BLOCK_M=-16 is no size"),
    (row(16, BLOCK_M=1 << 30), "invalid", "is no size that Triton compiles"),
    (row(16, BLOCK_M="64"), "invalid", "BLOCK_M must be an integer, got '64'"),
    (row(16, BLOCK_M=True), "invalid", "BLOCK_M must be an integer, got True"),
    (row(16, PERSISTENT=1), "invalid", "PERSISTENT must be true or false, got 1"),
    (row(16, SPLIT_K=0), "invalid", "SPLIT_K must be at least 1"),
    (row(16, num_warps=3), "invalid", "num_warps must be a power of two, got 3"),
    (row(16, num_warps=32), "invalid", "2048 threads on mi355x, a block has 1024"),
    (row(16, waves_per_eu="2"), "invalid", "waves_per_eu must be an integer"),
    (of_form(m="16"), "dead", "m must be int, got '16'"),
    (of_form(batch=1), "dead", "unknown problem field 'batch'"),
]


@pytest.mark.parametrize(("bad", "kind", "reason"), FLAWS, ids=[reason for _, _, reason in FLAWS])
def test_row_that_is_not_whole_serves_nothing(tables, bad, kind, reason):
    good, flaws = row_check.whole((row(64), bad), KERNEL, GPU)
    assert (good, list(flaws), flaws[bad].kind) == ((row(64),), [bad], kind)
    assert reason in flaws[bad].reason
    write(tables, bad, row(4096, GROUP_M=4))
    choice = runtime.choose(KERNEL, problem(16), GPU)
    assert (choice.how, choice.config["GROUP_M"]) == ("nearest", 4)
    assert kind in [one.kind for one in lint.tables(tables)]
    assert main(["explain", KERNEL.name, "m=16,n=2048,k=7168", "--device", GPU.name]) == 0


def test_row_from_before_a_field_means_its_default(tables):
    fields = {name: value for name, value in row(16).problem if name != "ue8m0"}
    settings = {name: value for name, value in row(16, GROUP_M=4).config.items() if name != "NATIVE_SCALING"}
    write(tables, replace(row(16), problem=tuple(fields.items()), config=Config(settings)))
    choice = runtime.choose(KERNEL, problem(16), GPU)
    assert (choice.how, choice.config) == ("exact", Config(settings))
    assert runtime.choose(KERNEL, replace(problem(16), ue8m0=True), GPU).how == "default"


def test_serving_warns_once_and_takes_default(tables, caplog):
    path = write(tables, older(16), row(64, num_warps=3))
    with caplog.at_level(logging.WARNING):
        for m in (16, 64, 100):
            assert runtime.choose(KERNEL, problem(m), GPU).config == KERNEL.default(problem(m), GPU)
    (said,) = caplog.messages
    assert f"{path}: 2 of 2 rows cannot serve" in said
    assert "its own row cannot serve: it lacks BLOCK_K" in runtime.explain(KERNEL, problem(16), GPU)
    assert "cannot serve, such as" in runtime.choose(KERNEL, problem(100), GPU).reason
    assert served_rows.of_table(path, KERNEL, GPU) == []


def test_table_without_rows_is_said(tables, caplog):
    path = write(tables)
    assert runtime.choose(KERNEL, problem(16), GPU).reason == f"{path} has no rows"
    assert [f"{path} has no rows" in message for message in caplog.messages] == [True]
    assert [one.kind for one in lint.tables(tables)] == ["empty"]


def test_missing_folder_of_tables_is_said_once(tmp_path, monkeypatch, caplog):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "none"))
    runtime.forget()
    runtime.choose(KERNEL, problem(16), GPU)
    runtime.choose(registry.load("norm/rms_norm"), registry.load("norm/rms_norm").problem(8, 1536), GPU)
    runtime.forget()
    assert [message for message in caplog.messages if str(tmp_path / "none") in message] == caplog.messages
    assert len(caplog.messages) == 1


def test_lint_names_everything_in_one_run(tables, capsys):
    good = write(tables, row(16))
    (tables / "gfx950/mi355x/gemm/bf16_linear.json").write_text(good.read_text())
    (tables / "gfx950/mi355x/gemm/bf16_grouped.json").write_text("{")
    (tables / "gfx950/mi355x/gemm/gone.json").write_text(good.read_text())
    (tables / "gfx950/mi355x/gemm/FP8.JSON").write_text(good.read_text())
    (tables / "fp8_block_scaled.json").write_text(good.read_text())
    write(tables, row(16), older(32), row(64, num_warps=3), row(128, num_stages=99))
    found = {(one.kind, one.place.partition(": ")[0].rpartition("/")[2]) for one in lint.tables(tables)}
    assert found >= {
        *(("misfiled", "bf16_linear.json"), ("damaged", "bf16_grouped.json"), ("dead", "gone.json")),
        *(("misnamed", "FP8.JSON"), ("misnamed", "fp8_block_scaled.json")),
        *(("stale", good.name), ("invalid", good.name), ("outside", good.name)),
    }
    assert main(["lint"]) == 1
    assert "nothing wrong" not in capsys.readouterr().out


def test_lint_says_that_folder_holds_no_table(tmp_path):
    assert [one.kind for one in lint.tables(tmp_path)] == ["empty"]


def test_byte_order_mark_is_no_damage(tables):
    path = write(tables, row(16))
    path.write_bytes(b"\xef\xbb\xbf" + path.read_bytes())
    assert runtime.choose(KERNEL, problem(16), GPU).how == "exact"


def test_field_that_stands_twice_is_refused(tables):
    with pytest.raises(UsageError, match="m stands twice"):
        parse(KERNEL.problem, "m=64,m=65,n=2048,k=7168,dtype=e4m3fn")
    path = write(tables, row(16))
    path.write_text(path.read_text().replace('"m":16', '"m":16, "m":17'))
    assert [one.kind for one in lint.tables(tables)] == ["damaged"]


def test_exports_and_validation_leave_such_rows_out(tables, tmp_path, capsys):
    write(tables, older(16), row(64))
    assert main(["export", "t4", KERNEL.name, "--device", GPU.name, "-o", str(tmp_path / "out"), "--json"]) == 0
    assert "m=16" in (said := capsys.readouterr().err) and "it lacks BLOCK_K" in said
    assert runtime.rows(KERNEL, GPU) == (row(64),)
