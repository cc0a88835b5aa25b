"""Format 2 of tables: what rows share stands once, differences are small, and older tables are read."""

import difflib
import json
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune import device, evidence, registry, runtime, table, table_format
from autotune.config import Config, key
from autotune.errors import TableError
from autotune.table import Row, Table
from autotune.tuning import space

COMMITTED = sorted((table.Path(runtime.__file__).parent / "tuned_configs").glob("*/*/*/*.json"))
CONFIG = {"BLOCK_M": 64, "num_warps": 4}


def row(m=64, n=256, us=9.5, **more):
    known = {"us": us, "trials": 3, "proved_on": ["m=1,n=8", f"m={m},n={n}"], "error_over_bound": 0.5}
    known["finalists"] = [{**CONFIG, "BLOCK_M": 16}, {**CONFIG, "num_warps": 8}]
    return Row((("m", m), ("n", n)), Config(CONFIG), "measured", {**known, **more}, "triton 3.9.0", "abc")


def a_table(*rows):
    return Table("gemm/x", "gfx950", "mi355x", "source", rows)


def changed(old, new):
    """Lines that left and lines that came, without the commas between entries."""
    lines = [[line.rstrip(",") for line in table.dumps(a_table(*rows)).splitlines()] for rows in (old, new)]
    return sorted(line[0] for line in difflib.ndiff(*lines) if line[0] in "+-")


def test_rows_share_shape_session_proof_and_finalists():
    text = table.dumps(a_table(*(row(m, us=float(m)) for m in (1, 2, 4, 8))))
    data = json.loads(text)
    assert [len(data[section]) for section in table_format.SECTIONS] == [1, 4, 1, 1, 1]
    assert text.count("triton 3.9.0") == text.count('"n": 256') == text.count("m=1,n=8") == 1


def test_facts_of_an_imported_row_stand_beside_their_names():
    imported = replace(row(), tier="imported", evidence={"from": "vllm", "foreign_us": 20.0})
    assert '"figures": {"from": "vllm", "foreign_us": 20.0}' in table.dumps(a_table(imported))


def test_change_of_one_row_is_its_line_and_its_evidence():
    rows = [row(m, us=float(m)) for m in (1, 2, 4, 8)]
    assert changed(rows, [*rows[:3], row(8, us=7.0)]) == ["+", "+", "-", "-"]
    assert changed(rows, [*rows, row(16, us=16.0)]) == ["+", "+"]
    assert changed(rows, rows[1:]) == ["-", "-"]


def test_entries_whose_names_begin_alike_stay_apart(monkeypatch):
    monkeypatch.setattr(table_format, "_DIGITS", 1)
    made = a_table(*(row(m, n, us=float(m)) for m in range(1, 40) for n in (16, 32)))
    assert table.loads(table.dumps(made), "here") == replace(made, rows=tuple(sorted(made.rows, key=by_size)))


def by_size(made):
    return dict(made.problem)["n"], dict(made.problem)["m"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=6,
)
NAMES = st.sampled_from(["us", "trials", "search", "proved_on", "error_over_bound", "finalists", "figures", "code"])
CONFIGS = st.fixed_dictionaries({"BLOCK_M": JSON, "num_warps": st.sampled_from([4, 8, True])})


@given(
    st.dictionaries(NAMES, JSON | st.lists(CONFIGS | JSON, max_size=3) | st.lists(st.text(), max_size=2)),
    st.sampled_from(table.TIERS),
)
@settings(max_examples=100, deadline=None)
def test_any_evidence_comes_back_as_it_was(known, tier):
    made = a_table(replace(row(), evidence=known, tier=tier))
    (back,) = table.loads(table.dumps(made), "here").rows
    assert json.dumps(dict(back.evidence), sort_keys=True) == json.dumps(known, sort_keys=True)
    assert table.dumps(a_table(back)) == table.dumps(made)


@pytest.mark.parametrize("path", COMMITTED, ids=lambda path: "/".join(path.parts[-3:]))
def test_committed_table_is_as_the_writer_writes_it(path):
    text = path.read_text(encoding="utf-8")
    assert table.dumps(table.loads(text, str(path))) == text
    lines = [line for line in text.splitlines() if line.lstrip().startswith('{"problem":')]
    assert len(lines) == len(table.load(path).rows)
    assert max(map(len, lines)) <= 300


@pytest.mark.parametrize("folder", sorted({path.parents[1] for path in COMMITTED}), ids=lambda folder: folder.name)
def test_committed_tables_of_a_device_are_less_than_a_megabyte(folder):
    assert sum(path.stat().st_size for path in folder.rglob("*.json")) < 1_000_000


def test_row_of_any_kernel_takes_300_characters_at_most():
    gpu = device.named("mi355x")  # AMD's back end takes the most options
    longest = {kernel: longest_row(registry.load(kernel), gpu) for kernel in registry.names()}
    assert not {kernel: len(line) for kernel, line in longest.items() if len(line) > 300}


def longest_row(kernel, gpu):
    """The line of a row with the longest value of each parameter, for the largest check problem and an interval."""
    known = space.load(kernel, gpu)
    config = Config(
        {param: max(values, key=lambda value: len(json.dumps(value))) for param, values in known.lists.items()}
    )
    problem = max(map(key, known.check), key=str)
    size, value = problem[0]
    made = replace(row(), problem=problem, config=config, serves=((size, value, 8192),))
    return next(line for line in table.dumps(a_table(made)).splitlines() if '"problem"' in line)


def test_lookup_joins_no_evidence(tmp_path, monkeypatch):
    kernel, gpu = registry.load("gemm/fp8_block_scaled"), device.named("mi355x")
    problem = kernel.problem(64, 2048, 7168)
    made = replace(row(), problem=key(problem), config=kernel.default(problem, gpu))
    path = table.path_of(tmp_path, gpu.arch, gpu.name, kernel.name)
    table.save(Table(kernel.name, gpu.arch, gpu.name, kernel.identity.kernel, (made,)), path)
    monkeypatch.setattr(evidence, "joined", lambda *_: pytest.fail("evidence was joined"))
    assert runtime.Lookup(kernel, gpu, tmp_path)[64, 2048, 7168, "e4m3fn"].how == "exact"


def test_damaged_entry_is_told_with_its_line():
    text = table.dumps(a_table(row(1), row(64)))
    number = next(n for n, line in enumerate(text.splitlines(), 1) if '"tier"' in line)
    with pytest.raises(TableError, match=rf"x.json: sessions: \w{{8}} \(line {number}\): tier must be one of"):
        table.loads(text.replace('"tier": "measured"', '"tier": "guessed"'), "x.json")
    number = next(n for n, line in enumerate(text.splitlines(), 1) if '"m":64' in line)
    with pytest.raises(TableError, match=rf"x.json: row 2 \(line {number}\): problem: m must be an integer"):
        table.loads(text.replace('"m":64', '"m":6.5'), "x.json")


OLD = {
    "format": 1, "kernel": "gemm/x", "arch": "gfx950", "device": "mi355x", "source": "source",
    "rows": [
        {"problem": dict(one.problem), "config": dict(one.config), "tier": one.tier, "evidence": one.evidence,
         "toolchain": one.toolchain, "code": one.code, **({"serves": {"m": [33, 64]}} if one.serves else {})}
        for one in (row(1), replace(row(64), serves=(("m", 33, 64),)))
    ],
}  # fmt: skip


def test_table_of_format_1_is_read_and_written_anew(tmp_path):
    path = tmp_path / "x.json"
    path.write_text(json.dumps(OLD))
    old = table.load(path)
    assert old == a_table(row(1), replace(row(64), serves=(("m", 33, 64),)))
    table.update(path, lambda now: None)
    assert json.loads(path.read_text())["format"] == 1
    table.update(path, lambda now: now)
    assert path.read_text() == table.dumps(old)
    assert table.load(path) == old


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d["rows"][1].update(tier="guessed"), "x.json: row 2: tier must be one of"),
        (lambda d: d["rows"][1].update(evidence=[]), r"row 2: evidence must be an object, got \[\]"),
        (lambda d: d["rows"][1].pop("code"), "row 2: missing field 'code'; restore the file or tune again"),
        (lambda d: d.update(shapes={}), "unknown field 'shapes'"),
    ],
)
def test_damage_of_format_1_is_named(change, message):
    data = json.loads(json.dumps(OLD))
    change(data)
    with pytest.raises(TableError, match=message):
        table.loads(json.dumps(data), "x.json")
