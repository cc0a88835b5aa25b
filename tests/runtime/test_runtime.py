import re
from dataclasses import replace

import pytest
import torch

from autotune import device, misses, registry, runtime, table
from autotune.errors import TableError, UsageError
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


@pytest.mark.parametrize("given", [None, MI355X])
def test_call_may_leave_out_defaults(tables, monkeypatch, given):
    kernel = registry.load("norm/rms_norm")
    monkeypatch.setattr(type(kernel), "home", lambda self, args: MI355X)
    x, weight = torch.empty(64, 1536, dtype=torch.bfloat16), torch.ones(1536)
    served = kernel.serve((x, weight), given)
    assert served is kernel.serve((x, weight, None), given)
    assert served.config == kernel.default(kernel.problem.of(kernel.arguments(x, weight)), MI355X)


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


def test_measured_row_is_preferred_to_nearer_modeled_one(tables):
    write(tables, row(16, "measured", GROUP_M=1), row(64, "modeled", GROUP_M=4))
    assert runtime.choose(KERNEL, problem(60), MI355X).row.tier == "measured"


def test_fixed_fields_must_agree(tables):
    write(tables, row(16))
    choice = runtime.choose(KERNEL, problem(16, n=4096), MI355X)
    assert choice.how == "default"
    assert "no row agrees" in choice.reason


def test_refused_row_is_passed_over(tables):
    write(tables, row(16, SPLIT_K=7 * 1024), row(64, GROUP_M=4))
    choice = runtime.choose(KERNEL, problem(16), MI355X)
    assert (choice.how, choice.config["GROUP_M"]) == ("nearest", 4)


def test_table_in_wrong_folder_is_refused(tables):
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


def serving(m, low, high, tier="modeled", **changes):
    return replace(row(m, tier, **changes), serves=(("m", low, high),))


def test_interval_serves_what_it_names_and_no_more(tables):
    write(tables, serving(64, 33, 90, GROUP_M=4), row(128, GROUP_M=1))
    for m, how in ((33, "interval"), (64, "exact"), (90, "interval"), (91, "nearest"), (32, "nearest")):
        choice = runtime.choose(KERNEL, problem(m), MI355X)
        assert choice.how == how, m
        assert how == "nearest" or choice.config["GROUP_M"] == 4
    assert "which serves m 33 to 90" in runtime.choose(KERNEL, problem(90), MI355X).reason


def test_of_rows_that_cover_problem_better_tier_serves(tables):
    write(tables, row(64, "modeled", GROUP_M=1), serving(100, 50, 200, "measured", GROUP_M=4))
    choice = runtime.choose(KERNEL, problem(64), MI355X)
    assert (choice.how, choice.tier) == ("interval", "measured")


def test_lookup_is_dictionary_that_stays_small(tables, monkeypatch):
    monkeypatch.setattr(runtime, "MOST", 3)
    write(tables, row(16))
    lookup = runtime.lookup(KERNEL, MI355X)
    for m in range(1, 9):
        assert lookup[m, 2048, 7168, "e4m3fn"] is lookup[m, 2048, 7168, "e4m3fn"]
    assert len(lookup) <= 3
    for m in range(1, 9):
        KERNEL.serve(problem(m).inputs(0, "meta"), MI355X)
    assert len(runtime.served(KERNEL.name)) <= 3


def test_hits_are_counted_by_how_and_tier(tables, monkeypatch):
    write(tables, serving(64, 33, 90))
    monkeypatch.setattr(KERNEL.__class__, "home", lambda *_: MI355X)
    monkeypatch.setattr(runtime, "hooks", seen := [])
    told = []
    seen.append(lambda kernel, problem, device, choice: told.append((kernel.name, problem.m, device, choice.how)))
    launched = []
    kernel = replace(KERNEL, launch=lambda *args, config, device: launched.append((config, device)))
    for m in (64, 64, 40, 64, 7):
        kernel(*problem(m).inputs(0, "meta"))
    counts = {how: number for (name, how, _), number in runtime.counts().items() if name == KERNEL.name}
    assert counts == {"exact": 3, "interval": 1, "nearest": 1}
    assert [(m, how) for _, m, _, how in told] == [(64, "exact"), (40, "interval"), (7, "nearest")]
    assert len(launched) == 5


def test_call_is_known_again_by_shapes_and_dtypes_alone(tables, monkeypatch):
    write(tables, row(64))
    monkeypatch.setattr(KERNEL.__class__, "home", lambda *_: MI355X)
    first = KERNEL.serve(problem(64).inputs(0, "cpu"))
    assert KERNEL.serve(problem(64).inputs(1, "cpu")) is first
    assert KERNEL.serve(problem(65).inputs(0, "cpu")) is not first
    assert KERNEL.serve(problem(64, dtype="e4m3fnuz").inputs(0, "cpu")) is not first


def test_defaults_left_out_are_same_call(tables, monkeypatch):
    norm = registry.load("norm/rms_norm_quant")
    monkeypatch.setattr(norm.__class__, "home", lambda *_: MI355X)
    x, weight, *_ = norm.problem(4, 1536, False, False).inputs(0, "meta")
    assert norm.serve((x, weight)) is norm.serve(norm.arguments(x, weight, None))
    assert norm.serve((x, weight)) is not norm.serve((x, weight, x))


def test_arguments_by_name_are_same_call(tables):
    norm, calls = registry.load("norm/rms_norm"), []
    kernel = replace(norm, launch=lambda *args, config, device: calls.append((args, config)))
    x, weight, residual = norm.problem(4, 1536, True).inputs(0, "meta")
    kernel(x, weight, residual, device=MI355X)
    kernel(x, residual=residual, weight=weight, device=MI355X)
    kernel(residual=residual, weight=weight, x=x, device=MI355X)
    assert calls[0] == calls[1] == calls[2]
    kernel(x, weight=weight, device=MI355X)
    assert calls[3][0] == (x, weight, None)


@pytest.mark.parametrize(
    ("named", "message"),
    [
        ({}, "norm/rms_norm: argument 'weight' is missing"),
        ({"weight": 1, "residul": 1}, "norm/rms_norm: unknown argument 'residul'; did you mean 'residual'?"),
        ({"weight": 1, "x": 1}, "norm/rms_norm: argument 'x' is given by position and by name"),
    ],
)
def test_wrong_argument_names_are_refused(named, message):
    x = torch.empty(4, 1536, dtype=torch.bfloat16, device="meta")
    with pytest.raises(UsageError, match=re.escape(message)):
        registry.load("norm/rms_norm")(x, device=MI355X, **named)


def test_misses_are_written_once_each_and_read_back(tables, tmp_path):
    write(tables, serving(64, 33, 90))
    path = tmp_path / "engine" / "misses.jsonl"
    stop = misses.record(path)
    for m in (64, 40, 7, 7, 200):
        runtime.choose(KERNEL, problem(m), MI355X)
    stop()
    runtime.choose(KERNEL, problem(300), MI355X)
    found = misses.read(path)
    assert [dict(miss.problem)["m"] for miss in found] == [7, 200]
    assert {(miss.kernel, miss.device) for miss in found} == {(KERNEL.name, "mi355x")}


def test_file_of_misses_is_bounded(tables, tmp_path, monkeypatch):
    monkeypatch.setattr(misses, "LIMIT_BYTES", 500)
    stop = misses.record(tmp_path / "misses")
    for m in range(1, 100):
        runtime.choose(KERNEL, problem(m), MI355X)
    stop()
    assert 500 <= (tmp_path / "misses").stat().st_size < 800


@pytest.mark.parametrize("line", ["[]", "{", '{"kernel": 1, "device": "x", "problem": {}}', "[" * 100000, '"a"'])
def test_bad_line_of_misses_is_named(tmp_path, line):
    path = tmp_path / "misses"
    path.write_text(f"{line}\n")
    with pytest.raises(UsageError, match="line 1"):
        misses.read(path)


def test_torn_last_line_is_left_out(tmp_path):
    path = tmp_path / "misses"
    path.write_text('{"kernel": "a/b", "device": "x", "problem": {"m": 1}}\n{"kernel": "a')
    assert len(misses.read(path)) == 1
