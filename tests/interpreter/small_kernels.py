"""Small kernels with one defect each that hardware has and Triton's interpreter hides, and a right form beside it.

Each maps rows of fp32 to rows of fp32; `# planted` marks the line that must be named.
"""

import inspect
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar

import torch
import triton
import triton.language as tl
from torch import Tensor
from triton.language.extra import libdevice
from triton.language.extra.libdevice import erf

from autotune import launcher_signature
from autotune.config import Config
from autotune.inputs import Draw
from autotune.kernel import Expected, Kernel, Work, as_float64
from autotune.origin import Origin


@dataclass(frozen=True)
class Rows:
    """x [rows, cols] in fp32."""

    rows: int
    cols: int

    VARYING: ClassVar[tuple[str, ...]] = ("rows",)

    @classmethod
    def of(cls, args):
        return cls(*args.x.shape)

    def inputs(self, seed, device):
        return (Draw(seed, device).normal((self.rows, self.cols), torch.float32),)

    @property
    def flops(self):
        return self.rows * self.cols

    @property
    def bytes_moved(self):
        return 8 * self.rows * self.cols


def line_of(jit):
    """file:line of the marked line of a small kernel."""
    lines, first = inspect.getsourcelines(jit.fn)
    marked = [number for number, line in enumerate(lines, first) if "# planted" in line]
    return f"tests/interpreter/{Path(inspect.getsourcefile(jit.fn)).name}:{marked[0]}"


def kernel_of(jit, meant, any_order=False):
    """A Kernel that launches `jit` once a row; `meant(x)` is what it must compute, in float64."""

    def launch(x: Tensor, *, config, device) -> Tensor:
        y = torch.zeros_like(x) if any_order or "atomic" in jit.fn.__name__ else torch.empty_like(x)
        jit[(x.shape[0],)](y, x, x.shape[0], x.shape[1], **config)
        return y

    def reference(problem, x):
        value = meant(x.double())
        return (Expected("y", value, value.abs() * 2.0**-16 + 2.0**-30),)

    def default(problem, device):
        return Config(BLOCK=triton.next_power_of_2(problem.cols), num_warps=4)

    def reject(problem, config, device):
        return "BLOCK must hold the row" if config["BLOCK"] < problem.cols else None

    def work(problem, config, device):
        return Work(problem.rows, problem.cols, 8 * problem.cols, problem.bytes_moved)

    signature = launcher_signature.read(launch, Rows.of)
    name, origin = f"own/{jit.fn.__name__}", Origin(Path(__file__), jit.fn.__name__)
    parts = (name, Rows, jit, launch, reference, as_float64, default, reject, work, origin, signature)
    return Kernel(*parts, any_order=any_order)


@triton.jit
def max_of_undefined(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    x = tl.load(x_ptr + at, mask=col < cols)  # planted
    tl.store(y_ptr + at, x / tl.max(tl.abs(x), axis=0), mask=col < cols)


@triton.jit
def min_of_undefined(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    x = tl.load(x_ptr + at, mask=col < cols, other=0.0)
    again = tl.load(x_ptr + at, mask=col < cols)  # planted
    tl.store(y_ptr + at, x - tl.min(again, axis=0), mask=col < cols)


@triton.jit
def count_of_undefined(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    x = tl.load(x_ptr + at, mask=col < cols)  # planted
    tl.store(y_ptr + at, x * 0 + tl.sum((x > 0).to(tl.int32), axis=0), mask=col < cols)


@triton.jit
def unused_undefined(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=col < cols) * 2, mask=col < cols)


@triton.jit
def ring_of_constant(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    RING: tl.constexpr = 4
    for k in range(cols):
        tl.store(y_ptr + tl.program_id(0) * cols + k, ((k - 2) % RING) * 1.0)  # planted


@triton.jit
def ring_of_size(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    row = tl.program_id(0) * cols
    for k in tl.range(cols):
        tl.store(y_ptr + row + k, tl.load(x_ptr + row + (k - 2) % cols))  # planted


@triton.jit
def halves_below_zero(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    for k in range(cols):
        tl.store(y_ptr + tl.program_id(0) * cols + k, (k - 3) // 2 * 1.0)  # planted


@triton.jit
def ring_that_is_positive(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    row = tl.program_id(0) * cols
    for k in range(cols):
        tl.store(y_ptr + row + k, tl.load(x_ptr + row + (k - 2 + cols) % cols))


@triton.jit
def read_back_turned(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr, BARRIER: tl.constexpr = False):
    col = tl.arange(0, BLOCK)
    row = tl.program_id(0) * cols
    tl.store(y_ptr + row + col, tl.load(x_ptr + row + col, mask=col < cols), mask=col < cols)
    if BARRIER:
        tl.debug_barrier()
    back = tl.load(y_ptr + row + cols - 1 - col, mask=col < cols)  # planted
    if BARRIER:
        tl.debug_barrier()
    tl.store(y_ptr + row + col, back, mask=col < cols)


@triton.jit
def read_back_turned_behind_barrier(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    read_back_turned(y_ptr, x_ptr, rows, cols, BLOCK, True)


@triton.jit
def read_back_scalar(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    row = tl.program_id(0) * cols
    col = tl.arange(0, BLOCK)
    tl.store(y_ptr + row, tl.load(x_ptr + row))
    first = tl.load(y_ptr + row)  # planted
    tl.store(y_ptr + row + col, first + tl.zeros((BLOCK,), tl.float32), mask=col < cols)


@triton.jit
def read_back_own(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=col < cols), mask=col < cols)
    tl.store(y_ptr + at, tl.load(y_ptr + at, mask=col < cols) * 2, mask=col < cols)


@triton.jit
def false_multiple(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    row = tl.multiple_of(tl.program_id(0) * cols, 16)  # planted
    col = tl.arange(0, BLOCK)
    tl.store(y_ptr + row + col, tl.load(x_ptr + row + col, mask=col < cols), mask=col < cols)


@triton.jit
def false_contiguity(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    inside = tl.max_contiguous(tl.where(col < cols, col, 0), BLOCK)  # planted
    at = tl.program_id(0) * cols + inside
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=col < cols), mask=col < cols)


@triton.jit
def false_constancy(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    group = tl.max_constancy((col + 1) // 4, 4)  # planted
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=col < cols) + group * 0, mask=col < cols)


@triton.jit
def false_assumption(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    tl.assume(tl.program_id(0) > 0)  # planted
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=col < cols), mask=col < cols)


@triton.jit
def true_hints(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    tl.assume(cols > 0)
    col = tl.max_contiguous(tl.multiple_of(tl.arange(0, BLOCK) % BLOCK, BLOCK), BLOCK)
    at = tl.program_id(0) * cols + col
    x = tl.load(tl.max_contiguous(tl.multiple_of(x_ptr + at, 4), BLOCK), mask=col < cols)
    tl.store(y_ptr + at, x + tl.max_constancy(col // 4, 4) * 0, mask=col < cols)


@triton.jit
def atomic_sum_of_programs(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + tl.program_id(0) * cols + col, mask=col < cols, other=0.0)
    for row in range(rows):
        tl.atomic_add(y_ptr + row * cols + col, x, mask=col < cols)  # planted


@triton.jit
def atomic_sum_of_lanes(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    row = tl.program_id(0) * cols
    x = tl.load(x_ptr + row + col, mask=col < cols, other=0.0)
    tl.atomic_add(y_ptr + row + col * 0, x, mask=col < cols)  # planted


@triton.jit
def atomic_sum_of_ones(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    for row in range(rows):
        tl.atomic_add(y_ptr + row * cols + col, tl.full((BLOCK,), 1.0, tl.float32), mask=col < cols)


@triton.jit
def atomic_ticket(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    ticket = tl.atomic_add(y_ptr, 1.0)  # planted
    tl.store(y_ptr + tl.program_id(0) * cols + col, ticket + col * 0, mask=(col > 0) & (col < cols))


@triton.jit
def atomic_first_comer(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    before = tl.atomic_add(y_ptr + cols - 1, 1.0)  # planted
    first = tl.where(before == 0.0, 1.0, 0.0)
    tl.store(y_ptr + tl.program_id(0) * cols + col, first + col * 0, mask=col < cols - 1)


@triton.jit
def offset_in_32_bits(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=col < cols), mask=col < cols)  # planted


@triton.jit
def loop_offset_in_32_bits(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * cols
    for k in range(rows):
        at = k * BLOCK * 8 + tl.arange(0, BLOCK)
        tl.store(y_ptr + at, tl.load(x_ptr + at, mask=at < cols), mask=at < row)  # planted


@triton.jit
def gather_rows(x_ptr, slots_ptr, width, WIDE: tl.constexpr):
    slot = tl.load(slots_ptr + tl.arange(0, 16))
    if WIDE:
        slot = slot.to(tl.int64)
    tl.store(x_ptr + slot[:, None] * width + tl.arange(0, 16)[None, :], tl.zeros((16, 16), tl.float32))  # planted


@triton.jit
def offset_in_64_bits(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0).to(tl.int64) * cols + col
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=col < cols), mask=col < cols)


@triton.jit
def described_on_device(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    into = tl.make_tensor_descriptor(y_ptr, shape=[rows, cols], strides=[cols, 1], block_shape=[1, BLOCK])
    source = tl.make_tensor_descriptor(x_ptr, shape=[rows, cols], strides=[cols, 1], block_shape=[1, BLOCK])
    into.store([tl.program_id(0), 0], source.load([tl.program_id(0), 0]))


@triton.jit
def described_too_large(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    into = tl.make_tensor_descriptor(y_ptr, shape=[rows, cols], strides=[cols, 1], block_shape=[1, BLOCK])
    source = tl.make_tensor_descriptor(x_ptr, shape=[rows + 1, cols], strides=[cols, 1], block_shape=[1, BLOCK])
    into.store([tl.program_id(0), 0], source.load([tl.program_id(0) + 1, 0]))  # planted


@triton.jit
def described_without_alignment(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    into = tl.make_tensor_descriptor(y_ptr, shape=[rows, cols], strides=[cols, 1], block_shape=[1, BLOCK])
    source = tl.make_tensor_descriptor(x_ptr + 1, [rows, cols - 1], [cols, 1], [1, BLOCK])  # planted
    into.store([tl.program_id(0), 0], source.load([tl.program_id(0), 0]))


@triton.jit
def copy_described(into, source):
    into.store([tl.program_id(0), 0], source.load([tl.program_id(0), 0]))  # planted


@triton.jit
def tanh_of_erf(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    x = tl.load(x_ptr + at, mask=col < cols, other=0.0)
    tl.store(y_ptr + at, libdevice.tanh(erf(x)) + libdevice.isnan(x), mask=col < cols)


@triton.jit
def bytes_permuted(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    tl.store(y_ptr + tl.program_id(0) * cols + col, libdevice.byte_perm(col, col, col) * 1.0, mask=col < cols)


@triton.jit
def scaled_by_argument(y_ptr, x_ptr, cols, scale, BLOCK: tl.constexpr):
    at = tl.arange(0, BLOCK)
    x = tl.load(x_ptr + at, mask=at < cols, other=0.0)
    tl.store(y_ptr + at, x * scale + scale.to(tl.float16), mask=at < cols)


@triton.jit
def larger_and_smaller(out, x, y, N: tl.constexpr):
    at = tl.arange(0, N)
    left, right = tl.load(x + at), tl.load(y + at)
    tl.store(out + at, tl.maximum(left, right))
    tl.store(out + N + at, tl.minimum(left, right))


@triton.jit
def masked_by_scalar(y_ptr, x_ptr, row_ptr, rows, BLOCK: tl.constexpr):
    """y = x where a comparison of one loaded number holds."""
    i = tl.arange(0, BLOCK)
    is_row = tl.load(row_ptr) < rows
    tl.store(y_ptr + i, tl.load(x_ptr + i, mask=is_row & (i < BLOCK), other=0.0), mask=~is_row | (i >= 0))
