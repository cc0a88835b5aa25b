"""Planted misuses of memory, six kernels by eight kinds: each is found, and named as it should be."""

import json
import os
import subprocess
import sys
from pathlib import Path

MUTATION = Path(__file__).parent / "mutation"


def run(script, *arguments):
    env = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(MUTATION / script), *arguments]
    return json.loads(subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout)


def test_planted_defects_are_found_and_named():
    rows = run("planted.py")
    assert len({row["kernel"] for row in rows}) == 6
    assert len({row["kind"] for row in rows}) == 6
    assert len(rows) == 48
    for row in rows:
        assert row.get("found_kind") == row["kind"], row
        assert row["found_argument"] == row["argument"], row
        assert isinstance(row["offset"], int)
        if row["kind"] == "output not entirely written":
            assert row["place"] == "launcher"
        else:
            assert row["place"].endswith(f"{row['kernel'].split('/')[1]}.py:{row['line']}") or "_tiles" in row["place"]
            assert len(row["program"]) == 3
