"""Plans for NPUs: what is read from the compilers' texts, what is said of it, and kernels planned by the compilers."""

import dataclasses
import json
import re
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import pytest

from autotune import device, registry
from autotune.check import releases
from autotune.cli import main, npu_plans
from autotune.config import Config
from autotune.errors import CompileFailed, ToolchainError, UsageError
from autotune.tuning import space
from autotune.tuning.compilation.npu import findings, hivm, linalg, planning, tools
from autotune.tuning.compilation.npu.linalg import DiscreteLoop
from autotune.tuning.compilation.npu.planning import LaunchPlan

EXCERPTS = Path(__file__).parent / "npu_ir"
HIVM = (EXCERPTS / "bf16_linear.910b.mlir").read_text()
LINALG = (EXCERPTS / "bf16_linear.linalg.mlir").read_text()
NAMES = ("x_ptr", "w_ptr", "out_ptr", "m", "n", "k")


def test_bytes_of_each_memory_are_read():
    """By hand: UB ends at 81,056 with 64 bytes, L1 at 40,960 with 2x8x16x16 bf16, L0C at 0 with 2x4x16x16 fp32."""
    plan = hivm.read(HIVM)
    assert plan.on_chip_bytes == {"UB": 81_120, "L1": 49_152, "L0C": 8_192}
    assert plan.workspace_bytes == 98_432
    assert plan.cores == "cube + vector"
    assert plan.matrix_operations == (("mma_tile_bfloat16_t_to_float", 1),)


def test_syncs_are_flags_and_barriers_of_pipes_and_cores():
    kinds = Counter(
        line.split("[")[0].split(".")[-1] for line in HIVM.splitlines() if "hivm.hir." in line and "[<" in line
    )
    assert kinds == {"set_flag": 20, "wait_flag": 20, "pipe_barrier": 23, "sync_block_set": 12, "sync_block_wait": 12}
    assert hivm.read(HIVM).syncs == 87


def test_memory_is_doubled_where_a_loop_chooses_its_buffer():
    assert hivm.read(HIVM).double_buffered == ("L1",)
    single = "\n".join(line for line in HIVM.splitlines() if "arith.select" not in line)
    assert hivm.read(single).double_buffered == ()


def test_names_of_values_belong_to_one_function():
    """The vector part's %c0_i64 is 0 too; were the cube part's another, its buffers alone would move."""
    cube, vector = HIVM.split("  func.func @_linear_mix_aiv")
    moved = cube.replace("%c0_i64 = arith.constant 0 :", "%c0_i64 = arith.constant 32768 :")
    plan = hivm.read(f"{moved}  func.func @_linear_mix_aiv{vector}")
    assert plan.on_chip_bytes == {"UB": 81_120, "L1": 49_152, "L0C": 40_960}


@pytest.mark.parametrize(
    ("shape", "size"), [("64xi1", 8), ("3xi1", 1), ("16xf8E4M3FN", 16), ("2x3xf32", 24), ("0xi32", 0)]
)
def test_element_types_have_their_widths(shape, size):
    text = f"""func.func @f() {{
    %c0_i64 = arith.constant 0 : i64
    %0 = hivm.hir.pointer_cast(%c0_i64) : memref<{shape}, strided<[1]>, #hivm.address_space<ub>>
  }}"""
    assert hivm.read(text).ub_bytes == size


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ("pointer_cast(%c40960_i64)", "pointer_cast(%7)", "lies at %7, which is no constant"),
        ("memref<2x8x16x16xbf16, #hivm.address_space<cbuf>>\n", "memref<?xbf16>\n", "no size that can be read"),
    ],
)
def test_buffer_that_cannot_be_read_is_refused(old, new, message):
    with pytest.raises(CompileFailed, match=message):
        hivm.read(HIVM.replace(old, new, 1))


def test_plan_that_cannot_be_read_is_verdict_not_crash(monkeypatch):
    monkeypatch.setattr(planning, "to_linalg", lambda *texts: LINALG)
    monkeypatch.setattr(planning, "to_hivm", lambda *texts: HIVM.replace("pointer_cast(%c0_i64)", "pointer_cast(%7)"))
    launch = planning._planned("_linear", "", device.target("ascend910b"), None)
    assert (launch.plan, launch.stage) == (None, "reader")
    assert findings.verdict([launch]) == "not planned (reader)"


def test_barrier_is_left_out_and_told(monkeypatch):
    given = []
    monkeypatch.setattr(planning, "to_linalg", lambda ttir, *rest: given.append(ttir) or LINALG)
    monkeypatch.setattr(planning, "to_hivm", lambda *texts: HIVM)
    ttir = "  a\n    ttg.barrier all loc(#loc9)\n  b\n"
    launch = planning._planned("_write", ttir, device.target("ascend910b"), None)
    assert given == ["  a\n  b\n"]
    assert launch.ttir == ttir, "a check compares what the front end wrote"
    assert "tl.debug_barrier is left out" in findings.findings([launch], Config(), "ascend910b")[0]
    assert LaunchPlan.from_json(json.loads(json.dumps(launch.as_json()))) == launch


def test_plan_and_loops_survive_json():
    launch = LaunchPlan("_linear", hivm.read(HIVM), linalg.discrete_loops(LINALG, NAMES))
    assert LaunchPlan.from_json(json.loads(json.dumps(launch.as_json()))) == launch


def test_innermost_marked_loops_are_named_by_argument():
    """Sibling loops use one name for views of two arguments; the outer loop over weights is no loop of its own."""
    assert LINALG.count("ExtractedLoadOrStore") == 3
    assert linalg.discrete_loops(LINALG, NAMES) == (
        DiscreteLoop("x_ptr", "row", writes=False),
        DiscreteLoop("w_ptr", "element", writes=False),
    )


def test_loop_that_stores_elements_is_written():
    stored = LINALG.replace("%91 = memref.load %reinterpret_cast_2[", "memref.store %91, %reinterpret_cast_2[")
    assert DiscreteLoop("w_ptr", "element", writes=True) in linalg.discrete_loops(stored, NAMES)


def test_unmarked_loops_are_no_findings():
    assert linalg.discrete_loops(LINALG.replace("ExtractedLoadOrStore", "other"), NAMES) == ()


def test_parameters_are_runtime_arguments_in_order():
    ttir = (
        'module {\n  tt.func public @_f(%x_ptr: !tt.ptr<bf16> {tt.divisibility = 16 : i32} loc("x"(#loc)), %m: i32) {'
    )
    assert linalg.parameters(ttir) == ("x_ptr", "m")


STOPS = {
    "ub overflow, requires 2097152 bits while 1572864 bits available!": "UB overflow by 64 KiB of 192 KiB at BLOCK=256",
    "cc overflow, requires 1572864 bits while 1048576 bits available": "L0C overflow by 64 KiB of 128 KiB at BLOCK=256",
    "ValueError('type fp8e4nv not supported in this architecture.')": "needs FP8, which ascend910b does not have",
    "failed to legalize operation 'linalg.reduce'": "failed to legalize operation 'linalg.reduce'",
}


@pytest.mark.parametrize(("why", "words"), STOPS.items())
def test_refusals_are_told_in_words(why, words):
    assert findings.stop(why, {"BLOCK": 256, "num_warps": 4}, "ascend910b") == words


def test_verdict_and_findings_are_of_all_launches():
    whole = LaunchPlan("_linear", hivm.read(HIVM), linalg.discrete_loops(LINALG, NAMES))
    plain = dataclasses.replace(whole, function="add", loops=())
    stopped = LaunchPlan("place", stage="planner", why="took longer")
    config = Config(BLOCK_M=64)
    assert findings.verdict([plain]) == "planned"
    assert findings.verdict([whole, plain]) == "planned, element by element"
    assert findings.verdict([plain, stopped]) == "not planned (planner)"
    assert findings.findings([plain, stopped, whole], config, "ascend910b") == [
        "place: took longer",
        "_linear: x_ptr is read row by row: 1 loop",
        "_linear: w_ptr is read element by element: 1 loop",
    ]


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            'loc("k.mlir":1:1): error: ub overflow, requires 9 bits\n[ERROR] Failed to run BiShengIR pipeline\n'
            'loc("k.mlir":1:1): error: Failed to run BiShengHIR pipeline',
            "ub overflow, requires 9 bits",
        ),
        (
            "adapter: a.cpp:4: Assertion `op.hasOneUse()' failed.\nPLEASE submit a bug report\n 0 0x55",
            "Assertion `op.hasOneUse()' failed.",
        ),
        (
            "k.mlir:5:3: error: expected ':'\n  %h = tt.histogram %x, %m : i32\n     ^",
            "expected ':' in %h = tt.histogram %x, %m : i32",
        ),
        ("killed by a ghost", "killed by a ghost"),
        ("", ""),
    ],
)
def test_complaint_is_what_stopped_the_program(said, reason):
    assert tools.complaint(said) == reason


def stand_in(folder, script):
    """Compilers that are a shell script each."""
    for name in ("adapter", "bishengir-compile"):
        path = folder / name
        path.write_text(f"#!/bin/sh\n{script}\n")
        path.chmod(0o755)
    return tools.Tools(folder / "adapter", folder, "1.2.0")


def test_program_that_never_ends_is_killed(tmp_path, monkeypatch):
    monkeypatch.setattr(tools, "_CPU_S", 1)
    with pytest.raises(tools.Stopped, match="adapter: took longer than 1 s of processor time"):
        tools.to_linalg("", "Ascend910B2", stand_in(tmp_path, "while :; do :; done"))


def test_program_that_fails_silently_is_named(tmp_path):
    with pytest.raises(tools.Stopped, match="planner: ended with code 3 and said nothing"):
        tools.to_hivm("", "Ascend910B2", stand_in(tmp_path, "exit 3"))


def test_module_is_kept_by_stand_in_of_assembler(tmp_path):
    """A stand-in for the compiler: asks for a version, then gives its last module."""
    script = 'hivmc --version > version && echo planned > out.mlir && exec hivmc --x=y "$PWD/out.mlir" -o k'
    assert tools.to_hivm("", "Ascend910B2", stand_in(tmp_path, script)) == "planned\n"


def test_absent_compilers_name_command_that_brings_them(tmp_path, capsys):
    with pytest.raises(ToolchainError, match=r"are not there; `autotune compile --fetch"):
        tools.managed(tmp_path)
    assert main(["compile", "norm/rms_norm", "--target", "ascend910b"]) == 2
    assert "autotune compile --fetch" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--target", "sm_90,ascend950"], "GPUs and NPUs have other columns"),
        (["--target", "sm_90", "--fetch"], "--fetch brings the compilers for NPUs"),
        (["--target", "ascend310p"], "to add ascend310p, give it a record"),
    ],
)
def test_targets_that_do_not_go_together_are_refused(words, message, capsys):
    assert main(["compile", "norm/rms_norm", *words]) == 2
    assert message in capsys.readouterr().err


def test_wheel_gives_its_programs_and_nothing_else(tmp_path, monkeypatch):
    def pip(*arguments):
        asked.append(arguments)
        with releases.zipfile.ZipFile(Path(arguments[arguments.index("--dest") + 1]) / "any.whl", "w") as wheel:
            for member in (*tools.PROGRAMS["ascendnpu-ir"], "ascendnpuir/bin/bishengir-opt"):
                wheel.writestr(member, "#!/bin/sh\n")
        return ""

    asked = []
    monkeypatch.setattr(releases, "_pip", pip)
    for _ in range(2):
        folder = releases.npu_programs("ascendnpu-ir", "1.2.0", tmp_path)
    assert len(asked) == 1, "once"
    assert asked[0][asked[0].index("--python-version") :][:2] == ("--python-version", "3.11")
    assert {path.name for path in folder.iterdir()} == {"bishengir-compile", "bishengir-compile-a5"}
    assert all(path.stat().st_mode & 0o111 for path in folder.iterdir())


def test_command_shows_row_and_total_for_each_target(tmp_path, monkeypatch, capsys):
    """Planned in the process of the command; the compilers are those of the excerpts."""

    class Here:
        def __init__(self, *given):
            pass

        def __enter__(self):
            return self

        def __exit__(self, *raised):
            pass

        def run(self, task, jobs):
            loops = [loop.as_json() for loop in linalg.discrete_loops(LINALG, NAMES)]
            whole = LaunchPlan("_linear", hivm.read(HIVM)).as_json() | {"loops": loops}
            stopped = LaunchPlan("_linear", stage="planner", why="no reason").as_json()
            return [(job, {"launches": [stopped if "950" in job.device else whole]}) for job in jobs]

    monkeypatch.setattr(npu_plans, "Workers", Here)
    monkeypatch.setattr(tools, "managed", lambda root: tools.Tools(tmp_path, tmp_path, "1.2.0"))
    words = ["compile", "gemm/bf16_linear", "--target", "ascend910b,ascend910c,ascend950"]
    assert main(words) == 1
    said = capsys.readouterr().out
    assert "planned NPU IR; no machine code, never run" in said
    assert "gemm/bf16_linear on ascend910c: w_ptr is read element by element: 1 loop" in said
    assert "ascend910b: 1 of 1 planned, 1 of them element by element" in said
    assert "ascend950: 0 of 1 planned" in said and "no reason" in said
    assert main([*words, "--json"]) == 1
    rows = json.loads(capsys.readouterr().out)
    assert [(row["target"], row["device"]) for row in rows] == [
        ("ascend910b", "ascend910b2"),
        ("ascend910c", "ascend910c"),
        ("ascend950", "ascend950pr"),
    ]
    assert rows[0]["launches"][0]["plan"]["ub_bytes"] == 81_120
    assert {row["evidence"] for row in rows} == {findings.EVIDENCE}


@pytest.fixture(scope="module")
def compilers():
    """The real ones: 215 MB from the package index, removed at the end."""
    root = Path(tempfile.mkdtemp(prefix="autotune-npu-"))
    try:
        yield releases.npu_tools(tools.COMPILER[1], root)
    except UsageError as error:
        pytest.skip(f"the compilers for NPUs cannot be had here: {error}")
    finally:
        shutil.rmtree(root)


PLANNED = (
    "norm/rms_norm",
    "norm/layer_norm",
    "moe/combine",
    "gemm/bf16_linear",
    "sampling/greedy",
    "hyperconnection/mhc_post",
)


@pytest.mark.thorough
@pytest.mark.parametrize("arch", ["ascend910b", "ascend950"])
@pytest.mark.parametrize("name", PLANNED)
def test_kernels_are_planned_and_fit(name, arch, compilers):
    kernel, npu = registry.load(name), device.target(arch)
    problem = space.load(kernel, npu).compile[0]
    launches = planning.plan_launches(kernel, problem, kernel.default(problem, npu), npu, compilers)
    core = npu.architecture.ai_core
    for launch in launches:
        assert launch.plan, f"{launch.function}, {launch.stage}: {launch.why}"
        assert launch.plan.ub_bytes <= core.ub_bytes
        assert launch.plan.ub_bytes or launch.plan.cores == "cube"  # which needs no memory of the vector cores
        assert launch.plan.l1_bytes <= core.l1_bytes and launch.plan.l0c_bytes <= core.l0c_bytes
    products = [operation for operation, _ in launches[0].plan.matrix_operations]
    assert any(operation.startswith("mma_tile_bfloat16_t_to_float") for operation in products) == (
        name == "gemm/bf16_linear"
    )


def documented(arch):
    """Kernels that the guide says are planned for an arch."""
    page = (Path(__file__).parents[3] / "docs/guides/plan_for_npus.md").read_text()
    cells = [
        line.split("|")[{"ascend910b": 2, "ascend950": 3}[arch]] for line in page.splitlines() if "| planned" in line
    ]
    return {name for cell in cells for name in re.findall(r"`(\w+)`", cell)}


@pytest.mark.slow
@pytest.mark.parametrize("arch", ["ascend910b", "ascend950"])
@pytest.mark.parametrize("name", registry.names())
def test_guide_says_which_kernels_are_planned(name, arch, compilers):
    kernel, npu = registry.load(name), device.target(arch)
    problem = space.load(kernel, npu).compile[0]
    launches = planning.plan_launches(kernel, problem, kernel.default(problem, npu), npu, compilers)
    assert findings.verdict(launches).startswith("planned") == (name.partition("/")[2] in documented(arch))


def test_guide_counts_kernels_that_it_names():
    page = (Path(__file__).parents[3] / "docs/guides/plan_for_npus.md").read_text()
    counts = [len(documented(arch)) for arch in ("ascend910b", "ascend950")]
    assert f"{counts[0]} of {len(registry.names())} kernels plan for the 910B and {counts[1]} for the 950" in page


@pytest.mark.thorough
def test_tile_too_large_for_memory_says_by_how_much(compilers):
    kernel, npu = registry.load("norm/rms_norm"), device.target("ascend910b")
    problem = space.load(kernel, npu).compile[0]
    config = Config({**kernel.default(problem, npu), "ROWS": 16})
    (launch,) = planning.plan_launches(kernel, problem, config, npu, compilers)
    assert findings.verdict([launch]) == "not planned (planner)"
    (said,) = findings.findings([launch], config, npu.arch)
    assert said.startswith("UB overflow by ") and "of 192 KiB at " in said and "ROWS=16" in said


@pytest.mark.thorough
def test_fp8_is_native_on_950_and_refused_on_910b(compilers):
    kernel = registry.load("norm/rms_norm_quant")
    said = {}
    for arch in ("ascend910b", "ascend950"):
        npu = device.target(arch)
        problem = space.load(kernel, npu).compile[0]
        launches = planning.plan_launches(kernel, problem, kernel.default(problem, npu), npu, compilers)
        said[arch] = findings.verdict(launches), findings.findings(launches, Config(), arch)
    assert said["ascend910b"] == ("not planned (front end)", ["needs FP8, which ascend910b does not have"])
    assert said["ascend950"] == ("planned", [])
