"""The exam of public regressions: its cases launch, its marks follow the verdicts, its page has all of them."""

import dataclasses
from pathlib import Path

import pytest

from autotune.check.artifact import Build
from autotune.check.compare import Comparison
from autotune.check.triage import Verdict
from autotune.tuning.compilation.launch import launches
from benchmarks.check.cases import CASES, UNREACHABLE
from benchmarks.check.exam import Result, served

PAGE = Path(__file__).parents[2] / "docs/release_exam.md"


@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.kernel}-{case.device}-{case.after}")
def test_case_launches_a_config_that_its_rules_allow(case):
    config = served(case)
    assert config.refusal is None
    assert set(case.changes) <= set(config.call.config)
    call = config.call
    assert [launch.function for launch in launches(call.kernel, call.problem, call.config, call.device)]


@pytest.mark.parametrize(
    ("regresses", "kind", "mark"),
    [
        (True, "spills", "found"),
        (True, "grown", "missed"),
        (True, "same", "missed"),
        (False, "alike", "quiet"),
        (False, "better", "quiet"),
        (False, "occupancy", "false alarm"),
        (False, "compile", "false alarm"),
    ],
)
def test_mark_follows_the_worst_verdict(regresses, kind, mark):
    case = dataclasses.replace(CASES[0], regresses=regresses)
    build = Build("here", 1.0, "same")
    verdicts = (Verdict(kind, "resources", "", "", "likely"), Verdict("grown", "resources", "", "", "possible"))
    assert Result(case, Comparison(served(case), build, build, verdicts)).mark == mark


def test_case_that_old_release_cannot_build_is_no_answer():
    failed = Build("here", 1.0, "", failed="SyntaxError", stage="compile")
    verdict = Verdict("alike", "compile", "", "", "certain")
    assert Result(CASES[0], Comparison(served(CASES[0]), failed, failed, (verdict,))).mark == "not built"


def test_committed_page_has_every_case_and_no_false_alarm():
    text = PAGE.read_text(encoding="utf-8")
    for case in CASES:
        assert f"| {case.name} | " in text
        assert f"| {case.before} -> {case.after}, {case.device} | {case.reported} |" in text
    assert all(one.thread.split("/")[1] in text for one in UNREACHABLE)
    assert "false alarm" not in text
    assert "not built" not in text
