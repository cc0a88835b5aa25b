"""Runs in a process with TRITON_INTERPRET=1: our kernels over a scene of each kind, their trace to a file.

Usage: run.py OUT DEVICE KIND...
"""

from __future__ import annotations

import sys
from pathlib import Path

import torch

sys.path.insert(0, str(Path(__file__).parents[1]))

from autotune import device
from autotune.tuning.interpret import correct_interpreter
from autotune.tuning.validate import poisoned_outputs
from layer.batch import Batch
from layer.cases import case
from layer.ours import Layer, Recorder, Trace


def run(kind: str, gpu: device.Device) -> Trace:
    """Everything that the layers of `kind` make of its scene."""
    trace: Trace = {}
    here = case(kind, gpu.fp8)
    scene, layers = here.scene, []
    for number, (plan, weights) in enumerate(zip(here.plans, here.weights, strict=True)):
        rows = {"tokens": scene.tokens, "topk": here.sizes.index_topk}
        if plan.ratio:
            rows["entries"] = sum(scene.entries(plan.ratio))
        layers.append(Layer(plan, here.sizes, weights, scene, gpu, Recorder(trace, str(number), rows)))
    for step in scene.steps():
        batch = Batch.of(scene, step, here.token_ids)
        streams = here.streams[batch.rows]
        for layer in layers:
            streams = layer.step(streams, batch)
    return trace


if __name__ == "__main__":
    out, name, *kinds = sys.argv[1:]
    correct_interpreter()
    with poisoned_outputs():
        traces = {kind: run(kind, device.named(name)) for kind in kinds}
    torch.save(traces, out)
