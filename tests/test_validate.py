import os
import subprocess
import sys
from pathlib import Path


def test_validation_accepts_the_kernel_and_refuses_broken_ones():
    script = Path(__file__).parent / "breaks_validation.py"
    env = {**os.environ, "TRITON_INTERPRET": "1"}
    result = subprocess.run([sys.executable, str(script)], capture_output=True, text=True, env=env, check=True)
    assert result.stdout.split() == ["right", "wrong", "wrong", "wrong"]
