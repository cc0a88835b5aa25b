"""validate stamps a table that it proved anew, and no other."""

from dataclasses import replace

import pytest

from autotune import device, registry, runtime, table
from autotune.check import proof_stamp
from autotune.cli import main
from autotune.config import Config, build, key
from autotune.table import Row, Table

KERNEL, GPU = registry.load("norm/rms_norm_quant"), device.named("h100")


def row(rows, **changes):
    problem = build(KERNEL.problem, {"rows": rows, "cols": 256}, "test")
    config = Config({**KERNEL.default(problem, GPU), **changes})
    return Row(key(problem), config, "modeled", {}, "triton 3.9.0", "code")


@pytest.fixture
def path(tmp_path, monkeypatch):
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path))
    runtime.forget()
    yield table.path_of(tmp_path, GPU.arch, GPU.name, KERNEL.name)
    runtime.forget()


def save(path, *rows, **head):
    head = {"source": KERNEL.identity.kernel, "proof": "0" * 16, **head}
    table.save(Table(KERNEL.name, GPU.arch, GPU.name, head["source"], rows, proof=head["proof"]), path)


def test_a_table_whose_rows_are_all_right_is_stamped(path):
    save(path, row(1), row(16))
    claims = proof_stamp.claims(KERNEL, GPU)
    assert "all 2 rows are proved" in proof_stamp.stamp(claims, set(claims.jobs))
    assert table.load(path).proof == KERNEL.identity.proof
    assert proof_stamp.claims(KERNEL, GPU).jobs == []


def test_a_row_that_is_wrong_somewhere_keeps_the_old_stamp(path):
    save(path, row(1), row(16))
    claims = proof_stamp.claims(KERNEL, GPU)
    assert proof_stamp.stamp(claims, set(claims.jobs) - {claims.jobs[0]}) is None
    assert table.load(path).proof == "0" * 16


def test_a_row_that_came_meanwhile_keeps_the_old_stamp(path):
    save(path, row(1))
    claims = proof_stamp.claims(KERNEL, GPU)
    table.update(path, lambda now: now.merged([row(16)]))
    assert proof_stamp.stamp(claims, set(claims.jobs)) is None
    assert table.load(path).proof == "0" * 16


def test_an_old_kernels_table_and_a_flawed_row_claim_nothing(path):
    save(path, row(1), source="f" * 16)
    assert proof_stamp.claims(KERNEL, GPU).jobs == []
    save(path, row(1), replace(row(16), config=Config({**row(16).config, "num_warps": 3})))
    assert proof_stamp.claims(KERNEL, GPU).jobs == []


def test_a_row_is_proved_on_what_it_serves(path):
    save(path, row(64))
    alone = set(proof_stamp.claims(KERNEL, GPU).jobs)
    save(path, replace(row(64), serves=(("rows", 33, 90),)))
    assert alone < set(proof_stamp.claims(KERNEL, GPU).jobs)


@pytest.mark.slow
def test_validate_stamps_what_it_proved(path, capsys):
    save(path, row(16))
    assert main(["validate", KERNEL.name, "--device", GPU.name]) == 0
    assert "all 1 rows are proved" in capsys.readouterr().err
    assert table.load(path).proof == KERNEL.identity.proof
