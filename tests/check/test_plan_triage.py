"""Plans of two compiler releases, compared: every difference is named, and nothing that is equal."""

import dataclasses
import json

import pytest

from autotune import device, registry
from autotune.check import compilers, html_report, releases, report, served_rows
from autotune.check.artifact import Build, of_answer
from autotune.check.builder import Builder
from autotune.check.compare import Comparison, Report
from autotune.check.plan_triage import triage_plans
from autotune.check.triage import Pair
from autotune.errors import ToolchainError, UsageError
from autotune.tuning import space
from autotune.tuning.compilation.npu.hivm import Plan
from autotune.tuning.compilation.npu.linalg import DiscreteLoop
from autotune.tuning.compilation.npu.planning import LaunchPlan
from autotune.tuning.workers.worker import Limits

NPU = device.target("ascend910b")
PLAN = Plan("cube + vector", 81120, 49152, 8192, ("L1",), (("mma_tile_bfloat16_t_to_float", 1),), 75, 1, 24704, "a")
ROWS = DiscreteLoop("x_ptr", "row", writes=False)
ELEMENTS = DiscreteLoop("w_ptr", "element", writes=False)


def build(*launches):
    return Build("here", 1.0, "same", plans=launches)


def launch(name="_linear", loops=(ROWS,), **changes):
    return LaunchPlan(name, dataclasses.replace(PLAN, code=repr((loops, changes)), **changes), loops)


def verdicts(before, after):
    found = triage_plans(Pair(before, after, NPU, 1))
    return [(verdict.kind, verdict.before, verdict.after) for verdict in found]


def test_equal_plans_are_same():
    assert verdicts(build(launch()), build(launch())) == [("same plan", "", "")]


def test_other_text_with_equal_amounts_is_alike():
    assert verdicts(build(launch()), build(launch(scalar_accesses=2))) == [("alike", "", "")]


def test_all_amounts_that_changed_are_told_in_one_verdict():
    """Figures of every launch, as those of mhc_pre: the second one's with its name."""
    before = build(launch(), launch("finish", ub_bytes=37152))
    after = build(launch(syncs=87, workspace_bytes=98432), launch("finish", ub_bytes=37376))
    assert verdicts(before, after) == [
        (
            "plan",
            "75 syncs, 24704 B workspace; finish: 37152 B UB",
            "87 syncs, 98432 B workspace; finish: 37376 B UB",
        )
    ]


@pytest.mark.parametrize(
    ("changes", "verdict"),
    [
        ({"double_buffered": ()}, ("single buffer", "two", "one buffer in L1")),
        ({"matrix_operations": ()}, ("matrix", "1 mma_tile_bfloat16_t_to_float", "no matrix operations")),
        ({"cores": "vector"}, ("grown", "cube + vector", "vector cores")),
        ({"loops": (ROWS, ELEMENTS)}, ("element by element", "0", "1 loops: w_ptr is read element by element")),
        ({"loops": (ROWS, ROWS)}, ("grown", "1", "2 loops: x_ptr is read row by row")),
    ],
)
def test_each_loss_is_found_and_its_reverse_is_none(changes, verdict):
    before, after = build(launch()), build(launch(**changes))
    assert verdicts(before, after) == [verdict]
    losses = {"single buffer", "matrix", "element by element"}
    assert not losses & {kind for kind, *_ in verdicts(after, before)}


def test_reports_tell_plans_and_what_they_rest_on():
    (served,) = served_rows.defaults(["norm/rms_norm"], ["ascend910b"], [])
    before, after = build(launch()), build(launch(syncs=87))
    verdicts = triage_plans(Pair(before, after, NPU, 1))
    told = Report("old", "new", [Comparison(served, before, after, verdicts)])
    assert told.numerics == "none of those on NPUs: planned NPU IR; no machine code, never run"
    data = json.loads(json.dumps(report.as_json(told)))
    assert [made["planned"]["_linear, syncs"] for made in data["builds"]] == [75, 87]
    assert data["builds"][0]["planned"]["_linear, loops"] == "x_ptr is read row by row"
    assert "75 syncs -> 87 syncs" in report.markdown(told)
    assert "never run" in html_report.html(told)


def test_launch_without_plan_fails_call_in_words():
    stopped = LaunchPlan("_linear", stage="planner", why="ub overflow, requires 16384 bits while 8192 bits available")
    answer = {"launches": [stopped.as_json()], "config": {"BLOCK": 64}, "seconds": 1.0, "toolchain": "here"}
    made = of_answer(answer, NPU, "here")
    assert (made.stage, made.failed) == ("compile", "_linear, planner: UB overflow by 1 KiB of 1 KiB at BLOCK=64")
    assert Build.from_json(made.as_json()) == made
    assert verdicts(build(launch()), made)[0][0] == "compile"
    assert verdicts(made, build(launch()))[0][0] == "better"
    assert verdicts(made, made)[0][0] == "alike"


def test_absent_compilers_are_refused_before_anything_is_planned(tmp_path):
    builder = Builder(tmp_path, Limits(processes=1), lambda stage, done, total: None)
    (served,) = served_rows.defaults(["norm/rms_norm"], ["ascend910b"], [])
    with pytest.raises(ToolchainError, match="`autotune compile --fetch"):
        builder.builds(compilers.installed(), [served.call])
    assert builder.compiled == 0


def test_release_of_npu_compilers_is_toolchain_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr(releases, "npu_tools", lambda version, root: None)
    old, new = (compilers.named(f"ascendnpu-ir=={version}", tmp_path) for version in ("1.1.0", "1.2.0"))
    assert (old.npu_release, new.npu_release) == ("1.1.0", "1.2.0")
    assert old.name != new.name
    assert dataclasses.replace(new, npu_release="1.1.0").identity != new.identity, "a cached build is of one release"
    with pytest.raises(UsageError, match=r"`ascendnpu-ir==1\.2\.0`"):
        compilers.named("ascendnpu==1.2.0", tmp_path)


def test_default_of_each_kernel_is_checked_on_its_first_model_problem():
    (served,) = served_rows.defaults(["gemm/fp8_block_scaled"], ["ascend910b"], [])
    kernel = registry.load("gemm/fp8_block_scaled")
    assert served.row is None
    assert served.call.problem == space.load(kernel, NPU).compile[0]
    assert served.call.config == kernel.default(served.call.problem, NPU)
