"""A kernel in one file: its problem declared by the shapes of its arguments, its choices listed, no YAML."""

import shutil
from pathlib import Path

import pytest
import torch

import autotune
from autotune import device, identity, table
from autotune.config import Config, key
from autotune.errors import KernelError, SpaceError, UsageError
from autotune.tuning import kernel_facts, space

MI355X = device.named("mi355x")
EXAMPLE = Path(__file__).parents[2] / "examples" / "short_softmax.py"


@pytest.fixture
def short(own, changed):
    """A function that loads a copy of the example, `own/short_softmax`, after replacements in its text."""

    def load(*replacements):
        return changed(Path(shutil.copy(EXAMPLE, own)), *replacements)

    return load


ATTENTION = {
    "q": "kind[tokens, heads, 64]",
    "slots": "int64[tokens] < pages",
    "cache": "kind[pages, 64]",
    "scale": 0.5,
    "kind": ["bfloat16", "float16"],
    "heads": [4, 8],
}


def test_dimensions_and_dtypes_become_fields():
    declared = autotune.problem(**ATTENTION)
    assert list(declared.__dataclass_fields__) == ["tokens", "heads", "pages", "kind"]
    assert declared.VARYING == ("tokens",)
    assert declared.PROVED == {
        "tokens": (1, 3),
        "heads": (4, 8),
        "pages": (100, 128),
        "kind": ("bfloat16", "float16"),
    }
    assert autotune.problem(varying="pages", **ATTENTION).PROVED["pages"] == (1, 3)


def test_declared_inputs_are_drawn_in_order_and_read_back():
    problem = autotune.problem(**ATTENTION)(5, 8, 7, "float16")
    q, slots, cache, scale = problem.inputs(0, "cpu")
    assert (q.shape, q.dtype) == ((5, 8, 64), torch.float16)
    assert (slots.shape, slots.dtype, cache.shape, scale) == ((5,), torch.int64, (7, 64), 0.5)
    assert slots.min() >= 0 and slots.max() < 7
    arguments = type("Arguments", (), {"q": q, "slots": slots, "cache": cache, "scale": scale})
    assert type(problem).of(arguments) == problem
    assert all(value.is_meta for value in problem.inputs(0, "meta")[:3])


@pytest.mark.parametrize(
    ("declared", "words"),
    [
        ({}, "declares no tensor"),
        ({"x": "bfloat16 m n"}, "is no tensor; write its dtype and dimensions"),
        ({"x": "bfloat16[m, 4.5]"}, "is no tensor"),
        ({"x": "bf16[m]"}, "'bf16' is no dtype of torch; where it stands for several, list them"),
        ({"x": "kind[m]", "kind": ["bfloat16", "bf16"]}, "'kind' is no dtype of torch"),
        ({"x": "dtype[m]", "dtype": ["bfloat16"]}, "cannot be called 'dtype'"),
        ({"x": "int32[m]"}, "say what its values lie below"),
        ({"x": "bfloat16[m] < 8"}, "floating values have no limit"),
        ({"x": "int32[m] < n"}, "no tensor has that dimension"),
        ({"x": "bfloat16[16]"}, "varying must be a named dimension"),
        ({"x": "bfloat16[m]", "varying": "n"}, r"varying must be a named dimension \(m\), got n"),
        ({"x": "bfloat16[m]", "n": [1, 2]}, "no tensor has 'n' as a dimension or dtype"),
        ({"x": "bfloat16[m]", "m": [0]}, "m must list sizes of 1 or more"),
    ],
)
def test_declaration_that_means_nothing_is_refused(declared, words):
    with pytest.raises(UsageError, match=words):
        autotune.problem(**declared)


def test_arguments_must_be_declared_in_order(short):
    with pytest.raises(KernelError, match="must declare its arguments in their order, x; got y"):
        short(("problem(x=", "problem(y="))
    with pytest.raises(KernelError, match="must declare its arguments in their order, x, eps; got x"):
        short(("(x: Tensor,", "(x: Tensor, eps: float,"))


def test_argument_with_default_needs_no_declaration(short):
    kernel = short(("(x: Tensor,", "(x: Tensor, eps: float = 1e-6,"))
    assert kernel.arguments(*kernel.problem(3, 100).inputs(0, "meta")).eps == 1e-6


@pytest.mark.parametrize(
    ("x", "came"),
    [
        (torch.empty(50, 1024), r"got float32 \[50, 1024\]"),
        (torch.empty(1024, dtype=torch.bfloat16), r"got bfloat16 \[1024\]"),
        (torch.empty(1024, 4, dtype=torch.bfloat16).T, r"got bfloat16 \[4, 1024\], strides \(1, 4\)"),
    ],
)
def test_call_of_another_form_is_refused_by_name(short, x, came):
    kernel = short()
    for call in ({}, {"config": Config(BLOCK=1024, num_warps=4)}):
        with pytest.raises(UsageError, match=rf"short_softmax: x must be contiguous bfloat16\[m, n\], {came}"):
            kernel(x, device=MI355X, **call)


def test_sizes_that_disagree_are_refused():
    declared = autotune.problem(x="float32[m, n]", weight="float32[n]")
    arguments = type("Arguments", (), {"x": torch.empty(2, 8), "weight": torch.empty(9)})
    with pytest.raises(ValueError, match=r"weight must be contiguous float32\[n\] with m=2, n=8, got float32 \[9\]"):
        declared.of(arguments)


def test_default_is_first_choice_allowed(short):
    kernel = short()
    assert kernel.default(kernel.problem(1, 100), MI355X) == Config(BLOCK=128, num_warps=4)
    assert kernel.default(kernel.problem(1, 1000), MI355X) == Config(BLOCK=1024, num_warps=4)
    with pytest.raises(UsageError, match=r"no choice may run m=1,n=5000 on mi355x: BLOCK must hold a row; list"):
        kernel.default(kernel.problem(1, 5000), MI355X)


def test_choices_refuse_more_threads_than_a_block_has(short):
    kernel = short(('"num_warps": [4, 1, 2, 8]', '"num_warps": [32]'))
    problem = kernel.problem(1, 100)
    assert kernel.reject(problem, Config(BLOCK=128, num_warps=32), device.named("h100")) is None
    assert "2048 threads" in kernel.reject(problem, Config(BLOCK=128, num_warps=32), MI355X)


def test_rules_without_choices_are_asked_for(short):
    listed = '    choices={"BLOCK": [128, 256, 512, 1024, 2048, 4096], "num_warps": [4, 1, 2, 8]},\n'
    with pytest.raises(KernelError, match="list what may be tuned, @tunable"):
        short((listed, ""))
    with pytest.raises(KernelError, match="choices must list one value or more"):
        short(("[4, 1, 2, 8]", "[]"))


def test_space_is_the_choices_and_proofs_are_declared(short):
    kernel = short()
    loaded = space.load(kernel, MI355X)
    assert loaded.lists == {"BLOCK": (128, 256, 512, 1024, 2048, 4096), "num_warps": (4, 1, 2, 8)}
    sizes = [(1, 100), (1, 128), (3, 100), (3, 128)]
    assert list(loaded.check) == list(loaded.compile) == [kernel.problem(*size) for size in sizes]
    assert kernel_facts.read("own/short_softmax") == kernel_facts.KernelFacts()


def test_choice_that_is_no_parameter_is_refused(short):
    with pytest.raises(SpaceError, match="unknown name 'BLOCKS'; did you mean 'BLOCK'"):
        space.load(short(('{"BLOCK"', '{"BLOCKS"')), MI355X)


def test_file_beside_choices_adds_problems(short, own):
    kernel, file = short(), own / "short_softmax.yaml"
    file.write_text("compile:\n  - {m: 64, n: 4096}\n")
    assert space.load(kernel, MI355X).compile == (kernel.problem(64, 4096),)
    assert len(space.load(kernel, MI355X).check) == 4
    file.write_text("params:\n  BLOCK: [128]\n")
    with pytest.raises(SpaceError, match=r"params lists what choices= of short_softmax\.py lists too"):
        space.load(kernel, MI355X)


def test_choices_of_a_written_problem_need_check_problems(loaded, own):
    kernel = loaded(("default=_default, reject=_reject", 'choices={"BLOCK": [128, 1024], "num_warps": [4]}'))
    assert kernel.default(kernel.problem(3, 100), MI355X) == Config(BLOCK=128, num_warps=4)
    file = own / "softmax.yaml"
    file.write_text("check:\n  - {rows: 3, cols: 100}\n")
    assert space.load(kernel, MI355X).check == (kernel.problem(3, 100),)
    file.unlink()
    with pytest.raises(SpaceError, match="must list check problems"):
        space.load(kernel, MI355X)


def test_reference_gets_arguments_in_float64(short):
    kernel = short()
    problem = kernel.problem(3, 100)
    (x,) = problem.inputs(0, "cpu")
    (expected,) = kernel.reference(problem, x)
    assert torch.equal(expected.value, torch.softmax(x.double(), 1))


def test_choices_and_declaration_enter_the_identity(short, own):
    def hashes(*replacements):
        short(*replacements)
        return identity.read(own / "short_softmax.py", "short_softmax")

    before = hashes()
    assert hashes(("[4, 1, 2, 8]", "[8, 1, 2, 4]")).kernel != before.kernel  # another default
    default = ("    choices=", "    default=lambda problem, device: Config(BLOCK=4096, num_warps=4),\n    choices=")
    fixed = hashes(default)
    assert hashes(default, ("[4, 1, 2, 8]", "[8, 1, 2, 4]")).kernel == fixed.kernel != before.kernel
    declared = hashes(("bfloat16[m, n]", "bfloat16[m, cols]"), ("problem.n", "problem.cols"))
    assert declared.proof != before.proof


def test_row_of_declared_problem_is_served(short, tmp_path):
    kernel = short()
    problem, config = kernel.problem(64, 1024), Config(BLOCK=1024, num_warps=8)
    row = table.Row(key(problem), config, "modeled", {"factor": 2.0, "us": [1.0, 4.0]}, "triton 3.9.0", "code")
    path = table.path_of(tmp_path, "gfx950", "mi355x", kernel.name)
    table.save(table.Table(kernel.name, "gfx950", "mi355x", kernel.source_hash(), (row,)), path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("AUTOTUNE_TABLES", str(tmp_path))
        served = kernel.serve((torch.empty(50, 1024, dtype=torch.bfloat16),), MI355X)
    assert served.config == config
