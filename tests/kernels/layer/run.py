"""Runs in a process with TRITON_INTERPRET=1: our kernels over the scenes of the kinds, their traces to a file.

Kinds are those of `layer.weights`, and v32. Usage, in the folder of these tests: python -m layer.run OUT DEVICE KIND...
"""

from __future__ import annotations

import sys

import torch
from layer.batch import Batch
from layer.cases import case
from layer.launch import Launcher
from layer.ours import Layer
from layer.parts import Recorder, Site, Trace
from layer.v32.run import run as run_v32

from autotune import device
from autotune.tuning.interpreter.sanitizer import sanitized


def run(kind: str, gpu: device.Device) -> Trace:
    """Everything that the layers of `kind` make of its scene."""
    trace: Trace = {}
    here = case(kind, gpu.fp8)
    scene, launch, layers = here.scene, Launcher(gpu), []
    for number, (plan, weights) in enumerate(zip(here.plans, here.weights, strict=True)):
        rows = {"tokens": scene.tokens}
        if plan.ratio:
            rows["entries"] = sum(scene.entries(plan.ratio))
        layers.append(Layer(Site(plan, here.sizes, weights, scene, launch, Recorder(trace, str(number), rows))))
    for step in scene.steps():
        batch = Batch.of(scene, step, here.token_ids)
        streams = here.streams[batch.rows]
        for layer in layers:
            streams = layer.step(streams, batch)
    return trace


if __name__ == "__main__":
    out, name, *kinds = sys.argv[1:]
    with sanitized():
        gpu = device.named(name)
        traces = {kind: run_v32(gpu) if kind == "v32" else run(kind, gpu) for kind in kinds}
    torch.save(traces, out)
