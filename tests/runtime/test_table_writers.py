"""Many writers of one table lose no row: imports at once, an import beside a session, links, modes, kept rows."""

import multiprocessing
import os
import stat
from dataclasses import replace

import pytest

from autotune import device, registry, table
from autotune.check import lint, repair
from autotune.cli import import_, main
from autotune.config import Config, build, key
from autotune.errors import MachineError, TableError
from autotune.table import Row, Table
from autotune.tuning.search.stopping import Budget
from autotune.tuning.session.compiler import Subject
from autotune.tuning.session.plan import Plan
from autotune.tuning.session.prover import Proof
from autotune.tuning.session.session import Session
from autotune.tuning.session.tables import TableFile
from autotune.tuning.workers.worker import Limits

KERNEL, GPU = registry.load("norm/rms_norm_quant"), device.named("h100")
HEAD = Table(KERNEL.name, GPU.arch, GPU.name, KERNEL.identity.kernel, ())
FORK = multiprocessing.get_context("fork")


def problem(rows):
    return build(KERNEL.problem, {"rows": rows, "cols": 1536}, "test")


def row(rows, tier="modeled", **changes):
    config = Config({**KERNEL.default(problem(rows), GPU), **changes})
    return Row(key(problem(rows)), config, tier, {}, "triton 3.9.0", "code")


def put(path, *rows, head=HEAD):
    return table.update(path, lambda old: (old or head).merged(rows))


def sizes(path):
    return sorted(dict(one.problem)["rows"] for one in table.load(path).rows)


def write_when_told(path, barrier, number):
    barrier.wait()
    put(path, row(number))


def test_eight_writers_at_once_lose_no_row(tmp_path):
    for turn in range(5):
        path, barrier = tmp_path / str(turn) / "x.json", FORK.Barrier(8)
        writers = [FORK.Process(target=write_when_told, args=(path, barrier, number)) for number in range(1, 9)]
        for writer in writers:
            writer.start()
        for writer in writers:
            writer.join()
        assert [writer.exitcode for writer in writers] == [0] * 8
        assert sizes(path) == list(range(1, 9))
        assert {one.name for one in path.parent.iterdir()} == {"x.json", ".lock"}


def test_update_leaves_alone_what_is_not_to_change(tmp_path):
    path = tmp_path / "x.json"
    put(path, row(1))
    before = path.stat()
    assert table.update(path, lambda old: None) is None
    put(path, row(1))
    assert path.stat().st_ino == before.st_ino
    with pytest.raises(TableError, match="rows must be a list"):
        path.write_text(path.read_text().replace("[\n", "{\n").replace("  ]", "  }").replace("    {", '"a": {'))
        put(path, row(2))


def test_writers_follow_links_and_keep_modes(tmp_path):
    real, link, aside = tmp_path / "real/x.json", tmp_path / "link.json", tmp_path / "aside"
    put(real, row(1))
    real.chmod(0o660)
    link.symlink_to(real)
    aside.symlink_to(real.parent)
    put(link, row(2))
    put(aside / "x.json", row(3))
    assert link.is_symlink()
    assert sizes(real) == [1, 2, 3]
    assert stat.S_IMODE(real.stat().st_mode) == 0o660
    assert not (tmp_path / ".lock").exists()


def test_new_table_gets_mode_of_umask(tmp_path):
    before = os.umask(0o002)
    try:
        put(tmp_path / "x.json", row(1))
    finally:
        os.umask(before)
    assert stat.S_IMODE((tmp_path / "x.json").stat().st_mode) == 0o664


def test_lock_that_system_refuses_is_named(tmp_path, monkeypatch):
    def refuse(handle, how):
        raise OSError(37, "No locks available")

    monkeypatch.setattr("fcntl.flock", refuse)
    with pytest.raises(OSError, match="cannot be locked: No locks available") as raised:
        put(tmp_path / "x.json", row(1))
    assert raised.value.filename == str(tmp_path / ".lock")


def session(folder, monkeypatch, meanwhile, deterministic=False):
    """A session whose search and proof are replaced by one row of 64 rows, and by `meanwhile`, which others do."""

    def promote(self, searched, old, evaluator, finish=None):
        made = old.merged([row(64)])
        meanwhile(self.summary.table)
        return replace(made, proof=KERNEL.identity.proof)

    monkeypatch.setattr(Session, "_promote", promote)
    plan = Plan(folder / "t", folder / "s", Budget(1), limits=Limits(processes=1), deterministic=deterministic)
    return Session(KERNEL, GPU, plan, lambda status: None).run({problem(64): 1}).table


def test_rows_imported_while_session_ran_stay(tmp_path, monkeypatch):
    put(path := table.path_of(tmp_path / "t", GPU.arch, GPU.name, KERNEL.name), row(1), row(2))

    def others(path):
        table.update(path, lambda old: replace(old, rows=(row(1),)).merged([row(3, "imported"), row(64, "imported")]))

    session(tmp_path, monkeypatch, others)
    found = {dict(one.problem)["rows"]: one.tier for one in table.load(path).rows}
    assert found == {1: "modeled", 3: "imported", 64: "imported"}
    assert table.load(path).proof == ""


def test_table_of_another_kernel_is_not_overwritten(tmp_path, monkeypatch):
    def others(path):
        put(path, row(3), head=replace(HEAD, source="f" * 16))

    with pytest.raises(MachineError, match=r"written meanwhile for another code.*kept in .*unsaved/"):
        session(tmp_path, monkeypatch, others)
    with pytest.raises(MachineError, match=r"kept in .*unsaved-2/"):
        monkeypatch.setattr("autotune.tuning.session.session.TableFile.load", lambda self: HEAD)
        session(tmp_path, monkeypatch, lambda path: None)
    assert sizes(table.path_of(tmp_path / "t", GPU.arch, GPU.name, KERNEL.name)) == [3]


def test_import_unproves_table_and_dry_run_writes_nothing(tmp_path, capsys):
    name = "N=2048,K=7168,device_name=NVIDIA_H100_80GB_HBM3,dtype=fp8_w8a8,block_shape=[128,128].json"
    config = '{"BLOCK_SIZE_M":16,"BLOCK_SIZE_N":64,"BLOCK_SIZE_K":128,"GROUP_SIZE_M":1,"num_warps":4,"num_stages":3}'
    (tmp_path / name).write_text(f'{{"3": {config}}}')
    gemm = registry.load("gemm/fp8_block_scaled")
    path = table.path_of(tmp_path / "t", GPU.arch, GPU.name, gemm.name)
    words = ["import", "vllm", str(tmp_path / name), "--tables", str(tmp_path / "t")]
    assert main([*words, "--dry-run"]) == 0
    assert not path.exists()
    table.save(Table(gemm.name, GPU.arch, GPU.name, gemm.identity.kernel, (), proof=gemm.identity.proof), path)
    assert main(words) == 0
    assert [table.load(path).proof, len(table.load(path).rows)] == ["", 1]
    capsys.readouterr()


def test_repair_keeps_what_was_written_meanwhile():
    now = HEAD.merged([row(1), row(2, "measured"), row(3)])
    fixed = repair._with({row(1): row(1, num_warps=1), row(2): row(2, num_warps=1)}, now)
    assert [one.tier for one in fixed.rows] == ["modeled", "measured", "modeled"]
    assert [one.config["num_warps"] == 1 for one in fixed.rows] == [True, False, False]


class StandInProver:
    """Proves everything but the configs in `wrong`, and keeps what it was asked."""

    def __init__(self, *wrong):
        self.wrong, self.asked = wrong, []

    def prove(self, claims):
        self.asked += claims
        return {claim: Proof(failed="wrong" if claim.config in self.wrong else None) for claim in self.asked}


def test_session_drops_old_codes_rows_and_proves_imported_ones(tmp_path):
    subject = Subject.of(KERNEL, GPU)
    file = TableFile(tmp_path / "x.json", subject, GPU.name, False)
    wrong = row(5, "imported", num_warps=1)
    old = replace(HEAD, source="f" * 16, rows=(row(1), row(3, "imported"), wrong), proof=KERNEL.identity.proof)
    prover = StandInProver(wrong.config)
    made, lost = file.merged(old, [row(64)], prover)
    assert [(dict(one.problem)["rows"], one.tier) for one in made.rows] == [(3, "imported"), (64, "modeled")]
    assert (made.source, made.proof, lost) == (KERNEL.identity.kernel, KERNEL.identity.proof, 1)
    assert len(prover.asked) == 2


def test_session_drops_rows_that_no_call_takes(tmp_path):
    file = TableFile(tmp_path / "x.json", Subject.of(KERNEL, GPU), GPU.name, False)
    old = replace(HEAD, rows=(row(1), row(3, num_warps=3)), proof=KERNEL.identity.proof)
    made, lost = file.merged(old, [row(64)], StandInProver())
    assert [dict(one.problem)["rows"] for one in made.rows] == [1, 64]
    assert lost == 1


def test_incumbent_that_no_launch_takes_is_not_tried(tmp_path, monkeypatch):
    path = table.path_of(tmp_path / "t", GPU.arch, GPU.name, KERNEL.name)
    put(path, row(64, "measured", num_warps=3))
    asked = []
    monkeypatch.setattr(Session, "_search", lambda self, problems, opened, evaluator: asked.append(opened) or {})
    monkeypatch.setattr(Session, "_open", lambda self, past, problem, only=None: past.incumbents)
    monkeypatch.setattr(Session, "_promote", lambda self, searched, old, evaluator, finish=None: old)
    plan = Plan(tmp_path / "t", tmp_path / "s", Budget(1), limits=Limits(processes=1))
    Session(KERNEL, GPU, plan, lambda status: None)._run({problem(64): 1})
    assert asked[0](problem(64)) == {}


def imported(folder, *rows):
    return import_._import(folder, KERNEL.name, GPU, list(rows), write=True)


def test_table_of_older_code_takes_imports_and_stays_stale(tmp_path):
    put(tmp_path / "sm_90/h100/norm/rms_norm_quant.json", row(1), head=replace(HEAD, source="f" * 16))
    path, beaten = imported(tmp_path, row(3, "imported"))
    loaded = table.load(path)
    assert (loaded.source, sizes(path), beaten) == ("f" * 16, [1, 3], [])
    assert "stale" in [finding.kind for finding in lint.tables(tmp_path)]


def test_table_of_imports_alone_is_of_todays_code(tmp_path):
    put(tmp_path / "sm_90/h100/norm/rms_norm_quant.json", row(1, "imported"), head=replace(HEAD, source="f" * 16))
    path, _ = imported(tmp_path, row(3, "imported"))
    assert table.load(path).source == KERNEL.identity.kernel


def test_import_replaces_better_row_that_serves_nothing(tmp_path):
    put(tmp_path / "sm_90/h100/norm/rms_norm_quant.json", row(3, "measured", num_warps=3), row(1, num_warps=3))
    path, beaten = imported(tmp_path, row(3, "imported"))
    assert beaten == []
    assert [(dict(one.problem)["rows"], one.tier) for one in table.load(path).rows] == [(1, "modeled"), (3, "imported")]
