"""One step in a process of its own: `python -m benchmarks.gpu_run.step NAME ...`, as the runner starts it."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import time
import traceback
from contextlib import nullcontext
from importlib import import_module
from pathlib import Path

from benchmarks.gpu_run import lines, stand_in
from benchmarks.gpu_run.context import Context, OutOfTime, Skipped, device_of, kernels_of

_PR_SET_PDEATHSIG = 1


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("step")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--bench", required=True)
    parser.add_argument("--device", required=True)
    parser.add_argument("--kernels", nargs="*", default=[])
    parser.add_argument("--began", type=float, required=True, help="by time.monotonic, which processes share")
    parser.add_argument("--seconds", type=float, required=True, help="from then on")
    parser.add_argument("--again", action="store_true")
    arguments = parser.parse_args()
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)  # a runner that is killed leaves no step behind
    from autotune.toolchain import compiler_environment

    os.environ.update(compiler_environment())
    context = Context(
        arguments.step,
        arguments.out,
        arguments.bench,
        device_of(arguments.bench, arguments.device),
        kernels_of(tuple(arguments.kernels)),
        arguments.began + arguments.seconds,
        arguments.again,
    )
    state, why = _run(context)
    seconds = round(time.monotonic() - arguments.began, 1)
    lines.append(
        arguments.out / "steps.jsonl", {"unit": arguments.step, "state": state, "why": why, "seconds": seconds}
    )


def _run(context: Context) -> tuple[str, str]:
    """How the step ended, and why if not done."""
    here = stand_in.here(context.device.name) if context.is_rehearsal else nullcontext()
    try:
        with here:
            import_module(f"benchmarks.gpu_run.steps.{context.step}").run(context)
    except Skipped as skipped:
        return "skipped", str(skipped)
    except OutOfTime:
        return "partial", "the time of this step was over"
    except Exception as error:  # a step says what failed, and the run goes on
        traceback.print_exc()
        return "failed", f"{type(error).__name__}: {error}"[:1000]
    return ("partial", f"no time was left for {context.missed} units") if context.missed else ("done", "")


if __name__ == "__main__":
    main()
