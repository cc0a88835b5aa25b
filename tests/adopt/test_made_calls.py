"""Calls that the exam makes up from the text of a kernel."""

import pytest
import triton
import triton.language as tl

from autotune.adopt import foreign
from autotune.adopt.calls import TensorSpec
from benchmarks.adopt.environment import required
from benchmarks.adopt.made_calls import EDGE, made_calls


@triton.jit
def _write(base, at, value, mask):
    tl.store(base + at, value, mask=mask)


@triton.jit
def gather(  # noqa: PLR0913 - as kernels of others have them
    out, rows_ptr, x, n_cols, eps, stride_xm, stride_xn, HAS_BIAS: tl.constexpr, KIND: tl.constexpr, BLOCK: tl.constexpr
):
    row = tl.load(rows_ptr + tl.program_id(1))
    at = tl.arange(0, BLOCK)
    pointers = x + row * stride_xm + at * stride_xn
    if HAS_BIAS:
        pointers += 1
    value = tl.load(pointers, mask=at < n_cols) + eps
    if KIND == "double":
        value *= 2
    _write(out, at, value, at < n_cols)


@triton.jit
def by_descriptor(out, x_desc):
    tl.store(out, tl.max(x_desc.load([0, 0])))


def test_call_is_made_up_from_text_of_kernel():
    call = next(made_calls(foreign.read(gather)))
    tensors = {name: value.dtype for name, value in call.arguments.items() if isinstance(value, TensorSpec)}
    assert tensors == {"out": "float32", "rows_ptr": "int32", "x": "float32"}, "rows lead to an address"
    rest = {name: value for name, value in call.arguments.items() if name not in tensors}
    assert rest == {
        "n_cols": EDGE,
        "eps": 0.5,
        "stride_xm": EDGE,
        "stride_xn": 1,
        "HAS_BIAS": False,
        "KIND": "double",
        "BLOCK": EDGE,
    }
    assert call.grid == (2, 2)


def test_descriptor_of_a_launcher_is_not_made_up():
    with pytest.raises(ValueError, match="x_desc"):
        next(made_calls(foreign.read(by_descriptor)))


def test_environment_leaves_out_what_needs_cuda(tmp_path):
    (tmp_path / "theirs-1.dist-info").mkdir()
    wanted = ("einops>=0.8", "torch==2.14.0", "nvidia-cutlass-dsl[cu13]", 'pytest; extra == "test"', "msgspec")
    text = "".join(f"Requires-Dist: {line}\n" for line in wanted)
    (tmp_path / "theirs-1.dist-info" / "METADATA").write_text(f"Name: theirs\n{text}\n", encoding="utf-8")
    assert list(required(tmp_path)) == ["einops", "msgspec"]
