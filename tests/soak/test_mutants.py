"""Mutants of the kernels are rejected by a session's proof; `tests/soak/mutation/survivors.md` lists the rest."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

MUTATION = Path(__file__).parent / "mutation"


def verdicts(*arguments):
    env = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-W", "ignore", str(MUTATION), *arguments]
    out = subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout
    return [json.loads(line) for line in out.splitlines()]


def test_rules_make_many_mutants_and_each_parses():
    sys.path.insert(0, str(MUTATION))
    from rules import mutants

    source = (MUTATION.parents[2] / "kernels/norm/rms_norm.py").read_text()
    found = mutants(source)
    assert len(found) > 40
    assert len({mutant.rule for mutant in found}) >= 12
    assert all(mutant.source != source for mutant in found)
    for mutant in found:
        compile(mutant.source, "mutant", "exec")


def test_each_lost_guard_makes_its_mutants():
    sys.path.insert(0, str(MUTATION))
    from rules import LOST_GUARDS, mutants

    source = """
@triton.jit
def kernel(x_ptr, y_ptr, ids_ptr, n, BLOCK: tl.constexpr, HAS_IDS: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    if HAS_IDS:
        at = tl.where(at < n, at, -1)
    first = tl.load(ids_ptr)
    if first < 0:
        return
    if first < n:
        at = tl.maximum(at - first, 0)
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n, other=0.0), mask=at < n)
"""
    made = [(mutant.rule, mutant.before, mutant.after) for mutant in mutants(source) if mutant.rule in LOST_GUARDS]
    assert sorted(made) == [
        ("dropped condition", "tl.where(at < n, at, -1)", "tl.where((at < n) & False, at, -1)"),
        ("dropped condition", "tl.where(at < n, at, -1)", "tl.where((at < n) | True, at, -1)"),
        ("dropped if", "first < 0", "False"),
        ("dropped if", "first < n", "True"),
        ("dropped limit", "tl.maximum(at - first, 0)", "(at - first)"),
        ("dropped mask", "tl.load(x_ptr + at, mask=at < n, other=0.0)", "tl.load(x_ptr + at)"),
        (
            "dropped mask",
            "tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n, other=0.0), mask=at < n)",
            "tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < n, other=0.0))",
        ),
        ("dropped other", "tl.load(x_ptr + at, mask=at < n, other=0.0)", "tl.load(x_ptr + at, mask=at < n)"),
    ]


@pytest.mark.thorough
def test_sample_of_mutants_is_rejected():
    rows = verdicts("norm/rms_norm", "--each", "14")
    assert len(rows) == 14
    assert sum(row["verdict"] == "killed" for row in rows) >= 9
    assert not [row for row in rows if row["verdict"] == "survived"]


@pytest.mark.slow
def test_98_percent_of_lost_guards_that_change_results_are_rejected():
    rows = verdicts("--guards", "--each", "10")
    changed = [row for row in rows if row["verdict"] in ("killed", "survived")]
    survivors = [row for row in changed if row["verdict"] == "survived"]
    assert len(changed) >= 80
    assert len(survivors) <= 0.02 * len(changed), survivors


@pytest.mark.slow
def test_98_percent_of_mutants_that_change_results_are_rejected():
    rows = verdicts("--each", "20")
    changed = [row for row in rows if row["verdict"] in ("killed", "survived")]
    assert len(rows) >= 300
    assert len({row["kernel"] for row in rows}) >= 12
    survivors = [row for row in changed if row["verdict"] == "survived"]
    assert len(survivors) <= 0.02 * len(changed), survivors
