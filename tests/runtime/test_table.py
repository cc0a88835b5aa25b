import dataclasses
import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from autotune import table
from autotune.config import Config
from autotune.errors import TableError
from autotune.table import Row, Table


def row(m=64, tier="modeled", block=64, evidence=None):
    return Row((("m", m), ("n", 256)), Config(BLOCK_M=block), tier, evidence or EVIDENCE, "triton 3.9.0", "abc")


EVIDENCE = {"us": 9.5, "trials": 3, "proved_on": ["m=1,n=8"], "finalists": [{"BLOCK_M": 16}, {"BLOCK_M": 32}]}


def entry(data, section):
    """The only entry of a section."""
    (found,) = data[section].values()
    return found


def a_table(*rows):
    return Table("gemm/x", "gfx950", "mi355x", "source", rows)


def test_round_trip(tmp_path):
    path = tmp_path / "a" / "x.json"
    table.save(a_table(row(1), row(64)), path)
    assert table.load(path) == a_table(row(1), row(64))
    assert sum('"problem"' in line for line in path.read_text().splitlines()) == 2


def test_row_may_serve_neighbours(tmp_path):
    wide = dataclasses.replace(row(64), serves=(("m", 33, 96),))
    assert '"serves":{"m":[33, 96]}' in table.dumps(a_table(wide))
    assert table.loads(table.dumps(a_table(wide)), "here") == a_table(wide)
    assert table.content_hash(a_table(wide)) != table.content_hash(a_table(row(64)))


def test_rows_are_ordered_whatever_order_they_came_in():
    assert table.dumps(a_table(row(64), row(1))) == table.dumps(a_table(row(1), row(64)))


@pytest.mark.parametrize(
    ("old", "new", "kept"),
    [("measured", "modeled", "measured"), ("modeled", "measured", "measured"), ("modeled", "modeled", "new")],
)
def test_row_gives_way_to_its_own_tier_or_better(old, new, kept):
    merged = a_table(row(tier=old, block=16)).merged([row(tier=new, block=32)])
    assert len(merged.rows) == 1
    assert merged.rows[0].tier == (kept if kept != "new" else "modeled")
    assert merged.rows[0].config["BLOCK_M"] == (16 if kept == "measured" == old else 32)


def test_failed_write_leaves_file(tmp_path, monkeypatch):
    path = tmp_path / "x.json"
    table.save(a_table(row(1)), path)
    before = path.read_bytes()
    monkeypatch.setattr("os.fsync", lambda _: (_ for _ in ()).throw(OSError("disk full")))
    with pytest.raises(OSError, match="disk full"):
        table.save(a_table(row(2)), path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda d: d.update(format=9), "format must be 1 or 2, got 9; read it with the release that wrote it"),
        (lambda d: d.update(extra=1), "unknown field 'extra'"),
        (lambda d: d.pop("arch"), "missing field 'arch'"),
        (lambda d: entry(d, "sessions").update(tier="guessed"), r"sessions: \w{8}: tier must be one of"),
        (lambda d: d["rows"][0]["config"].update(X=[1]), "X must be an integer"),
        (lambda d: d["rows"][0].update(serves={"m": [65, 70]}), r"m must be \[low, high\] around the problem's 64"),
        (lambda d: d["rows"][0].update(serves={"q": [1, 2]}), "q must be"),
        (lambda d: d["rows"][0].update(serves=[1]), "serves: must be an object"),
        (lambda d: d["rows"].append(d["rows"][0]), "same problem"),
        (lambda d: d.update(rows={}), "rows must be a list"),
        (lambda d: d["rows"][0].update(shape="none"), "row 1: there is no 'none' in shapes; restore the file or tune"),
        (lambda d: d["rows"][0].update(shape=[]), r"row 1: there is no \[\] in shapes"),
        (lambda d: d["rows"][0]["problem"].update(n=4), "problem and shape have a field in common"),
        (lambda d: d["evidence"].clear(), r"row 1: there is no '\w{8}' in evidence; restore the file or tune again"),
        (lambda d: d.pop("sessions"), r"evidence: \w{8}: there is no '\w{8}' in sessions"),
        (lambda d: d["proofs"].clear(), r"evidence: \w{8}: there is no '\w{8}' in proofs"),
        (lambda d: d.update(finalists={}), r"evidence: \w{8}: there is no '\w{8}' in finalists"),
        (lambda d: d.update(finalists=[]), r"finalists must be an object, got \[\]"),
        (lambda d: entry(d, "shapes").clear(), "shapes: .*: must be an object with at least one field"),
        (lambda d: entry(d, "finalists").append(7), "must list the parameters in which each config differs"),
        (lambda d: entry(d, "proofs").update(proved_on="all"), "proved_on must list problems, or null"),
        (
            lambda d: entry(d, "evidence")["figures"].append(1),
            r"figures must list us, as its session says, got \[9.5, 1\]",
        ),
        (lambda d: entry(d, "evidence").update(code=3), "code: must be a string, got 3"),
        (lambda d: entry(d, "sessions").update(figures="us"), "figures must list the names of figures, got 'us'"),
        (lambda d: entry(d, "sessions").update(speed=1), "unknown field 'speed'"),
    ],
)
def test_damage_is_named(change, message):
    data = json.loads(table.dumps(a_table(row())))
    change(data)
    with pytest.raises(TableError, match=message):
        table.loads(json.dumps(data), "place.json")


@pytest.mark.thorough
@given(
    st.text()
    | st.recursive(st.none() | st.integers() | st.text(), lambda c: st.lists(c) | st.dictionaries(st.text(), c)).map(
        json.dumps
    )
)
@settings(max_examples=300, deadline=None)
def test_nothing_else_is_accepted(text):
    with pytest.raises(TableError, match="place"):
        table.loads(text, "place")


@given(st.integers(0, 2000))
@settings(max_examples=200, deadline=None)
def test_cut_file_is_refused(cut):
    text = table.dumps(a_table(row(1), row(64)))
    if cut < len(text.rstrip()):
        with pytest.raises(TableError):
            table.loads(text[:cut], "place")
