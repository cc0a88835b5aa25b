"""Kernels of others: described, their calls captured, and two files written that prove right."""

import json
import os
import subprocess
import sys

import foreign_kernels as theirs
import pytest
import torch
import triton

import autotune
from autotune import device, registry, table
from autotune.adopt import adopting, calls, foreign
from autotune.adopt.choices import Choices
from autotune.config import Config, key
from autotune.errors import UsageError
from autotune.table import Row, Table
from autotune.tuning import space
from autotune.tuning.validation.cases import EVERY
from autotune.tuning.validation.validate import validate

B200 = device.named("b200")


def captured(tmp_path, run):
    """The calls that `run` makes."""
    with autotune.capture(tmp_path / "calls.json"):
        run()
    return calls.read(tmp_path / "calls.json")


def adopted(tmp_path, name, run, choices):
    """The Kernel that `adopt` writes of a kernel of foreign_kernels.py, and what it reported."""
    jit = foreign.read(getattr(theirs, name))
    report = adopting.adopt(jit, captured(tmp_path, run), choices, tmp_path / tmp_path.name, B200)
    (known,) = registry.named(str(report.python))
    return registry.load(known), report


def softmaxes():
    for shape in ((5, 100), (64, 1000), (5, 100)):
        x = torch.randn(shape).half()
        torch.testing.assert_close(theirs.softmax(x), torch.softmax(x, -1), atol=1e-3, rtol=1e-2)


def matmuls():
    for m, n, k in ((64, 96, 128), (33, 256, 512)):
        b = torch.randn(n, k, dtype=torch.bfloat16).t()
        for bias in (None, torch.randn(n)):
            theirs.matmul(torch.randn(m, k, dtype=torch.bfloat16), b, bias)


def test_capture_keeps_shapes_grids_and_no_values(tmp_path):
    first, second = captured(tmp_path, softmaxes)
    assert (first.kernel, first.times, first.grid, second.times) == ("foreign_kernels:softmax_kernel", 2, (5,), 1)
    x = first.arguments["x_ptr"]
    assert (x.dtype, x.shape, x.stride) == ("float16", (5, 100), (100, 1))
    assert {name: first.arguments[name] for name in ("n_rows", "n_cols")} == {"n_rows": 5, "n_cols": 100}
    assert {sample.constexprs["ROWS"]: sample.grid for sample in first.samples} == {1: (5,), 2: (3,), 4: (2,), 8: (1,)}
    assert (tmp_path / "calls.json").stat().st_size < 4000


def test_memory_that_arguments_share_is_kept_and_told(tmp_path):
    def run():
        for rows, cols in ((4, 96), (6, 128)):
            x = torch.randn(rows, cols).half()
            grid = lambda meta, rows=rows: (triton.cdiv(rows, meta["ROWS"]),)  # noqa: E731
            theirs.softmax_kernel[grid](x, x, rows, cols, cols)
            theirs.softmax(x)

    shared, apart, *_ = captured(tmp_path, run)
    in_place = [name for name, spec in shared.arguments.items() if getattr(spec, "shares", None)]
    assert len(in_place) == 1
    assert not any(getattr(spec, "shares", None) for spec in apart.arguments.values())
    jit = foreign.read(theirs.softmax_kernel)
    report = adopting.adopt(jit, captured(tmp_path, run), Choices("softmax"), tmp_path / tmp_path.name, B200)
    assert any("have one memory in captured calls" in note for note in report.notes)
    assert "have one memory in captured calls" in report.python.read_text()


def test_capture_ends_with_block_and_survives_its_error(tmp_path):
    with pytest.raises(ZeroDivisionError), autotune.capture(tmp_path / "calls.json"):
        theirs.total(torch.ones(2, 8))
        1 / 0  # noqa: B018
    theirs.scale_rows(torch.ones(4, 8), torch.tensor([1]))
    assert [call.kernel for call in calls.read(tmp_path / "calls.json")] == ["foreign_kernels:total_kernel"]


def test_capture_keeps_range_of_integers_over_all_calls(tmp_path):
    def run():
        x = torch.ones(64, 8)
        for slots in ([3, 1, 40], [0, 0, 5], [2, 9, 9]):
            theirs.scale_rows(x, torch.tensor(slots))

    (call,) = captured(tmp_path, run)
    assert (call.arguments["slot_ptr"].low, call.arguments["slot_ptr"].high, call.times) == (0, 40, 3)


@pytest.mark.parametrize("wrong", ["[]", '{"schema": 1, "calls": [{"kernel": "a:b"}]}', '{"schema": 2, "calls": []}'])
def test_file_of_other_form_is_refused_by_name(tmp_path, wrong):
    (tmp_path / "calls.json").write_text(wrong)
    with pytest.raises(UsageError, match=r"calls\.json"):
        calls.read(tmp_path / "calls.json")


def test_edited_tensor_is_refused_with_its_place(tmp_path):
    captured(tmp_path, softmaxes)
    data = json.loads((tmp_path / "calls.json").read_text())
    data["calls"][1]["arguments"]["x_ptr"]["shape"] = [64, "__import__('os')"]
    (tmp_path / "calls.json").write_text(json.dumps(data))
    with pytest.raises(UsageError, match="call 2: x_ptr: shape"):
        calls.read(tmp_path / "calls.json")


def test_wrappers_are_read_in_any_nesting():
    jit = foreign.read(theirs.softmax_kernel)
    assert jit.configs[1] == Config(ROWS=2, num_warps=8, num_stages=2)
    assert (jit.key, jit.tuned, list(jit.heuristics)) == (("n_cols",), ("ROWS",), ["BLOCK"])
    assert jit.arguments == ("y_ptr", "x_ptr", "n_rows", "n_cols", "stride")
    assert not jit.allows(jit.configs[2]) and jit.default() == jit.configs[0]
    inner = theirs.softmax_kernel.fn
    outer = type(inner)(type(theirs.softmax_kernel)(inner.fn, inner.arg_names, [theirs.triton.Config({"ROWS": 4})],
                                                   ["n_cols"], None, None), inner.arg_names, inner.values)  # fmt: skip
    turned = foreign.read(outer)
    assert (turned.tuned, list(turned.heuristics)) == (("ROWS",), ["BLOCK"])


def test_hooks_of_one_factory_run_at_every_launch():
    x = torch.ones(40)
    jit = foreign.read(theirs.add_one_kernel)
    jit[(2,)](x, 40, **jit.configs[0])
    assert x.tolist() == [8.0] * 40


@pytest.mark.parametrize(
    ("thing", "words"),
    [(theirs.softmax, "no function made by @triton.jit"), (theirs.unevenly_hooked_kernel, "different pre_hooks")],
)
def test_what_cannot_be_adopted_is_refused_in_words(thing, words):
    with pytest.raises(UsageError, match=words):
        foreign.read(thing)


def test_gluon_kernel_is_refused_in_words():
    class Gluon(type(theirs.scale_rows_kernel)):
        def is_gluon(self):
            return True

    with pytest.raises(UsageError, match="Gluon"):
        foreign.read(Gluon(theirs.scale_rows_kernel.fn))


def test_changed_code_of_author_is_refused():
    source = foreign.source_of(theirs.total_kernel.fn)
    assert foreign.read(theirs.total_kernel, source=source).zeroed == ("out_ptr",)
    with pytest.raises(UsageError, match="adopt` again"):
        foreign.read(theirs.softmax_kernel, source=source)


def test_adopted_softmax_is_proved_with_every_config(tmp_path):
    kernel, report = adopted(tmp_path, "softmax_kernel", softmaxes, Choices(
        "softmax", theirs.softmax_in_torch, "foreign_kernels:softmax_in_torch"))  # fmt: skip
    assert report.failure is None and not kernel.proved_against_itself
    problem = kernel.problem(n_cols=1000, n_rows=64)
    assert [p.name for p in kernel.signature.parameters] == ["x_ptr", "n_rows", "n_cols", "stride"], "y is made"
    feasible = space.feasible(space.load(kernel, B200), kernel, problem, B200)
    assert feasible == [Config(ROWS=1, num_stages=3, num_warps=4), Config(ROWS=2, num_stages=2, num_warps=8)]
    for config in feasible:
        assert validate(kernel, kernel.problem(n_cols=100, n_rows=5), config, B200, EVERY) <= 1


def test_strides_that_outputs_lack_are_refused(tmp_path):
    kernel, _ = adopted(tmp_path, "softmax_kernel", softmaxes, Choices("strided"))
    x = torch.randn(8, 2000).half()[:, :1000]
    with pytest.raises(UsageError, match="stride must be n_cols as in the captured calls, got 2000"):
        kernel.launch(x, 8, 1000, 2000, config=kernel.default(kernel.problem(1000, 8), B200), device=B200)


def test_wrong_reference_is_told_with_a_place(tmp_path):
    choices = Choices("wrong", theirs.wrong_softmax, "foreign_kernels:wrong_softmax")
    _, report = adopted(tmp_path, "softmax_kernel", softmaxes, choices)
    assert "WrongResult" in report.failure and "y_ptr[0, " in report.failure


def test_matmul_keeps_strides_optional_bias_and_grid(tmp_path):
    choices = Choices("matmul", theirs.matmul_in_torch, "foreign_kernels:matmul_in_torch")
    kernel, report = adopted(tmp_path, "matmul_kernel", matmuls, choices)
    text = report.python.read_text()
    assert report.failure is None
    assert 'grid = (triton.cdiv(M, config.size("BLOCK_M")) * triton.cdiv(N, config.size("BLOCK_N")),)' in text
    assert "b_ptr = draw.floats((self.K, self.N), self.a_dtype, stride=(1, self.K))" in text
    problem = kernel.problem(M=40, N=70, K=64, has_bias=True)
    for config in (Config(config) for config in foreign.read(theirs.matmul_kernel).configs):
        assert validate(kernel, problem, config, B200) <= 1


def test_atomic_sum_starts_from_zero_in_any_order(tmp_path):
    def run():
        theirs.total(torch.randn(7, 1000))
        theirs.total(torch.randn(33, 512))

    kernel, report = adopted(tmp_path, "total_kernel", run, Choices("total"))
    assert report.failure is None and kernel.any_order and kernel.proved_against_itself
    problem = kernel.problem(n=1000, out_size=7)
    assert problem.inputs(0, "cpu")[0].tolist() == [0.0] * 7
    assert validate(kernel, problem, Config(BLOCK=128, SPLIT=4, num_stages=3, num_warps=4), B200) <= 1


def test_indices_follow_size_that_they_index(tmp_path):
    def run():
        for rows, cols in ((20, 200), (65, 333)):
            theirs.scale_rows(torch.randn(rows, cols + 7)[:, :cols], torch.randperm(rows)[: rows // 2])

    own = captured(tmp_path, run)
    jit = adopting.tuned_by_user(foreign.read(theirs.scale_rows_kernel), ["BLOCK"], own[0])
    report = adopting.adopt(jit, own, Choices("scale_rows", widen=True), tmp_path / tmp_path.name, B200)
    kernel = registry.load(registry.named(str(report.python))[0])
    assert report.failure is None
    x, slots, *_ = kernel.problem(dim=8, x_dim0=9, slot_size=5, stride=12).inputs(0, "cpu")
    assert (x.shape, x.stride()) == ((9, 8), (12, 1))
    assert slots.max() <= 8 and slots.unique().numel() == 5
    lists = space.load(kernel, B200).lists
    assert lists["BLOCK"] == (32, 64, 128) and lists["num_warps"] == (2, 4, 8)


@pytest.mark.thorough
def test_adopt_command_writes_both_files_once(tmp_path, state):
    captured(tmp_path, softmaxes)
    command = [sys.executable, "-m", "autotune", "adopt", "foreign_kernels:softmax_kernel"]
    command += ["--calls", str(tmp_path / "calls.json"), "-o", str(tmp_path / "ours")]
    environment = {**os.environ, "PYTHONPATH": f"{theirs.__file__.rpartition('/')[0]}:."}
    ended = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert ended.returncode == 0, ended.stderr
    assert "against itself" in ended.stdout and "autotune tune" in ended.stdout
    again = subprocess.run(command, capture_output=True, text=True, env=environment, check=False)
    assert again.returncode == 2 and "--overwrite" in again.stderr


def test_served_autotuner_takes_rows_and_never_searches(tmp_path):
    choices = Choices("softmax", theirs.softmax_in_torch, "foreign_kernels:softmax_in_torch")
    kernel, _ = adopted(tmp_path, "softmax_kernel", softmaxes, choices)
    row = Row(
        key(kernel.problem(n_cols=1000, n_rows=64)),
        Config(ROWS=2, num_stages=2, num_warps=8),
        "modeled",
        {"proved_on": []},
        "triton",
        "0" * 16,
    )
    path = table.path_of(tmp_path / "tables", B200.arch, B200.name, kernel.name)
    table.save(Table(kernel.name, B200.arch, B200.name, kernel.identity.kernel, (row,)), path)
    launched = []
    run = theirs.softmax_kernel.fn.run
    theirs.softmax_kernel.fn.run = lambda *args, **named: (launched.append(named["ROWS"]), run(*args, **named))
    try:
        autotune.serve(theirs.softmax_kernel, kernel, tables=tmp_path / "tables", device=B200)
        for shape in ((64, 1000), (64, 200), (64, 1000)):
            x = torch.randn(shape).half()
            torch.testing.assert_close(theirs.softmax(x), torch.softmax(x, -1), atol=1e-3, rtol=1e-2)
    finally:
        del theirs.softmax_kernel.fn.run, theirs.softmax_kernel.run
    assert launched == [2, 1, 2], "a row, the author's first config, the row again"


def test_kernel_of_another_function_serves_nothing(tmp_path):
    kernel, _ = adopted(tmp_path, "total_kernel", lambda: theirs.total(torch.ones(3, 200)), Choices("total"))
    with pytest.raises(UsageError, match="another function"):
        autotune.serve(theirs.softmax_kernel, kernel, device=B200)
    with pytest.raises(UsageError, match="autotune"):
        autotune.serve(theirs.scale_rows_kernel, kernel, device=B200)
