"""Tables of several machines become one: the better-founded row of each problem, and no contradiction."""

import json
from dataclasses import replace

import pytest

from autotune import device, registry, table
from autotune.check.merge import Source, merge
from autotune.cli import main
from autotune.config import Config, key
from autotune.errors import TableError
from autotune.table import Row, Table

KERNEL, GPU = registry.load("gemm/fp8_block_scaled"), device.named("mi355x")
HEAD = Table(KERNEL.name, GPU.arch, GPU.name, KERNEL.identity.kernel, ())


def row(m, group=8, tier="modeled", toolchain="triton 3.9.0", **evidence):
    problem = KERNEL.problem(m, 2048, 7168, "e4m3fn")
    config = Config({**KERNEL.default(problem, GPU), "GROUP_M": group})
    return Row(key(problem), config, tier, evidence, toolchain, "code")


def of(*rows, **head):
    return replace(HEAD, rows=rows, **head)


def joined(*tables):
    return merge([Source(place, one) for place, one in zip("ABC", tables, strict=False)])


BETTER = [
    (row(16), row(16, 4, "measured", us=9.0), "measured before modeled"),
    (row(16, tier="imported", foreign_us=1.0), row(16, 4, "measured", us=9.0), "measured before imported"),
    (row(16, toolchain="triton 3.9.0"), row(16, 4, toolchain="triton 3.10.0"), "triton 3.10.0 after triton 3.9.0"),
    (
        row(16, tier="measured", us=2.0, spread=0.01),
        row(16, 4, "measured", us=1.9, spread=0.02),
        "measured: 1.9 us before 2 us, noise 2.0%",
    ),
    (
        row(16, tier="measured", us=1.9, spread=0.1, date="2026-10-01"),
        row(16, 4, "measured", us=2.0, spread=0.02, date="2026-11-01"),
        "no time decides: 2026-11-01 after 2026-10-01",
    ),
    (row(16, tier="measured"), row(16, 4, "measured", date="2026-11-01"), "after a row without a date"),
    (row(16, modeled_us_range=[2, 8]), row(16, 4, modeled_us_range=[1, 4]), "modeled: 2 us before 4 us"),
]


@pytest.mark.parametrize(("worse", "better", "reason"), BETTER, ids=[reason for _, _, reason in BETTER])
def test_the_better_founded_row_is_taken_from_either_side(worse, better, reason):
    for tables, place in (((of(worse, row(1)), of(better)), "B"), ((of(better), of(worse, row(1))), "A")):
        made = joined(*tables)
        assert set(made.table.rows) == {better, row(1)}
        (decision,) = made.decisions
        assert (decision.place, reason in decision.reason) == (place, True)


def test_the_first_row_stays_where_nothing_decides():
    made = joined(of(row(16)), of(row(16, 4)), of(row(16), row(64)))
    assert made.table.rows == (row(16), row(64))
    assert [one.place for one in made.decisions] == ["A"]
    assert made.places == {"A": 1, "C": 1}


def test_a_merged_table_is_proved_if_all_were():
    proof = KERNEL.identity.proof
    assert joined(of(row(1), proof=proof), of(row(2), proof=proof)).table.proof == proof
    assert joined(of(row(1), proof=proof), of(row(2))).table.proof == ""


def test_a_row_that_no_call_takes_displaces_none():
    bad = replace(row(16, 4, "measured"), config=Config({**row(16).config, "BLOCK_M": 48}))
    made = joined(of(row(16)), of(bad))
    assert made.table.rows == (row(16),)
    assert [(place, flaw.kind) for (place, _), flaw in made.flaws.items()] == [("B", "invalid")]


def ordered(m, order):
    return row(m, deterministic={"order": order})


CONTRADICTIONS = [
    (of(row(1), device="h100", arch="sm_90"), "is a table of gemm/fp8_block_scaled on sm_90/h100"),
    (of(row(1), source="f" * 16), "tune B again, or leave it out"),
    (of(ordered(1, "x"), deterministic=True), "one is deterministic, A is not"),
]


@pytest.mark.parametrize(("other", "reason"), CONTRADICTIONS, ids=["device", "source", "deterministic"])
def test_tables_that_contradict_are_refused(other, reason):
    with pytest.raises(TableError, match=reason):
        joined(of(row(1)), other)


def test_deterministic_tables_of_two_orders_are_refused():
    one, two = of(ordered(1, "x"), deterministic=True), of(ordered(2, "y"), deterministic=True)
    with pytest.raises(TableError, match=r"A and B: is deterministic.*2 orders"):
        joined(one, two)
    assert len(joined(one, of(ordered(2, "x"), deterministic=True)).table.rows) == 2


def save(root, *rows, head=HEAD):
    path = table.path_of(root, head.arch, head.device, head.kernel)
    table.save(replace(head, rows=rows), path)
    return path


def test_folder_merged_into_itself_is_written_in_the_present_format(tmp_path, capsys):
    path = save(tmp_path, row(1), row(64, us=2.0))
    present = path.read_text()
    rows = [
        {"problem": dict(one.problem), "config": dict(one.config), "tier": one.tier, "evidence": dict(one.evidence),
         "toolchain": one.toolchain, "code": one.code}
        for one in table.load(path).rows
    ]  # fmt: skip
    head = {"kernel": HEAD.kernel, "arch": HEAD.arch, "device": HEAD.device, "source": HEAD.source}
    path.write_text(json.dumps({"format": 1, **head, "rows": rows}))
    assert main(["merge", str(tmp_path), "-o", str(tmp_path)]) == 0
    assert path.read_text() == present


def test_the_command_joins_folders_and_what_is_there(tmp_path, capsys):
    save(tmp_path / "a", row(1), row(16, tier="measured", us=2.0))
    save(tmp_path / "b", row(16, 4, "measured", us=1.0), row(64))
    other = registry.load("norm/rms_norm")
    save(tmp_path / "b", head=replace(HEAD, kernel=other.name, source=other.identity.kernel))
    there = save(tmp_path / "out", row(4096))
    words = ["merge", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "out")]
    assert main([*words, "--dry-run"]) == 0
    assert len(table.load(there).rows) == 1
    assert main([*words, "--json"]) == 0
    made = {one["what"]: one for one in json.loads(capsys.readouterr().out.partition("\n[")[2].join(["[", ""]))}
    assert [dict(one.problem)["m"] for one in table.load(there).rows] == [1, 16, 64, 4096]
    assert made[str(there)]["decisions"][0]["taken"] == str(tmp_path / "b" / there.relative_to(tmp_path / "out"))
    assert (tmp_path / "out" / GPU.arch / GPU.name / "norm/rms_norm.json").exists()


def test_the_command_writes_nothing_where_one_table_contradicts(tmp_path, capsys):
    save(tmp_path / "a", row(1))
    save(tmp_path / "b", row(2))
    b200 = replace(HEAD, arch="sm_100", device="b200")
    save(tmp_path / "a", row(1), head=b200)
    save(tmp_path / "b", row(1), head=replace(b200, source="f" * 16))
    assert main(["merge", str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "out")]) == 2
    assert "today's is" in capsys.readouterr().err
    assert not list(tmp_path.glob("out/**/*.json"))


def test_the_command_refuses_what_it_cannot_mean(tmp_path, capsys):
    one, folder = save(tmp_path / "a", row(1)), tmp_path / "empty"
    folder.mkdir()
    for words, reason in (
        ([one, folder, "-o", tmp_path / "out"], "tables alone, or folders"),
        ([one, "-o", folder], "is a folder"),
        ([folder, "-o", tmp_path / "out"], "no table ARCH/DEVICE"),
        ([tmp_path / "none", "-o", tmp_path / "out"], "no such file"),
    ):
        assert main(["merge", *map(str, words)]) == 2
        assert reason in capsys.readouterr().err


def test_a_table_is_merged_into_one_of_its_sources(tmp_path):
    one, two = save(tmp_path / "a", row(1)), save(tmp_path / "b", row(1, 4), row(2))
    assert main(["merge", str(two), str(one), "-o", str(one)]) == 0
    assert table.load(one).rows == (row(1), row(2))
