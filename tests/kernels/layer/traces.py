"""Traces of our kernels, which run in processes of their own, with TRITON_INTERPRET=1."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import torch
from layer.taps import Trace


def traces(folder: Path, device: str, *groups: tuple[str, ...]) -> dict[str, Trace]:
    """Kind -> trace on `device`; each group of kinds has a process. Raises AssertionError with what one said last."""
    processes = [_start(folder, device, kinds) for kinds in groups]
    gathered: dict[str, Trace] = {}
    for process, out in processes:
        _, complaint = process.communicate()
        assert process.returncode == 0, complaint
        gathered |= torch.load(out, weights_only=True)
    return gathered


def _start(folder: Path, device: str, kinds: tuple[str, ...]) -> tuple[subprocess.Popen[str], Path]:
    out = folder / f"{device}-{'-'.join(kinds)}.pt"
    command = [sys.executable, "-W", "ignore", "-m", "layer.run", str(out), device, *kinds]
    env = {**os.environ, "TRITON_INTERPRET": "1", "OMP_NUM_THREADS": "1"}
    tests = Path(__file__).parents[1]
    return subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=env, cwd=tests), out
