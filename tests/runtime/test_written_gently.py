"""Parts that a kernel's file may leave out or write in another way, and messages where it cannot be understood."""

import pytest
import torch

from autotune import device, identity
from autotune.cli import main
from autotune.config import Config
from autotune.errors import KernelError, UsageError
from autotune.kernel import Work
from autotune.tuning.counted_work import _Counts, flops_and_bytes, work_of

GPU = device.named("mi355x")


def test_new_kernel_is_whole_and_overwrites_nothing(own, capsys):
    files = {path: path.read_text() for path in own.iterdir()}
    assert {path.name for path in files} == {"softmax.py", "softmax.yaml"}
    assert "kernel_name" not in "".join(files.values())
    for path in files:
        assert main(["new", str(own / "softmax")]) == 2
        assert "is there already" in capsys.readouterr().err
        assert {path: path.read_text() for path in own.iterdir()} == files
        path.rename(path.with_name(f"old.{path.name}"))
        assert main(["new", str(own / "softmax.py")]) == 2
        path.with_name(f"old.{path.name}").rename(path)


def test_new_helper_is_refused(tmp_path, capsys):
    assert main(["new", str(tmp_path / "own" / "_rows")]) == 2
    assert "no command takes for a kernel" in capsys.readouterr().err


def test_annotations_may_be_objects_and_spelled_in_full(loaded):
    kernel = loaded(
        ("from __future__ import annotations\n", "from typing import Optional\n"),
        (" -> Problem:", ":"),
        ("x: Tensor,", "x: torch.Tensor, bias: Optional[torch.Tensor] = None,"),
    )
    assert [parameter.kind for parameter in kernel.signature.parameters] == ["Tensor", "Tensor | None"]
    assert callable(kernel.op)


def test_argument_without_annotation_is_named(loaded):
    with pytest.raises(KernelError, match="argument 'x' needs an annotation: Tensor"):
        loaded(("(x: Tensor,", "(x,"))


def test_problem_that_reads_no_argument_is_named(loaded):
    with pytest.raises(KernelError, match=r"Problem.of reads args.z: no argument of softmax"):
        loaded(("args.x.shape[1]", "args.z.shape[1]"))


OUT = (
    (
        "(x: Tensor, *, config: Config, device: Device) -> Tensor:",
        "(out: Tensor, x: Tensor, *, config, device) -> None:",
    ),
    ("    y = torch.empty_like(x)\n", ""),
    ("](y, x, x", "](out, x, x"),
    ("    return y\n", ""),
)


def test_launcher_that_writes_out_returns_it(loaded, monkeypatch):
    kernel = loaded(*OUT)
    monkeypatch.setattr(type(kernel.jit), "run", lambda *args, **options: None)
    out, x = torch.empty(3, 64, dtype=torch.bfloat16), torch.empty(3, 64, dtype=torch.bfloat16)
    config = kernel.default(kernel.problem(3, 64), GPU)
    assert kernel(out, x, config=config, device=GPU) is out
    assert kernel(x=x, out=out, config=config, device=GPU) is out
    assert kernel.signature.written == (0,)


def test_launcher_without_results_or_out_is_told_both_ways(loaded):
    with pytest.raises(KernelError, match="return the tensors that it writes, or call those arguments out"):
        loaded(*((before, after.replace("out", "result")) for before, after in OUT))


def test_plain_reference_needs_a_tolerance(loaded):
    kernel = loaded(("tolerance=1e-2, ", ""))
    problem = kernel.problem(2, 64)
    with pytest.raises(UsageError, match=r"@tunable\(tolerance=1e-2\)"):
        kernel.reference(problem, *problem.inputs(0, "cpu"))


def test_plain_reference_of_any_precision_becomes_a_bound(loaded):
    kernel = loaded(("torch.softmax(args.x.double(), dim=1)", "torch.softmax(args.x, dim=1)"))
    problem = kernel.problem(2, 64)
    (expected,) = kernel.reference(problem, *problem.inputs(0, "cpu"))
    assert expected.value.dtype == torch.float64
    assert torch.equal(expected.bound, 1e-2 * (1 + expected.value.abs()))


def test_tolerance_is_a_part_of_the_proof(own):
    path = own / "softmax.py"
    before = identity.read(path, "softmax")
    path.write_text(path.read_text().replace("tolerance=1e-2", "tolerance=1e-3"))
    identity._module.cache_clear()
    after = identity.read(path, "softmax")
    assert after.proof != before.proof
    assert after.kernel == before.kernel


AUTOTUNED = '@triton.autotune([triton.Config({"BLOCK": 128})], key=["cols"])\n@triton.jit\n'


def test_autotuned_function_is_refused_with_a_way_on(loaded):
    with pytest.raises(KernelError, match=r"softmax\.py:\d+: softmax: jit= is under @triton.autotune.*search space"):
        loaded(("@triton.jit\n", AUTOTUNED))


def test_heuristics_are_unwrapped(loaded):
    kernel = loaded(
        (
            "@triton.jit\n",
            '@triton.heuristics({"EVEN": lambda args: args["cols"] % args["BLOCK"] == 0})\n@triton.jit\n',
        ),
        ("BLOCK: tl.constexpr)", "BLOCK: tl.constexpr, EVEN: tl.constexpr)"),
    )
    assert kernel.constexprs == {"BLOCK", "EVEN"}


def test_function_that_is_not_of_triton_is_refused(loaded):
    with pytest.raises(KernelError, match=r"jit= must be a function under @triton\.jit, got function"):
        loaded(("@triton.jit\n", ""))


def test_counts_of_some_configs_tell_the_others(loaded, monkeypatch):
    """Powers of the parameters are found again, and the programs are those of the launcher's grid."""
    kernel = loaded()
    problem = kernel.problem(24, 1024)
    works = {Config(BLOCK=b): Work(1, 5.0 * (b + 1), 4.0 * (b + 1) ** 0.5, 64.0, 1) for b in (128, 256, 1024)}
    counts = _Counts(kernel, problem, GPU, works)
    assert counts.work(Config(BLOCK=256, num_warps=8)).flops_per_program == 5.0 * 257
    fitted = counts.work(Config(BLOCK=2048, num_warps=1))
    assert fitted.programs == 24
    assert fitted.flops_per_program == pytest.approx(5.0 * 2049)
    assert fitted.bytes_per_program == pytest.approx(4.0 * 2049**0.5)


@pytest.mark.thorough
def test_work_is_counted_where_no_formula_is_given(loaded):
    kernel = loaded()
    problem = kernel.problem(64, 1024)
    work = work_of(kernel, problem, kernel.default(problem, GPU), GPU)
    assert (work.programs, work.bytes_per_program, work.unique_bytes) == (64, 4 * 1024, 4 * 64 * 1024)
    assert flops_and_bytes(kernel, problem, GPU)[1] == work.unique_bytes


def test_kernel_without_formula_says_who_counts(loaded):
    kernel = loaded()
    problem = kernel.problem(64, 1024)
    with pytest.raises(UsageError, match="counted_work"):
        kernel.work(problem, kernel.default(problem, GPU), GPU)
