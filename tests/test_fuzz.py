"""The short form of `python tests/fuzz`: damaged files are read or refused, never a crash."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest


@pytest.mark.parametrize("loader", ["table", "problem", "journal", "vllm", "aiter", "aiter-csv", "t4", "triton", "fla"])
def test_damaged_inputs_are_read_or_refused(loader):
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "fuzz"), loader, "--inputs", "40"]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = json.loads(subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout)
    assert found["accepted"] + found["refused"] == 40
