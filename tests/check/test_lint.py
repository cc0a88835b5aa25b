"""lint finds one planted instance of each kind, and nothing in a table that is as it should be."""

import json
from dataclasses import replace

import pytest

from autotune import device, misses, registry, runtime, table
from autotune.check import lint
from autotune.cli import main
from autotune.config import Config, key
from autotune.table import Row, Table
from autotune.tuning import space
from autotune.tuning.session.progress import Summary
from autotune.tuning.session.session import Session

MOE = registry.load("moe/mxfp4_grouped_gemm")
GPU = device.named("mi355x")


def row(tokens, tier="modeled", **fields):
    problem = MOE.problem(tokens, 6, 384, 768, 7168, True, **fields)
    return Row(key(problem), MOE.default(problem, GPU), tier, {}, "triton", "c")


def save(root, *rows, source=None, folder=GPU.name, proof=""):
    loaded = Table(MOE.name, GPU.arch, GPU.name, source or MOE.identity.kernel, rows, proof=proof)
    table.save(loaded, table.path_of(root, GPU.arch, folder, MOE.name))


def kinds(root):
    return [one.kind for one in lint.tables(root)]


GOOD = (row(1), row(64), row(4096))


def test_nothing_wrong(tmp_path):
    save(tmp_path, *GOOD)
    assert kinds(tmp_path) == []


def planted_dead(root):
    save(root, *GOOD, row(16, routing="one_expert"))


def planted_refused(root):
    bad = row(16)
    save(root, *GOOD, replace(bad, config=Config({**bad.config, "num_stages": 3, "BLOCK_K": 256, "BLOCK_N": 256})))


def planted_form(root):
    save(root, *GOOD, replace(row(16), problem=row(16).problem[1:]))


def planted_shadowed(root):
    save(root, *GOOD, replace(row(50, "measured"), serves=(("tokens", 33, 90),)))


def planted_stale(root):
    save(root, *GOOD, source="0" * 16)


def planted_unproved(root):
    save(root, *GOOD, proof="0" * 16)


def planted_outside(root):
    odd = row(16)
    value = 16 * max(int(v) for v in space.load(MOE, GPU).lists["waves_per_eu"]) + 5
    save(root, *GOOD, replace(odd, config=Config({**odd.config, "waves_per_eu": value})))


def planted_alias(root):
    save(root, *GOOD)
    save(root, *GOOD, folder="AMD_Instinct_MI355_OAM")


@pytest.mark.parametrize(
    ("plant", "kind"),
    [
        (planted_dead, "dead"),
        (planted_form, "dead"),
        (planted_shadowed, "shadowed"),
        (planted_stale, "stale"),
        (planted_unproved, "unproved"),
        (planted_outside, "outside"),
        (planted_alias, "alias"),
    ],
)
def test_one_of_each_kind_is_found(tmp_path, plant, kind):
    plant(tmp_path)
    assert kinds(tmp_path) == [kind]
    assert main(["lint", "--tables", str(tmp_path)]) == 1


def test_rows_of_rehearsal_are_checked_like_others(tmp_path):
    folder = f"{GPU.name}.simulated-7"
    loaded = Table(MOE.name, GPU.arch, folder, MOE.identity.kernel, (*GOOD, row(16, routing="one_expert")))
    table.save(loaded, table.path_of(tmp_path, GPU.arch, folder, MOE.name))
    assert kinds(tmp_path) == ["dead"]  # the one row, and not the folder


def test_config_that_rules_refuse_is_dead(tmp_path):
    planted_refused(tmp_path)
    assert "dead" in kinds(tmp_path)


def test_holes_are_what_workload_or_serving_misses(tmp_path, monkeypatch, capsys):
    save(tmp_path / "tables", *GOOD)
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    runtime.forget()
    stop = misses.record(tmp_path / "misses")
    for tokens in (64, 77):
        runtime.choose(MOE, MOE.problem(tokens, 6, 384, 768, 7168, True), GPU)
    stop()
    runtime.forget()
    assert main(["lint", "--from-misses", str(tmp_path / "misses")]) == 1
    assert "hole 1" in capsys.readouterr().out
    asked = {MOE.name: [MOE.problem(t, 6, 384, 768, 7168, True) for t in (1, 2)], "norm/rms_norm": []}
    found = list(lint.holes(tmp_path / "tables", GPU, asked))
    assert [one.kind for one in found] == ["hole"]
    assert "tokens=2" in found[0].place


def test_tune_takes_misses_and_nothing_else(tmp_path, monkeypatch, capsys):
    seen = []
    monkeypatch.setattr(Session, "run", lambda self, problems: seen.append(problems) or Summary("k", "d", tmp_path))
    line = {"kernel": MOE.name, "device": "mi355x", "problem": dict(row(77).problem)}
    (tmp_path / "misses").write_text(json.dumps(line) + "\n")
    command = ["tune", "--device", "mi355x", "--device", "b200", "--from-misses", str(tmp_path / "misses")]
    assert main(command) == 0
    assert [dict(problems) for problems in seen] == [{MOE.problem(77, 6, 384, 768, 7168, True): 1}]
    assert main([*command, MOE.name, "--problem", "tokens=1"]) == 2


def test_shipped_tables_are_clean():
    found = [one for one in lint.tables(runtime.tables_root())]
    stale = {one.place for one in found if one.kind == "stale"}
    # A table of another source says so itself; its rows may be of an older problem until it is tuned again.
    assert not [one for one in found if one.place.partition(": ")[0] not in stale]


def test_bad_usage_is_refused(tmp_path, capsys):
    assert main(["lint", "--tables", str(tmp_path / "none")]) == 2
    assert main(["lint", "--model", "deepseek-v4-pro"]) == 2
    (tmp_path / "misses").write_text('{"kernel": "gemm/nothing", "device": "mi355x", "problem": {"m": 1}}\n')
    assert main(["lint", "--from-misses", str(tmp_path / "misses"), "--json"]) == 1
    assert "stale" in (said := capsys.readouterr().out) and "unknown kernel" in said
