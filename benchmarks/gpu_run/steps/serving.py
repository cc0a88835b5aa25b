"""Serving through the runtime: a captured graph equals an eager call, what a call costs the host, torch.compile."""

from __future__ import annotations

import time
from typing import Any

import torch

from autotune import registry
from autotune.config import Problem, Scalar, build, key
from autotune.kernel import Kernel
from autotune.tuning import space
from benchmarks.gpu_run.context import Context

_CALLS = 1000
_PROBLEMS: dict[str, dict[str, Scalar]] = {
    "gemm/fp8_block_scaled": {"m": 16, "n": 2048, "k": 7168},
    "norm/rms_norm_quant": {"rows": 16, "cols": 7168},
    "attention/sparse_decode": {"tokens": 4, "heads": 16, "keys": 128},
}
_COMPILED = "norm/rms_norm_quant"


def run(context: Context) -> None:
    context.needs_tensors_on_a_gpu()
    work = [(name, _served) for name in _PROBLEMS if name in context.kernels]
    if context.is_gpu:  # the stand-in has no compiler
        work += [(f"torch.compile {name}", _compiled) for name in (_COMPILED,) if name in context.kernels]
    for unit, ask in context.units(work):
        kernel = registry.load(unit.rpartition(" ")[2])
        problem = _problem(context, kernel)
        inputs = problem.inputs(0, "cuda:0")
        try:
            calls = 3 if context.is_rehearsal else _CALLS
            context.add(unit, kernel=kernel.name, problem=dict(key(problem)), **ask(kernel, inputs, calls))
        except Exception as error:  # compilers and drivers raise anything
            context.add(unit, failed=f"{type(error).__name__}: {error}"[:600])


def _problem(context: Context, kernel: Kernel[Any]) -> Problem:
    if context.is_rehearsal:
        return space.load(kernel, context.device).check[0]
    drawn = {"dtype": context.device.fp8} if "dtype" in kernel.problem.__dataclass_fields__ else {}
    problem: Problem = build(kernel.problem, {**_PROBLEMS[kernel.name], **drawn}, "serving")
    return problem


def _served(kernel: Kernel[Any], inputs: tuple[Any, ...], calls: int) -> dict[str, Any]:
    began = time.perf_counter()
    eager = _first(kernel(*inputs))
    torch.cuda.synchronize()
    first_call_s = time.perf_counter() - began
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        captured = _first(kernel(*inputs))
    captured.view(torch.uint8).zero_()  # what is there afterwards is of the replay
    graph.replay()
    torch.cuda.synchronize()
    same = torch.equal(eager.view(torch.uint8), captured.view(torch.uint8))
    began = time.perf_counter()
    for _ in range(calls):
        kernel(*inputs)
    host_us = (time.perf_counter() - began) / calls * 1e6
    torch.cuda.synchronize()
    wrong = {} if same else {"failed": "the captured graph gives other bits than the eager call"}
    return {"first_call_s": first_call_s, "graph_equals_eager": same, "host_us": host_us, **wrong}


def _compiled(kernel: Kernel[Any], inputs: tuple[Any, ...], calls: int) -> dict[str, Any]:
    def whole(*arguments: Any) -> torch.Tensor:  # noqa: ANN401
        return _first(kernel(*arguments)).float() * 2

    arguments = inputs[:2]  # what a call needs; the rest has defaults
    began = time.perf_counter()
    compiled = torch.compile(whole, fullgraph=True)
    got = compiled(*arguments)
    seconds = time.perf_counter() - began
    same = torch.equal(got, whole(*arguments))
    began = time.perf_counter()
    for _ in range(calls):
        compiled(*arguments)
    host_us = (time.perf_counter() - began) / calls * 1e6
    wrong = {} if same else {"failed": "compiled and eager results differ"}
    return {"seconds": seconds, "equal": same, "host_us": host_us, **wrong}


def _first(outputs: Any) -> torch.Tensor:  # noqa: ANN401
    tensor: torch.Tensor = outputs[0] if isinstance(outputs, tuple) else outputs
    return tensor
