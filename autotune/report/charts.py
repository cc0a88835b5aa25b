"""Charts as Vega-Lite specifications, without data: the page puts those in by name and filters them.

Text and rules take the colour of the text around them, so that one chart fits light, dark and paper.
"""

from __future__ import annotations

from typing import Any

from autotune.report.path_groups import GROUPS

Spec = dict[str, Any]

_SCHEMA = "https://vega.github.io/schema/vega-lite/v6.json"
_INK = "currentColor"
_BLUE, _ORANGE, _GREY, _YELLOW = "#0072B2", "#E69F00", "#999999", "#F0E442"
CONFIG: Spec = {
    "background": "transparent",
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        **{name: _INK for name in ("labelColor", "titleColor", "domainColor", "tickColor", "gridColor")},
        "gridOpacity": 0.15,
        "titleFontWeight": 500,
        "labelFontSize": 12,
        "titleFontSize": 12,
    },
    "legend": {
        "labelColor": _INK,
        "titleColor": _INK,
        "orient": "bottom",
        "columns": 4,
        "columnPadding": 24,
        "labelLimit": 220,
    },
    "title": {"color": _INK, "anchor": "start"},
    "header": {"labelColor": _INK, "titleColor": _INK},
}


def _chart(**parts: Any) -> Spec:  # noqa: ANN401
    return {"$schema": _SCHEMA, "config": CONFIG, **parts}


def step_bars() -> Spec:
    """Return stacked bars of hot paths, data `segments` and `ranges`; fields as in `step_bars.Segment`, and `bar`."""
    bar = {"field": "bar", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 240}}
    colours = {"domain": list(GROUPS), "range": [colour for _, colour in GROUPS.values()]}
    parts = {
        "data": {"name": "segments"},
        "mark": {"type": "bar", "height": {"band": 0.8}},
        "encoding": {
            "y": bar,
            "x": {"field": "ms", "type": "quantitative", "title": "milliseconds a step", "stack": "zero"},
            "color": {"field": "group", "type": "nominal", "title": None, "scale": colours},
            "order": {"field": "order", "type": "quantitative"},
            "tooltip": [{"field": "bar"}, {"field": "path"}, {"field": "group"}, _number("ms", "ms", ".3f")],
        },
    }
    ranges = {
        "data": {"name": "ranges"},
        "encoding": {
            "y": bar,
            "x": {"field": "least_ms", "type": "quantitative"},
            "x2": {"field": "most_ms"},
            "tooltip": [{"field": "bar"}, *(_number(f"{end}_ms", f"{end}, ms", ".2f") for end in ("least", "most"))],
        },
        "mark": {"type": "rule", "color": _INK, "strokeWidth": 1.5},
    }
    return _chart(width="container", height={"step": 22}, layer=[parts, ranges])


def heatmap(shade: Spec, legend: str) -> Spec:
    """Return a map of kernels by devices, data `cells`: `shade` scales the field `shade`, `label` stands in the cell.

    `dark` says which of two inks the label needs on its shade.
    """
    places = {
        "x": {
            "field": "device",
            "type": "nominal",
            "sort": None,
            "title": None,
            "axis": {"orient": "top", "labelAngle": 0},
        },
        "y": {"field": "kernel", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 260}},
    }
    kind = "nominal" if "domain" in shade and isinstance(shade["domain"][0], str) else "quantitative"
    tooltip = [{"field": name} for name in ("kernel", "device", "tier", "matrix", "spills", "calls")]
    tooltip += [_number(name, name, ".3~g") for name in ("default_us", "us", "least_us", "most_us", "bound_us")]
    shown = {"field": "shade", "type": kind, "title": legend, "scale": shade}
    if kind == "quantitative":
        shown["legend"] = {"gradientLength": 220, "direction": "horizontal"}
    return _chart(
        width={"step": 76},
        height={"step": 19},
        data={"name": "cells"},
        layer=[
            {
                "mark": {"type": "rect", "cursor": "pointer", "stroke": _GREY, "strokeWidth": 0.5},
                "encoding": {**places, "color": shown, "tooltip": tooltip},
            },
            {
                "mark": {"type": "text", "fontSize": 11, "cursor": "pointer"},
                "encoding": {
                    **places,
                    "text": {"field": "label"},
                    "color": {"condition": {"test": "datum.dark", "value": "white"}, "value": "black"},
                    "tooltip": tooltip,
                },
            },
        ],
    )


def heatmaps() -> dict[str, Spec]:
    """Return the views of the map by name; in both measures brighter is better."""
    near = {"type": "log", "domain": [1, 100], "clamp": True, "scheme": "cividis", "reverse": True}
    gains = {"domain": [1, 3], "clamp": True, "scheme": "cividis"}
    kinds = ["native", "slower instruction", "emulated", "no products", "unknown"]
    uses = {"domain": kinds, "range": [_BLUE, "#56B4E9", _ORANGE, "#cccccc", "#ffffff"]}
    tiers = ["measured", "imported", "modeled", "simulated", "no row"]
    sources = {"domain": tiers, "range": ["#009E73", "#56B4E9", _ORANGE, _YELLOW, "#ffffff"]}
    return {
        "distance to the bound": heatmap(near, "tuned time over bound"),
        "gain over the default": heatmap(gains, "default over tuned time"),
        "matrix instruction and spills": heatmap(uses, "products are"),
        "tier": heatmap(sources, "tier of most calls"),
    }


def over_sizes() -> Spec:
    """Return lines of time over the number of tokens, data `points`: `size`, `us`, `line`; and `band`: its range."""
    size = {"field": "size", "type": "quantitative", "scale": {"type": "log", "base": 2}, "title": "tokens"}
    axis = {"grid": False, "tickCount": 4}
    us = {"type": "quantitative", "scale": {"type": "log"}, "title": "microseconds a call", "axis": axis}
    strong = {"domain": ["default", "tuned", "bound"], "range": [_ORANGE, _BLUE, "#009E73"]}
    tooltip = [{"field": "line"}, {"field": "size"}, _number("us", "us", ".3~g")]
    bold = {
        "data": {"name": "points"},
        "transform": [{"filter": "!datum.term"}],
        "mark": {"type": "line", "point": True, "strokeWidth": 2.5},
        "encoding": {
            "x": size,
            "y": {"field": "us", **us},
            "color": {"field": "line", "type": "nominal", "title": None, "scale": strong},
            "tooltip": tooltip,
        },
    }
    terms = {
        "data": {"name": "points"},
        "transform": [{"filter": "datum.term"}],
        "mark": {"type": "line", "point": {"size": 18, "color": _GREY}, "strokeWidth": 1.5, "color": _GREY},
        "encoding": {
            "x": size,
            "y": {"field": "us", **us},
            "strokeDash": {"field": "line", "type": "nominal", "title": None},
            "tooltip": tooltip,
        },
    }
    band = {
        "data": {"name": "band"},
        "mark": {"type": "area", "opacity": 0.18, "color": _BLUE},
        "encoding": {"x": size, "y": {"field": "least_us", **us}, "y2": {"field": "most_us"}},
    }
    return _chart(width="container", height=260, layer=[band, terms, bold], resolve={"scale": {"color": "independent"}})


def search_curves() -> Spec:
    """Return the best time over trials, data `curves`: fields as in `session_page.CurvePoint`."""
    return _chart(
        width="container",
        height=260,
        data={"name": "curves"},
        mark={"type": "line", "interpolate": "step-after", "strokeWidth": 2, "point": {"size": 20}},
        encoding={
            "x": {"field": "trial", "type": "quantitative", "title": "trials", "axis": {"tickMinStep": 1}},
            "y": {
                "field": "over_best",
                "type": "quantitative",
                "title": "best so far / best",
                "scale": {"type": "log", "domainMin": 1},
                "axis": {"grid": False, "tickCount": 5, "format": "~g"},
            },
            "detail": {"field": "problem"},
            "color": {"field": "rank", "type": "ordinal", "title": "problems, small to large", "legend": None},
            "tooltip": [{"field": "problem"}, {"field": "trial"}, _number("us", "us", ".3~g")],
        },
    )


def stage_bars() -> Spec:
    """Return seconds by stage of each session, data `stages`: fields as in `session_page.StageSeconds`."""
    return _session_bars("stages", "stage", "seconds", "seconds")


def failure_bars() -> Spec:
    """Return failed configs by cause of each session, data `failures`: fields as in `session_page.Failure`."""
    return _session_bars("failures", "cause", "count", "configs that failed")


def _session_bars(data: str, part: str, length: str, title: str) -> Spec:
    colours = [colour for _, colour in GROUPS.values()]
    return _chart(
        width="container",
        height={"step": 22},
        data={"name": data},
        mark={"type": "bar", "height": {"band": 0.8}},
        encoding={
            "y": {"field": "session", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 300}},
            "x": {"field": length, "type": "quantitative", "title": title, "stack": "zero"},
            "color": {"field": part, "type": "nominal", "title": None, "scale": {"range": colours}},
            "tooltip": [{"field": "session"}, {"field": part}, _number(length, length, ".3~g")],
        },
    )


def by_name() -> dict[str, Spec]:
    """Return all charts by the names under which the page's script draws them."""
    sessions = {"search_curves": search_curves(), "stage_bars": stage_bars(), "failure_bars": failure_bars()}
    return {"step_bars": step_bars(), "over_sizes": over_sizes(), **heatmaps(), **sessions}


def _number(field: str, title: str, form: str) -> Spec:
    return {"field": field, "type": "quantitative", "format": form, "title": title}
