"""The short form of `python tests/soak/fuzz`: damaged files are read or refused, never a crash."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.thorough
def test_damaged_inputs_are_read_or_refused():
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "fuzz"), "--inputs", "60"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, check=True)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) >= 16
    assert all(row["accepted"] + row["refused"] == 60 for row in rows)
