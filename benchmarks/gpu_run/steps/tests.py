"""`pytest -m gpu`: one unit a test, as each ends."""

from __future__ import annotations

import re
import sys
from pathlib import Path

from benchmarks.gpu_run.commands import output_lines
from benchmarks.gpu_run.context import Context

_ENDED = re.compile(r"^(\S+::\S.*?) (PASSED|FAILED|ERROR|SKIPPED|XFAIL|XPASS)\b")
_TESTS = Path(__file__).parents[3] / "tests/tuning/measurement/test_gpu.py"


def run(context: Context) -> None:
    context.needs_gpu()
    command = [sys.executable, "-m", "pytest", "-m", "gpu", "-v", "-v", "--tb=short", str(_TESTS)]
    for line in output_lines(context, command):
        print(line, flush=True)
        if found := _ENDED.match(line):
            failed = {"failed": f"{found[2].lower()}; see tests.log"} if found[2] in ("FAILED", "ERROR") else {}
            context.add(found[1].rpartition("tests/")[2], outcome=found[2].lower(), **failed)
