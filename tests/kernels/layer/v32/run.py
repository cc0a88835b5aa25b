"""Runs V3.2's layers, assembled from our kernels, over their scene."""

from __future__ import annotations

from layer.batch import Batch
from layer.launch import Launcher
from layer.parts import Recorder, Site, Trace
from layer.v32.cases import case
from layer.v32.ours import Head, Layer

from autotune.device import Device


def run(gpu: Device) -> Trace:
    """Everything that the layers and the head make of the scene."""
    trace: Trace = {}
    here, launch = case(gpu.fp8), Launcher(gpu)
    scene, rows = here.scene, {"tokens": here.scene.tokens}
    sites = [
        Site(plan, here.sizes, weights, scene, launch, Recorder(trace, str(number), rows))
        for number, (plan, weights) in enumerate(zip([*here.plans, None], here.weights, strict=True))
    ]
    layers, head = [Layer(site) for site in sites[:-1]], Head(sites[-1])
    for step in scene.steps():
        batch = Batch.of(scene, step, here.token_ids)
        x, residual = here.weights[-1]["embedding"][batch.tokens], None
        for layer in layers:
            x, residual = layer.step(x, residual, batch)
        head.step(x, residual, batch)
    return trace
