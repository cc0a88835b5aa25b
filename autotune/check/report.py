"""A report as JSON, as JUnit XML for a CI, and as Markdown for a pull request."""

from __future__ import annotations

from itertools import groupby
from typing import Any
from xml.etree import ElementTree

from autotune.check.artifact import Build
from autotune.check.compare import Comparison, Report
from autotune.check.triage import FINE, NOTICES, REGRESSIONS
from autotune.config import describe
from autotune.tuning.compilation.npu.findings import facts


def as_json(report: Report) -> dict[str, Any]:
    """Rows name their builds by number: many rows share one."""
    builds: dict[Build, int] = {}
    rows = [
        {
            **_names(comparison),
            "config": dict(comparison.served.call.config),
            "tier": comparison.served.row.tier if comparison.served.row else "default",
            "kind": comparison.worst.kind,
            "verdicts": [vars(verdict) for verdict in comparison.verdicts],
            "before": builds.setdefault(comparison.before, len(builds)),
            "after": builds.setdefault(comparison.after, len(builds)),
        }
        for comparison in report.comparisons
    ]
    return {
        "baseline": report.baseline,
        "against": report.against,
        "counts": report.counts(),
        "kinds": {**REGRESSIONS, **NOTICES, **FINE},
        "compiled": report.compiled,
        "from_cache": report.from_cache,
        "proved": report.proved,
        "on_gpu": report.on_gpu,
        "numerics": report.numerics,
        "rows": rows,
        "builds": [build_json(build) for build in builds],
    }


def build_json(build: Build) -> dict[str, Any]:
    return {**build.as_json(), "loop": runs(build), "loop_mix": build.loop_mix, "planned": facts(build.plans)}


def runs(build: Build) -> list[str]:
    """The hot loop with repeats drawn together: `8 x v_mfma_f32_16x16x128_f8f6f4`."""
    counted = [(opcode, len(list(same))) for opcode, same in groupby(build.loop or ())]
    return [f"{count} x {opcode}" if count > 1 else opcode for opcode, count in counted]


def junit(report: Report) -> str:
    """One test case a row; regressions are failures, notices go to the case's output."""
    root = ElementTree.Element("testsuites")
    suite = ElementTree.SubElement(
        root,
        "testsuite",
        name=f"{report.baseline} against {report.against}",
        tests=str(len(report.comparisons)),
        failures=str(len(report.regressions)),
    )
    for comparison in report.comparisons:
        names = _names(comparison)
        case = ElementTree.SubElement(
            suite,
            "testcase",
            classname=f"{names['arch']}.{names['device']}.{names['kernel'].replace('/', '.')}",
            name=names["problem"],
        )
        text = "\n".join(map(str, comparison.verdicts))
        if comparison.worst.is_regression:
            failure = ElementTree.SubElement(case, "failure", type=comparison.worst.kind, message=str(comparison.worst))
            failure.text = text
        elif comparison.worst.kind in NOTICES:
            ElementTree.SubElement(case, "system-out").text = text
    ElementTree.indent(root)
    return ElementTree.tostring(root, encoding="unicode", xml_declaration=True) + "\n"


def markdown(report: Report, limit: int = 50) -> str:
    """For a pull request: counts, then regressions and notices; rows with one config and verdict share a line."""
    verdict = (
        f"{len(report.regressions)} of {len(report.comparisons)} rows regress"
        if report.regressions
        else "no row regresses"
    )
    lines = [f"## {report.baseline} against {report.against}: {verdict}", ""]
    lines += ["| rows | what |", "|---:|---|"]
    lines += [f"| {count} | {_about(kind)} |" for kind, count in report.counts().items()]
    for title, kinds in (("Regressions", REGRESSIONS), ("Worth knowing", NOTICES)):
        groups = grouped([comparison for comparison in report.comparisons if comparison.worst.kind in kinds])
        if groups:
            lines += [
                "",
                f"### {title}",
                "",
                "| kernel | device | problems | what | confidence |",
                "|---|---|---|---|---|",
            ]
            lines += [_line(group) for group in groups[:limit]]
        if len(groups) > limit:
            lines += ["", f"and {len(groups) - limit} more: see the HTML report"]
    return "\n".join(lines) + "\n"


def grouped(comparisons: list[Comparison]) -> list[list[Comparison]]:
    """Findings of one kernel on one device with one worst verdict, together."""
    groups: dict[tuple[str, ...], list[Comparison]] = {}
    for comparison in comparisons:
        names = _names(comparison)
        groups.setdefault((names["kernel"], names["device"], str(comparison.worst)), []).append(comparison)
    return sorted(
        groups.values(), key=lambda group: (list(REGRESSIONS) + list(NOTICES) + list(FINE)).index(group[0].worst.kind)
    )


def _line(group: list[Comparison]) -> str:
    names = _names(group[0])
    more = f" and {len(group) - 1} more" if len(group) > 1 else ""
    cells = (
        names["kernel"],
        names["device"],
        f"`{names['problem']}`{more}",
        str(group[0].worst),
        group[0].worst.confidence,
    )
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"


def _names(comparison: Comparison) -> dict[str, str]:
    served = comparison.served
    return {
        "kernel": served.kernel.name,
        "arch": served.device.arch,
        "device": served.device.name,
        "problem": describe(served.call.problem),
    }


def _about(kind: str) -> str:
    return {**REGRESSIONS, **NOTICES, **FINE}[kind]
