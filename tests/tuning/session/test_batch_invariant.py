"""Batch-invariant tuning: what an order of reduction is, which one is chosen, and that equal orders give equal bits."""

import json
import random
from dataclasses import replace

import pytest

from autotune import device, misses, registry, runtime, table
from autotune.check import lint
from autotune.cli import main
from autotune.config import Config, key
from autotune.errors import SpaceError, TableError
from autotune.origin import SPACES
from autotune.table import Row, Table
from autotune.tuning import space
from autotune.tuning.compilation import bundle_builder
from autotune.tuning.jobs import RowsJob, compile_job, rows_job
from autotune.tuning.session.batch_invariant import OneOrder, price
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.selection import Searched
from autotune.tuning.validation.reduction_order import order
from autotune.tuning.validation.row_batches import batches
from autotune.tuning.workers.worker import Job, Limits, Workers

GPU = device.named("h100")
GEMM = registry.load("gemm/bf16_linear")
SPACE = space.load(GEMM, GPU)
SMALL, LARGE = GEMM.problem(1, 512, 7168), GEMM.problem(4096, 512, 7168)


def config(**changes):
    return Config({**GEMM.default(LARGE, GPU), **changes})


def test_order_follows_parameters_and_matrix_instruction():
    def of(**changes):
        return order(config(**changes), SPACE.reduction, GPU)

    assert of(BLOCK_N=64) == of(BLOCK_N=128) == of(GROUP_M=1)
    assert len({of(BLOCK_K=64), of(BLOCK_K=128), of(BLOCK_K=64, SPLIT_K=2)}) == 3
    assert of(BLOCK_M=64, num_warps=4) == of(BLOCK_M=128, num_warps=8)
    assert of(BLOCK_M=32, num_warps=4) != of(BLOCK_M=64, num_warps=4) != of(BLOCK_M=64, num_warps=2)


@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("gpu", ["mi355x", "b200"])
def test_every_space_says_what_its_order_follows_from(name, gpu):
    path = SPACES / f"{name}.yaml"
    assert "\nreduction: [" in path.read_text()
    loaded = space.load(registry.load(name), device.named(gpu))
    assert set(loaded.reduction) <= set(loaded.lists)
    splits = {"SPLIT_K", "BLOCK_K", "SPLIT_KV"} & set(loaded.lists)
    assert splits <= set(loaded.reduction)


def test_space_that_fixes_nothing_openly_is_refused(tmp_path):
    text = (SPACES / "gemm/bf16_linear.yaml").read_text()
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("reduction:")]
    path = tmp_path / "gemm/bf16_linear.yaml"
    path.parent.mkdir()
    path.write_text("".join(lines))
    assert set(space.load(GEMM, GPU, tmp_path).reduction) == set(SPACE.lists)
    for wrong in ("[BLOCK_Q]", "7", "[[BLOCK_K]]", "{BLOCK_K: 1}"):
        path.write_text(f"reduction: {wrong}\n" + "".join(lines))
        with pytest.raises(SpaceError, match="reduction"):
            space.load(GEMM, GPU, tmp_path)


def searched(problem, times, weight=1, incumbent=None):
    return Searched(problem, {c: {"us": us} for c, us in times.items()}, config(), incumbent, weight)


A, B = config(SPLIT_K=1), config(SPLIT_K=4)
NARROW = replace(SPACE, lists={name: (value,) for name, value in A.items()} | {"SPLIT_K": (1, 2, 4, 8)})


def decide(free, staying=(), times=None):
    """With searches within an order that find what the free ones found of it."""
    rule = OneOrder(Subject.of(GEMM, GPU), NARROW)

    def search(orders):
        found = {one.problem: one.outcomes for one in free}
        return {p: {c: o for c, o in found[p].items() if rule.of(c) == wanted} for p, wanted in orders.items()}

    return (rule, *rule.decide(free, staying, search))


def test_least_weighted_total_decides_and_price_is_told():
    free = [searched(SMALL, {A: 20.0, B: 10.0}), searched(LARGE, {A: 100.0, B: 130.0})]
    rule, (choice,), kept = decide(free)
    assert choice.order == rule.of(A)
    assert choice.over_free == {SMALL: 2.0, LARGE: 1.0}
    assert [set(one.outcomes) for one in kept] == [{A}, {A}]
    assert price([choice], {SMALL: 1, LARGE: 1}) == pytest.approx(2**0.5)
    rule, (choice,), _ = decide([replace(free[0], weight=10), free[1]])
    assert choice.order == rule.of(B)


def test_rows_that_stay_hold_order():
    row = Row((("m", 77), ("n", 512), ("k", 7168)), B, "measured", {"deterministic": {}}, "", "")
    other = replace(row, problem=(("m", 77), ("n", 1024), ("k", 7168)))
    free = [searched(SMALL, {A: 1.0, B: 10.0}), searched(LARGE, {A: 1.0, B: 130.0})]
    rule, (choice,), _ = decide(free, [row])
    assert choice.order == rule.of(B)
    assert decide(free, [other])[1][0].order == rule.of(A), "another family has its own order"


def test_within_tie_incumbents_order_stays():
    free = [searched(SMALL, {A: 10.0, B: 10.1}, incumbent=B)]
    rule, (choice,), _ = decide(free)
    assert choice.order == rule.of(B)


def test_deterministic_table_says_so_and_takes_no_other_rows(tmp_path):
    row = Row((("m", 1),), Config(BLOCK_M=16), "modeled", {"deterministic": {"order": "any"}}, "", "")
    whole = Table("gemm/bf16_linear", "sm_90", "h100", "0" * 16, (row,), deterministic=True)
    text = table.dumps(whole)
    assert '"deterministic": true,' in text
    assert table.loads(text, "here") == whole
    free = replace(row, evidence={})
    unnamed = replace(row, evidence={"deterministic": {"batches": 4}})
    with pytest.raises(TableError, match="--deterministic"):
        whole.merged([free])
    for wrong in (free, unnamed):
        with pytest.raises(TableError, match=r"row 1 \(line 9\)"):
            table.loads(table.dumps(replace(whole, rows=(wrong,))), "here")
    with pytest.raises(TableError, match="must be true or absent"):
        table.loads(text.replace('"deterministic": true', '"deterministic": false'), "here")


ROW = Row(
    key(GEMM.problem(64, 512, 7168)), config(BLOCK_M=16), "modeled", {"deterministic": {"order": "SPLIT_K=1"}}, "", ""
)


@pytest.fixture
def serving(tmp_path, monkeypatch):
    """Serves rows, one where none is given, from a deterministic table."""
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path))
    source = registry.load(GEMM.name).identity.kernel

    def put(*rows, deterministic=True):
        whole = Table(GEMM.name, GPU.arch, GPU.name, source, rows or (ROW,), deterministic)
        table.save(whole, table.path_of(tmp_path, GPU.arch, GPU.name, GEMM.name))
        runtime.forget()

    yield put
    runtime.forget()


def test_deterministic_table_serves_its_order_or_nothing(serving, monkeypatch, tmp_path):
    serving()
    near, other = GEMM.problem(3, 512, 7168), GEMM.problem(64, 1024, 7168)
    assert runtime.choose(GEMM, near, GPU).config == ROW.config, "another size of a family has its order"
    stop = misses.record(tmp_path / "misses.jsonl")
    remedy = r"is deterministic.*no row agrees.*--deterministic --tables .*m=64,n=1024"
    for _ in range(2):
        with pytest.raises(TableError, match=remedy):
            runtime.choose(GEMM, other, GPU)
    stop()
    assert {one.problem for one in misses.read(tmp_path / "misses.jsonl")} == {key(other)}
    never = replace(GEMM, reject=lambda problem, config, gpu: "it is not allowed here")
    runtime.forget()
    with pytest.raises(TableError, match="none of 1 near rows is allowed"):
        runtime.choose(never, near, GPU)


def test_where_nothing_is_added_up_any_config_keeps_order(serving):
    serving(replace(ROW, evidence={"deterministic": {"order": "any"}}))
    assert runtime.choose(GEMM, GEMM.problem(64, 1024, 7168), GPU).how == "default"
    serving(deterministic=False)
    assert runtime.choose(GEMM, GEMM.problem(64, 1024, 7168), GPU).how == "default"


def test_explain_says_that_deterministic_table_refuses(serving, capsys):
    serving()
    asked = ["explain", GEMM.name, "m=64,n=1024,k=7168", "--device", GPU.name]
    assert main(asked) == 0
    said = capsys.readouterr().out
    assert "  how     refused\n" in said
    assert said.endswith("  config  none\n")
    assert main([*asked, "--json"]) == 0
    (told,) = json.loads(capsys.readouterr().out)
    assert (told["how"], told["config"]) == ("refused", {})


def test_lint_and_bundles_skip_what_deterministic_refuses(serving, tmp_path):
    serving()
    other = GEMM.problem(64, 1024, 7168)
    (hole,) = lint.holes(tmp_path, GPU, {GEMM.name: [other, GEMM.problem(64, 512, 7168)]})
    assert "refused" in hole.reason
    bundled = list(bundle_builder.jobs(GEMM, GPU, [other]))
    assert {dict(job.problem)["n"] for job in bundled} == {512}


def test_deterministic_table_of_two_orders_is_refused(serving):
    second = replace(ROW, problem=key(GEMM.problem(128, 512, 7168)), evidence={"deterministic": {"order": "SPLIT_K=2"}})
    serving(ROW, second)
    with pytest.raises(TableError, match="2 orders"):
        runtime.choose(GEMM, GEMM.problem(64, 512, 7168), GPU)
    apart = replace(second, problem=key(GEMM.problem(128, 1024, 7168)))
    serving(ROW, apart)
    assert runtime.choose(GEMM, GEMM.problem(64, 512, 7168), GPU).how == "exact"
    serving(ROW, second, deterministic=False)
    assert runtime.choose(GEMM, GEMM.problem(64, 512, 7168), GPU).how == "exact"


def test_batches_have_tails_and_stay_inside():
    assert batches(150, 128) == [(1, (74, 149, 0)), (127, (11, 23, 0)), (129, (10, 21, 0)), (150, (0,))]
    assert batches(1, 128) == [(1, (0,))]


@pytest.fixture(scope="module")
def provers(tmp_path_factory):
    with Workers(Limits(timeout_s=240), tmp_path_factory.mktemp("state"), interpret=True) as workers:
        yield workers


def rows_of(provers, kernel, problems, pair, gpu):
    return provers.submit(rows_job, RowsJob(kernel.name, tuple(map(key, problems)), tuple(pair), gpu.name)).result()


@pytest.mark.thorough
def test_another_order_has_other_bits(provers):
    problem = [GEMM.problem(3, 16, 256)]
    small = {"BLOCK_M": 16, "BLOCK_N": 32, "num_warps": 4}
    alike = [config(**small, BLOCK_K=64, SPLIT_K=1), config(**small | {"BLOCK_N": 64}, BLOCK_K=64, SPLIT_K=1)]
    assert rows_of(provers, GEMM, problem, alike, GPU)["batches"] >= 4
    for other in ({"SPLIT_K": 2, "BLOCK_K": 64}, {"SPLIT_K": 4, "BLOCK_K": 32}):
        answer = rows_of(provers, GEMM, problem, [alike[0], config(**small, **other)], GPU)
        assert "other bits" in answer["failed"]


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("attention/dense_mqa", (3, 8, 20)),
        ("compressor/decode_pool", (5, 4, 96)),
        ("compressor/prefill_pool", (37, 4, 96, 9)),
        ("metadata/chunk_indices", (11, 3, 64, 0)),
    ],
)
def test_placed_rows_are_cut_where_they_mean_the_same(name, fields, provers):
    kernel = registry.load(name)
    problem = kernel.problem(*fields)
    alike = [kernel.default(problem, GPU)] * 2
    assert rows_of(provers, kernel, [problem], alike, GPU).get("batches", 0) >= 2


@pytest.mark.slow
@pytest.mark.parametrize("name", registry.names())
@pytest.mark.parametrize("gpu_name", ["mi355x", "h100"])
def test_configs_of_one_order_give_rows_same_bits(name, gpu_name, provers):
    kernel, gpu = registry.load(name), device.named(gpu_name)
    loaded = space.load(kernel, gpu)
    problem = loaded.check[0]
    default = kernel.default(problem, gpu)
    wanted = order(default, loaded.reduction, gpu)
    alike = [c for c in space.feasible(loaded, kernel, problem, gpu) if order(c, loaded.reduction, gpu) == wanted]
    for config in [default, *random.Random(name).sample(alike, min(3, len(alike)))]:
        answer = rows_of(provers, kernel, loaded.check, [default, config], gpu)
        assert "failed" not in answer
        assert answer.get("batches") or not loaded.reduction, answer


TUNE = ["tune", "norm/layer_norm", "--device", "mi355x", "--problem", "rows=3,cols=256"]


@pytest.mark.thorough
def test_rows_of_one_order_have_tables_of_their_own(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("AUTOTUNE_STATE", str(tmp_path / "state"))
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    more = ["--problem", "rows=4096,cols=256", "--trials", "1", "--jobs", "1", "--json"]
    assert main([*TUNE, *more, "--deterministic"]) == 0
    assert json.loads(capsys.readouterr().out)[0]["price"] >= 1
    path = tmp_path / "state/deterministic/gfx950/mi355x/norm/layer_norm.json"
    found = table.load(path)
    assert found.deterministic
    assert len({row.evidence["deterministic"]["order"] for row in found.rows}) == 1
    assert all(row.evidence["deterministic"]["batches"] > 0 for row in found.rows)
    assert not (tmp_path / "tables").exists()
    before = path.read_bytes()
    assert main([*TUNE, *more, "--tables", str(tmp_path / "state/deterministic")]) == 2
    assert "--tables" in capsys.readouterr().err
    assert path.read_bytes() == before


@pytest.mark.parametrize("gpu_name", ["h100", "b200"])
def test_order_knows_which_matrix_instruction_is_compiled(gpu_name):
    gpu = device.named(gpu_name)
    for block_m, warps in ((16, 4), (64, 2), (64, 4)):
        tried = Config(
            {**GEMM.default(LARGE, gpu), "BLOCK_M": block_m, "BLOCK_N": 32, "num_warps": warps, "SPLIT_K": 1}
        )
        found = compile_job(Job(GEMM.name, key(GEMM.problem(4096, 512, 512)), tried, gpu.name))["resources"]
        grouped = not any(name.startswith("mma.sync") for name in found["matrix_instructions"])
        assert dict(order(tried, SPACE.reduction, gpu))["warpgroup"] == grouped, found["matrix_instructions"]
