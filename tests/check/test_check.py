"""Release checks: each seeded regression lands in its own class, unchanged rows raise no alarm, reports say so."""

import dataclasses
import importlib.util
import itertools
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from xml.etree import ElementTree

import pytest
import torch

from autotune import device as devices
from autotune import registry, table
from autotune.check import artifact, compilers, html_report, releases, report, reproduce, served_rows, timing
from autotune.check.bisect import bisect, comparing
from autotune.check.builder import Builder
from autotune.check.call import CheckedCall
from autotune.check.compare import check
from autotune.check.served_rows import ServedConfig
from autotune.check.triage import Pair, Verdict, strength, triage
from autotune.check.worker_pool import Processes
from autotune.cli import main
from autotune.config import Config, key
from autotune.errors import UsageError
from autotune.state import state_root
from autotune.tuning.compilation.resources import Resources
from autotune.tuning.workers.worker import Limits

sys.path.insert(0, str(Path(__file__).parent / "release_kernels"))
from plain_gemm import FAULTS, ROWS, plain_gemm

LIMITS = Limits(processes=1)


def builder(state):
    return Builder(state, LIMITS, lambda stage, done, total: None)


def gemm(arch, format, m=256):
    gpu = devices.of_arch(arch)
    problem = plain_gemm.problem(m, 256, 256, format)
    return CheckedCall(plain_gemm, problem, plain_gemm.default(problem, gpu), gpu)


def release(variable):
    """The Triton that is installed here, as if it were another release; see plain_gemm.py."""
    return dataclasses.replace(compilers.installed(), name=variable, environment=(("RELEASE", variable),))


ARCHS = {"spills": "sm_80", "fit": "sm_90", "compile": "gfx950", "numerics": "gfx942", "matrix": "sm_90"}
CALLS = {fault: gemm(ARCHS[fault], "fp8" if fault == "matrix" else "bf16", m) for m, fault in ROWS.items()}
SUBJECTS = [ServedConfig(call) for call in CALLS.values()]


@pytest.fixture(scope="module")
def shared_state(tmp_path_factory):
    return tmp_path_factory.mktemp("state")


@pytest.fixture(scope="module")
def faulty(shared_state):
    return check(SUBJECTS, compilers.installed(), release("faulty"), builder(shared_state))


@pytest.mark.thorough
def test_each_seeded_regression_is_found_in_its_class(faulty):
    assert [comparison.worst.kind for comparison in faulty.comparisons] == list(FAULTS)
    assert len(faulty.regressions) == len(FAULTS)


@pytest.mark.thorough
def test_reports_say_same(faulty):
    text = report.markdown(faulty)
    assert "5 of 5 rows regress" in text
    cases = ElementTree.fromstring(report.junit(faulty)).findall(".//testcase/failure")
    assert [case.get("type") for case in cases] == list(FAULTS)
    found = json.loads(json.dumps(report.as_json(faulty)))
    assert [row["kind"] for row in found["rows"]] == list(FAULTS)
    assert found["builds"][found["rows"][0]["after"]]["resources"]["spills"] > 0


@pytest.mark.thorough
def test_unchanged_calls_raise_no_alarm(shared_state, faulty):
    same = check(SUBJECTS, compilers.installed(), release("healthy"), builder(shared_state))
    assert same.counts() == {"same": len(CALLS)}
    warm = check(SUBJECTS, compilers.installed(), release("healthy"), builder(shared_state))
    assert (warm.compiled, warm.from_cache, warm.counts()) == (0, 2 * len(CALLS), same.counts())


def built(**changes):
    made = Resources(100, 0, 0, 32768, 0, (("v_mfma_f32_16x16x128_f8f6f4", 16),), 4096, 4, 3, "code")
    fields = {name: changes.pop(name) for name in list(changes) if name in Resources.__dataclass_fields__}
    made = dataclasses.replace(made, **{"code": repr(fields), **fields})
    return dataclasses.replace(artifact.Build("here", 1.0, "same", ("s_nop",), made), **changes)


def test_what_interpreter_runs_alike_is_proved_once():
    def call(device, **changes):
        kernel, gpu = registry.load("norm/rms_norm"), devices.named(device)
        problem = kernel.problem(64, 7168)
        return CheckedCall(kernel, problem, Config({**kernel.default(problem, gpu), **changes}), gpu)

    here = call("mi355x")
    assert here.computation == call("mi355x", num_warps=2).computation == call("b200", num_stages=3).computation
    assert here.signature != call("mi355x", num_warps=2).signature
    assert here.computation != call("mi355x", BLOCK=2048).computation
    assert here.computation != dataclasses.replace(here, problem=here.kernel.problem(65, 7168)).computation


def test_names_and_places_do_not_change_the_front_end():
    one = """module {
  tt.func @f(%a: i32 loc("a"(#loc))) {
    %c1 = arith.constant 1 : i32 loc(#loc1)
    %cst = arith.constant 2 : i32
    %0 = arith.addi %a, %c1 : i32
    %1 = arith.muli %0, %cst : i32
  }
  tt.func @g(%a: i32) {
    %c1 = arith.constant 7 : i32
    %0 = arith.addi %a, %c1 : i32
  }
}
#loc = loc("x.py":1:1)
"""
    swapped = one.replace("%c1 = arith.constant 1", "%x = arith.constant 2", 1).replace(
        "%cst = arith.constant 2", "%y = arith.constant 1"
    )
    swapped = swapped.replace("addi %a, %c1", "addi %a, %y", 1).replace("muli %0, %cst", "muli %0, %x")
    assert artifact._nameless(one) == artifact._nameless(swapped)
    assert artifact._nameless(one) != artifact._nameless(one.replace("constant 7", "constant 8"))
    assert artifact._nameless(one) != artifact._nameless(one.replace("muli %0, %cst", "muli %cst, %0"))


def test_only_what_resources_leave_open_is_disassembled():
    gpu = devices.named("b200")
    cases = [({}, False), ({"registers": 104}, False), ({"spills": 4, "stack_bytes": 20}, True)]
    cases += [({"code_bytes": 4200}, False), ({"code_bytes": 4400}, True), ({"programs_per_unit": 2}, True)]
    for after, wanted in cases:
        assert Pair(built(), built(**after), gpu, 1).needs_loops is wanted
    assert Pair(built(), built(registers=104), devices.named("mi355x"), 1).needs_loops


@pytest.mark.parametrize(
    ("after", "kind"),
    [
        ({}, "same"),
        ({"registers": 104}, "alike"),
        ({"spills": 4, "stack_bytes": 20}, "spills"),
        ({"programs_per_unit": 2, "registers": 170}, "occupancy"),
        ({"programs_per_unit": 4}, "better"),
        ({"matrix_instructions": (("v_mfma_f32_16x16x32_fp8_fp8", 64),)}, "matrix"),
        ({"matrix_instructions": ()}, "matrix"),
        ({"matrix_instructions": (("v_mfma_f32_16x16x128_f8f6f4", 8), ("v_mfma_f32_16x16x32_bf16", 32))}, "matrix"),
        ({"matrix_instructions": (("v_mfma_f32_16x16x128_f8f6f4", 8),)}, "grown"),
        ({"matrix_instructions": (("v_mfma_f32_32x32x64_f8f6f4", 8),)}, "grown"),
        ({"shared_bytes": 65536}, "grown"),
        ({"seconds": 60.0, "code": "slow"}, "compile time"),
        ({"failed": "no", "stage": "fit", "resources": None}, "fit"),
        ({"failed": "no", "stage": "compile", "resources": None}, "compile"),
    ],
)
def test_triage(after, kind):
    pair = Pair(built(), built(**after), devices.named("mi355x"), programs=10_000)
    assert triage(pair)[0].kind == kind


LADDERS = {
    "rtx_5090": [
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
        "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32",
        "mma.sync.aligned.m16n8k64.row.col.kind::mxf4nvf4.block_scale.scale_vec::2X.f32.e2m1.e2m1.f32.ue8m0",
    ],
    "h100": [
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
        "wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16",
        "wgmma.mma_async.sync.aligned.m64n128k32.f32.e4m3.e4m3",
    ],
    "b200": [
        "mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32",
        "tcgen05.mma.cta_group::1.kind::f16",
        "tcgen05.mma.cta_group::1.kind::f8f6f4",
        "tcgen05.mma.cta_group::1.kind::mxf4.block_scale",
    ],
    "mi300x": ["v_mfma_f32_16x16x16_bf16", "v_mfma_f32_16x16x32_fp8_fp8"],
    "mi355x": ["v_mfma_f32_16x16x32_bf16", "v_mfma_f32_16x16x32_fp8_fp8", "v_mfma_f32_16x16x128_f8f6f4"],
}
"""Matrix instructions of a GPU that may do one job, slowest first."""
STEPS = [(gpu, pair) for gpu, ladder in LADDERS.items() for pair in itertools.combinations(ladder, 2)]


@pytest.mark.parametrize(("gpu", "pair"), STEPS, ids=lambda value: value if isinstance(value, str) else "")
def test_stronger_matrix_instruction_is_an_upgrade(gpu, pair):
    weak, strong = (built(matrix_instructions=((name, count),)) for name, count in zip(pair, (256, 32), strict=True))
    strong = dataclasses.replace(strong, resources=dataclasses.replace(strong.resources, code="other"))
    up, down = (triage(Pair(*sides, devices.named(gpu), 1000))[0] for sides in ((weak, strong), (strong, weak)))
    assert (up.kind, down.kind) == ("better", "matrix")


def test_idle_occupancy_and_old_failures_are_no_loss():
    gpu = devices.named("mi355x")
    fewer = Pair(built(), built(programs_per_unit=1), gpu, programs=gpu.compute_units)
    assert triage(fewer)[0].kind == "grown"
    failed = built(failed="no", stage="compile", resources=None)
    assert triage(Pair(failed, failed, gpu, 1))[0].kind == "alike"
    assert triage(Pair(failed, built(), gpu, 1))[0].kind == "better"


@pytest.mark.thorough
def test_wrong_machine_code_is_found_on_the_gpu(faulty):
    """Where the front end is the same on both sides, no proof by the interpreter could tell."""
    asked = []

    class Gpu:
        def checked(self, side, calls):
            asked.extend(calls.values())
            return {name: {"failed": "WrongResult: c[0, 0] is 1, must be 0"} for name in calls}

    alike = [dataclasses.replace(c, verdicts=(Verdict("alike", "", "", "", ""),)) for c in faulty.comparisons]
    found = dataclasses.replace(faulty, comparisons=alike)
    timing.check_changed(found, compilers.installed(), Gpu(), CALLS["matrix"].device)
    kinds = {c.served.call.problem.m: c.worst.kind for c in found.comparisons}
    assert kinds == {m: "numerics" if fault == "matrix" else "alike" for m, fault in ROWS.items()}
    assert asked == [CALLS["matrix"]], "one of that GPU compiles with the new compiler"
    assert (found.on_gpu, "on this GPU" in found.numerics, "on this GPU" in faulty.numerics) == (1, True, False)


STEADY = (100.0, 101.0, 99.0, 100.0, 100.5)


@pytest.mark.parametrize(
    ("again", "after", "rival", "kind"),
    [
        (1.0, 1.0, 1.1, "alike"),
        (1.0, 1.01, 1.1, "alike"),
        (1.0, 1.2, 1.3, "slower"),
        (1.0, 0.8, 1.0, "faster"),
        (1.0, 1.2, 0.9, "swap"),
        (1.25, 1.2, 1.3, "alike"),  # the baseline itself drifted by a quarter
    ],
)
def test_times_are_judged_against_their_noise(again, after, rival, kind):
    def scaled(factor):
        return [us * factor for us in STEADY]

    times = timing.RowTimes((STEADY, scaled(again)), scaled(after), {Config(a=1): scaled(rival)})
    assert timing.timed(times).kind == kind


@pytest.mark.thorough
def test_measured_findings_take_gpus_word(faulty):
    class Gpu:
        def times(self, side, calls):
            slow = 1.5 if side.name == "new" else 1.0
            wrong = {"failed": "WrongResult: c[0, 0] is 1, must be 0"}
            answers = {n: {"samples_us": [us * slow for us in STEADY]} for n in calls}
            return {n: wrong if side.name == "new" and calls[n] is CALLS["fit"] else answers[n] for n in calls}

    sides = tuple(dataclasses.replace(compilers.installed(), name=name) for name in ("old", "new"))
    fine = [dataclasses.replace(f, verdicts=(Verdict("alike", "", "", "", ""),)) for f in faulty.comparisons]
    found = timing.measured(fine, [[] for _ in fine], sides, Gpu())
    kinds = {f.served.call.problem.m: f.worst.kind for f in found}
    assert kinds == {m: "numerics" if fault == "fit" else "slower" for m, fault in ROWS.items()}


def test_strength_orders_instructions_of_arch():
    assert strength("v_mfma_f32_32x32x64_f8f6f4") == strength("v_mfma_f32_16x16x128_f8f6f4")
    assert strength("v_mfma_f32_16x16x128_f8f6f4") > strength("v_mfma_f32_16x16x32_fp8_fp8")
    assert strength("v_mfma_f32_16x16x32_fp8_fp8") > strength("v_mfma_f32_16x16x16_bf16")
    assert strength("wgmma.mma_async.sync.aligned.m64n128k16.f32.bf16.bf16") > strength(
        "mma.sync.aligned.m16n8k32.row.col.f32.e4m3.e4m3.f32"
    )
    assert strength("tcgen05.mma.cta_group::1.kind::mxf4.block_scale") > strength(
        "tcgen05.mma.cta_group::1.kind::f8f6f4"
    )


@pytest.mark.thorough
def test_page_opens_and_leads_from_heatmap_to_row(faulty, tmp_path):
    webdriver = pytest.importorskip("selenium.webdriver", reason="pip install selenium")
    if not (shutil.which("chromium") and shutil.which("chromedriver")):
        pytest.skip("apt-get install chromium chromium-driver")
    path = tmp_path / "report.html"
    path.write_text(html_report.html(faulty), encoding="utf-8")
    assert "http" not in html_report.html(faulty)
    options = webdriver.ChromeOptions()
    options.binary_location = shutil.which("chromium")
    for argument in ("--headless=new", "--no-sandbox", "--disable-dev-shm-usage", "--window-size=1200,900"):
        options.add_argument(argument)
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    browser = webdriver.Chrome(options=options, service=webdriver.ChromeService(shutil.which("chromedriver")))
    try:
        browser.get(path.as_uri())
        cells = browser.find_elements("css selector", ".heatmap a")
        assert len(cells) == len(set(ARCHS.values()))
        assert len(browser.find_elements("css selector", ".found a")) == len(FAULTS)
        cells[0].click()
        assert "release_kernels/plain_gemm on sm_80" in browser.find_element("css selector", "h1").text
        browser.find_element("css selector", ".rows a").click()
        assert "m=256" in browser.find_element("css selector", "h1").text
        assert "spills" in browser.find_element("css selector", ".verdicts").text
        resources = browser.find_element("css selector", ".resources").text
        assert str(faulty.comparisons[0].after.resources.stack_bytes) in resources
        assert "STL" in browser.find_element("css selector", "pre").text
        assert not [entry for entry in browser.get_log("browser") if entry["level"] == "SEVERE"]
    finally:
        browser.quit()


@pytest.fixture
def tables(tmp_path, monkeypatch, shared_state):
    """A table of three rows: one as it was proved, and two whose config somebody changed, one beyond what compiles."""
    monkeypatch.setenv("AUTOTUNE_STATE", str(shared_state))
    monkeypatch.setenv("AUTOTUNE_TABLES", str(tmp_path / "tables"))
    kernel, gpu = registry.load("norm/rms_norm"), devices.named("mi355x")
    rows = []
    for m, changes in ((64, {}), (128, {"num_warps": 16}), (256, {"ROWS": 2**20})):
        problem = kernel.problem(m, 7168)
        proved = CheckedCall(kernel, problem, kernel.default(problem, gpu), gpu)
        (made,) = builder(shared_state).builds(compilers.installed(), [proved]).values()
        config = Config({**proved.config, **changes})
        rows.append(table.Row(key(problem), config, "modeled", {}, made.toolchain, made.resources.code))
    path = table.path_of(tmp_path / "tables", gpu.arch, gpu.name, kernel.name)
    table.save(table.Table(kernel.name, gpu.arch, gpu.name, kernel.identity.kernel, tuple(rows)), path)
    return path


@pytest.mark.thorough
def test_rows_of_rehearsal_are_checked_for_their_device(tables):
    rehearsal = dataclasses.replace(table.load(tables), device="mi355x.simulated-7")
    root = tables.parents[3]
    table.save(rehearsal, table.path_of(root, rehearsal.arch, rehearsal.device, rehearsal.kernel))
    tables.unlink()
    found = served_rows.of_tables(root, [rehearsal.kernel], [rehearsal.arch], ["mi355x"])
    assert [served.device.name for served in found] == ["mi355x"] * 3


@pytest.mark.thorough
def test_edited_row_is_not_what_was_proved(tables, capsys):
    assert main(["check", "--json", "--jobs", "1"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert [row["kind"] for row in found["rows"]] == ["same", "record", "compile"]


def test_fix_uses_known_rows_and_leaves_passing_tables(tables, capsys):
    before = table.load(tables)
    assert main(["check", "--json", "--jobs", "1", "--fix"]) == 0
    first, *others = table.load(tables).rows
    assert first == before.rows[0]
    assert all(row.config != old.config for row, old in zip(others, before.rows[1:], strict=True))
    assert all(row.config.size("num_warps") in (1, 2, 4, 8) and row.evidence["proved_on"] for row in others)
    assert all(row.evidence["repaired"] and row.evidence["spills"] == 0 for row in others)
    capsys.readouterr()
    assert main(["check", "--json", "--jobs", "1"]) == 0
    assert json.loads(capsys.readouterr().out)["counts"] == {"same": 3}


@pytest.mark.thorough
def test_fix_takes_stored_finalist_and_asks_for_no_search(tables, monkeypatch):
    searched = []
    monkeypatch.setattr("autotune.check.retune.run", lambda words, against: searched.append(words))
    old = table.load(tables)
    warps = [dict(old.rows[2].config)]  # which does not compile
    warps += [{**old.rows[0].config, "num_warps": n} for n in (2, 1)]
    edited = dataclasses.replace(old.rows[2], evidence={"finalists": [*warps, 7, {"num_warps": [4]}]})
    table.save(dataclasses.replace(old, rows=(*old.rows[:2], edited)), tables)
    assert main(["check", "--json", "--jobs", "1", "--fix"]) == 0
    row = table.load(tables).rows[2]
    assert row.config == Config(warps[1])  # not the config of the other rows, which the table knows too
    assert row.evidence["finalists"] == [warps[2]]
    assert row.evidence["replaces"] == dict(edited.config)
    assert not searched


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--against", "triton=3.9"], "write `installed`"),
        (["--against", "triton==3.4.0"], "too old"),
        (["--against-env", "/nonexistent"], "no environment"),
        (["--arch", "sm_91"], "to add sm_91, give it a record in"),
        (["--device", "mi355"], "did you mean 'mi355x'"),
        (["gem/fp8"], "unknown kernel"),
    ],
)
def test_usage_errors(arguments, message, capsys):
    assert main(["check", *arguments]) == 2
    assert message in capsys.readouterr().err


@pytest.mark.thorough
def test_dead_compiler_is_a_finding_and_next_call_runs():
    dying = release("dying")
    with Processes(dying, Limits(processes=1, timeout_s=600)) as processes:
        answers = dict(processes.run("compile", {"a": CALLS["compile"], "b": CALLS["spills"]}, lambda _, a: a))
    assert all("died (exit code 7)" in answer["failed"] for answer in answers.values())
    with Processes(compilers.installed(), Limits(processes=1, timeout_s=0.01)) as processes:
        answers = dict(processes.run("compile", {"a": CALLS["compile"]}, lambda _, a: a))
    assert answers["a"]["late"]


@pytest.mark.thorough
def test_failure_of_kernel_file_is_forgotten_once_mended(tmp_path):
    path = tmp_path / "mended_gemm.py"
    text = (Path(__file__).parent / "release_kernels/plain_gemm.py").read_text().replace("plain_gemm", path.stem)
    path.write_text(text)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    module = sys.modules[path.stem] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    gpu, kernel = devices.of_arch("sm_80"), module.mended_gemm
    problem = kernel.problem(256, 256, 256, "bf16")
    call = CheckedCall(kernel, problem, kernel.default(problem, gpu), gpu)
    maker = builder(tmp_path / "state")
    path.write_text(text.replace("VARYING: ", "CHANGING: "))
    (broken,) = maker.builds(compilers.installed(), [call]).values()
    assert "VARYING" in broken.failed
    path.write_text(text)
    (mended,) = maker.builds(compilers.installed(), [call]).values()
    assert not mended.failed


FAKE_PYTHON = """#!/bin/sh
sleep 600 < /dev/null > /dev/null 2>&1 &
echo $! >> {pids}
echo '{{"ready": {{}}}}'
read request
{then}
"""


def is_alive(pid):
    """A killed process whose parent died may be a zombie for a moment, and in some containers for ever."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


@pytest.mark.parametrize(("then", "failure"), [("sleep 600", "was killed"), ("exit 3", "died (exit code 3)")])
def test_compilers_of_process_end_with_it(tmp_path, then, failure):
    pids, python = tmp_path / "pids", tmp_path / "python"
    python.write_text(FAKE_PYTHON.format(pids=pids, then=then))
    python.chmod(0o755)
    faked = dataclasses.replace(compilers.installed(), python=str(python))
    with Processes(faked, Limits(processes=1, timeout_s=2)) as processes:
        for _ in range(2):  # the second call starts a process in place of the first
            ((_, answer),) = processes.run("compile", {"a": CALLS["compile"]}, lambda _, answer: answer)
            assert failure in answer["failed"]
    deadline = time.monotonic() + 30
    started = pids.read_text().split()
    while any(map(is_alive, started)) and time.monotonic() < deadline:
        time.sleep(0.05)
    assert len(started) == 2
    assert not [pid for pid in started if is_alive(pid)]


def test_what_is_no_compiler_is_refused(tmp_path):
    (tmp_path / "triton").mkdir()
    (tmp_path / "triton/__init__.py").write_text("__version__ = '4.0.0'")
    strange = dataclasses.replace(compilers.installed(), name="triton 4.0.0", path=(str(tmp_path),))
    with Processes(strange, LIMITS) as processes, pytest.raises(UsageError, match=r"4\.0\.0 cannot be checked"):
        list(processes.run("compile", {"a": CALLS["compile"]}, lambda _, a: a))


def test_releases_are_fetched_once_and_whole(tmp_path, monkeypatch):
    fetched = []

    def pip(*arguments):
        fetched.append(arguments[-1])
        target = Path(arguments[arguments.index("--target") + 1])
        target.mkdir()
        if "0.0.1" in arguments[-1]:
            raise UsageError("no such release")
        return ""

    monkeypatch.setattr(releases, "_pip", pip)
    assert releases.release("triton", "3.8.0", tmp_path) == releases.release("triton", "3.8.0", tmp_path)
    assert fetched == ["triton==3.8.0"]
    with pytest.raises(UsageError):
        releases.release("triton", "0.0.1", tmp_path)
    assert not (tmp_path / "triton-0.0.1").exists()
    assert releases.release("nvidia-cuda-nvcc", "13.5", tmp_path).is_dir()
    assert fetched[-1] == "nvidia-cuda-nvcc==13.5.*"
    assert sorted(p.name for p in tmp_path.iterdir() if p.is_dir()) == ["nvidia-cuda-nvcc-13.5", "triton-3.8.0"]


def test_bisect_halves():
    names = [f"triton=={n}" for n in range(12)]
    asked = []

    def compare(good, release):
        assert good == names[0]
        asked.append(release)
        return Verdict("spills" if names.index(release) >= 7 else "alike", "", "", "", "")

    found = bisect(names, compare)
    assert (found.last_good, found.first_bad) == ("triton==6", "triton==7")
    assert len(asked) <= 5
    assert bisect(names[:5], compare).first_bad is None


def test_reproducer_needs_only_triton(tmp_path):
    text = reproduce.script(CALLS["matrix"], "it.py", "lost")
    assert "autotune" not in text
    assert "wgmma" in run_alone(tmp_path / "it.py", text)


def run_alone(path, text):
    path.write_text(text)
    return subprocess.run([sys.executable, "-P", path], capture_output=True, text=True, check=True).stdout


RELEASES = [
    # (arch, format, first bad, class): found with no hint in GEMMs that nobody tuned; 3.6 and 3.7 do none of this.
    ("sm_89", "fp8", "triton==3.8.0", "spills"),
    ("gfx1201", "mxfp8", "triton==3.8.0", "spills"),
    ("gfx1201", "mxfp4", "triton==3.8.0", "spills"),
    ("sm_80", "mxfp4", "triton==3.8.0", "spills"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("arch", "format", "first_bad", "kind"), RELEASES)
def test_known_regressions_of_triton_are_found_and_bisected(arch, format, first_bad, kind, monkeypatch):
    """Fetches five releases of Triton, 4 GB on disk, into the state folder of this machine."""
    monkeypatch.delenv("AUTOTUNE_STATE")
    call = gemm(arch, format, m=4096)
    releases = [f"triton=={version}" for version in ("3.6.0", "3.7.0", "3.7.1", "3.8.0")]
    found = bisect(releases, comparing(call, builder(state_root())))
    assert found.first_bad == first_bad
    assert found.steps[0].verdict.kind == kind


@pytest.mark.slow
def test_triton_of_another_environment_is_checked(tmp_path, monkeypatch, capsys):
    """A virtual environment that finds another Triton first; what it makes is what the release itself makes."""
    monkeypatch.delenv("AUTOTUNE_STATE")
    other = releases.release("triton", "3.8.0", state_root() / "toolchains")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    (folder,) = tmp_path.glob("lib/*/site-packages")
    (folder / "other.pth").write_text(f"{other}\n{Path(pytest.__file__).parents[1]}\n")
    arguments = ["check", "norm/rms_norm", "--arch", "sm_90", "--arch", "gfx1201", "--jobs", "1", "--json"]
    assert main([*arguments, "--baseline", "triton==3.8.0", "--against-env", str(tmp_path)]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["against"] == f"triton 3.8.0 ({tmp_path})"
    assert found["counts"] == {"same": 2}


def test_triton_without_backends_is_refused(tmp_path):
    """The package was copied without its entry points: no row is to blame."""
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", tmp_path], check=True)
    (folder,) = tmp_path.glob("lib/*/site-packages")
    for package in Path(torch.__file__).parents[1].iterdir():
        if not package.name.startswith(("triton-", "__editable__", "_")) and package.suffix != ".pth":
            (folder / package.name).symlink_to(package)
    with (
        Processes(compilers.of_environment(tmp_path), LIMITS) as processes,
        pytest.raises(UsageError, match="no backend"),
    ):
        list(processes.run("compile", {"a": CALLS["compile"]}, lambda _, a: a))


@pytest.mark.slow
def test_bisect_names_release_that_made_our_own_gemm_spill(monkeypatch, capsys):
    """Between releases that the package index lists, by command line; 3.8.0 spills on gfx1201 where 3.7.1 does not."""
    monkeypatch.delenv("AUTOTUNE_STATE")
    arguments = ["bisect", "gemm/mxfp8_mxfp4", "--row", "m=130,n=136,k=224,dtype=e4m3fn", "--device", "r9700", "--json"]
    assert main([*arguments, "--good", "triton==3.6.0", "--bad", "triton==3.8.0"]) == 1
    found = json.loads(capsys.readouterr().out)
    assert (found["last_good"], found["first_bad"]) == ("triton==3.7.1", "triton==3.8.0")
    assert found["steps"][0]["kind"] == "spills"
