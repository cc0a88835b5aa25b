"""Writers of one table that are killed lose no row that was acknowledged, and imports beside a session stay."""

import json

import pytest

from benchmarks.session import writers


def run(capsys, *words):
    code = writers.main(list(words))
    return code, json.loads(capsys.readouterr().out)


def test_killed_writers_lose_no_acknowledged_row(capsys):
    code, result = run(capsys, "--writers", "8", "--rounds", "3", "--kills", "3", "--imports", "0")
    assert (code, result["rows lost"], result["files torn"]) == (0, 0, 0)
    assert result["updates that returned"] > 8
    assert result["loads meanwhile"] > 0


def test_a_writer_that_reads_before_the_lock_loses_rows(capsys, monkeypatch):
    """The soak sees what it is there to see: all writers have read before any of them saves."""
    all_have_read = writers.FORK.Barrier(8)

    def unlocked(path, change):
        old = writers.table.load(path) if path.exists() else None
        if old is not None:
            all_have_read.wait(timeout=120)
        writers.table.save(change(old), path)

    monkeypatch.setattr(writers.table, "update", unlocked)
    code, result = run(capsys, "--writers", "8", "--rounds", "2", "--kills", "0", "--imports", "0")
    assert code == 1
    assert result["rows lost"] > 0


@pytest.mark.slow
def test_imports_beside_a_session_stay(capsys):
    code, result = run(capsys, "--writers", "32", "--rounds", "20", "--imports", "20")
    assert (code, result["imported rows lost"]) == (0, 0)
