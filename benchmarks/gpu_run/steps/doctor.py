"""`autotune doctor`: one unit a finding."""

from __future__ import annotations

import json

from benchmarks.gpu_run.commands import autotune
from benchmarks.gpu_run.context import Context


def run(context: Context) -> None:
    for finding in json.loads(autotune(context, "doctor", "--json").stdout):
        context.add(finding["check"], ok=finding["ok"] == "yes", detail=finding["detail"])
