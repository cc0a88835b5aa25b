"""The data of a page as JSON, from what was estimated."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from autotune.report import charts
from autotune.report.html import columns
from autotune.report.model_page import ModelPage, Workload
from autotune.report.page_rows import CallRow, cells
from autotune.workload.hot_paths import HOT_PATHS

VIEWS = dict(zip(charts.heatmaps(), ("distance", "gain", "matrix", "tier"), strict=True))
"""Views of the heat map, by the chart that draws each, with what the page's script computes for it."""
_NOTES = (
    "Ranges are sums of the ranges of single calls, as predictions of one model may err alike. tok/s/GPU and $/Mtok "
    "count tokens of prompts and answers, tok/s/user those of answers.",
    "Assumed: one engine that prefills and decodes on the same GPUs, in graphs, back to back, with uniform routing, "
    "without draft layers, host time, or kernels beside collectives. Collectives are modeled from link figures. A "
    "kernel that no row serves counts with its default config; `autotune estimate` takes the model's best of a sample "
    "for it instead.",
)


def model_page_data(page: ModelPage) -> dict[str, Any]:
    """Return what the script of the page of a model on devices reads."""
    asked, parts = page.workload, page.parts
    return {
        "title": f"{asked.model.name} on {', '.join(part.facts.name for part in parts)}",
        "subtitle": _subtitle(asked),
        "notes": _NOTES,
        "steps": page.steps,
        "first_step": page.steps[len(asked.concurrencies) - 1],
        **kernels_data([row for part in parts for row in part.rows], [part.facts for part in parts]),
        "figures": columns([each for part in parts for each in part.figures]),
        "segments": columns([each for part in parts for each in part.segments]),
        "ranges": columns([each for part in parts for each in part.ranges]),
        "left_out": page.left_out,
        "made_by": "Made by `autotune report` from tuned tables and the cost model.",
    }


def kernels_data(rows: Sequence[CallRow], devices: Sequence[Any]) -> dict[str, Any]:
    """Return what every page says of kernels: rows, their sums, and names; `devices` have a `name`, perhaps more."""
    return {
        "devices": columns(devices),
        "rows": columns(rows),
        "cells": columns(cells(rows)),
        "paths": {path.number: path.title for path in HOT_PATHS},
        "views": VIEWS,
    }


def _subtitle(asked: Workload) -> str:
    split, scenario = asked.parallelism, asked.scenario
    experts = f", ep {split.expert}" if split.expert > 1 else ""
    attention = ", data-parallel attention" if split.data_attention else ""
    lengths = f"{scenario.input_tokens} tokens of prompt, {scenario.output_tokens} of answer"
    return f"Scenario {scenario.name} ({lengths}); tp {split.tensor}{experts}{attention}."
