import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from autotune.errors import UsageError
from autotune.tuning.interpreter.corrections import correct_interpreter


def cases(mode):
    command = [sys.executable, "-W", "ignore", str(Path(__file__).parent / "interpret_cases.py"), mode]
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    return json.loads(subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout)


def test_the_corrected_interpreter_agrees_with_torch():
    assert cases("corrected") == {"dots": 0, "operations": 0, "conversions": 0}


def test_the_interpreter_as_it_comes_is_wrong():
    found = cases("plain")
    assert found["dots"] > 900, "bf16 dots became right in this Triton: the correction can go"
    assert found["operations"] > 300


def test_without_interpreter_mode_it_is_a_usage_error():
    with pytest.raises(UsageError, match="TRITON_INTERPRET=1"):
        correct_interpreter()
