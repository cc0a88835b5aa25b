"""Second forms of defects that hardware has and Triton's interpreter hides, and outputs that are rightly no numbers.

Each kernel maps rows of fp32 to rows of fp32, as those of `small_kernels` do; `# planted` marks the line to be named.
"""

import triton
import triton.language as tl
from triton.language.extra import libdevice


@triton.jit
def end_of_row(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    """Floors to cols - 1; C truncates to cols, behind the last row."""
    row = tl.program_id(0) * cols
    for k in range(cols):
        tl.store(y_ptr + row + k, tl.load(x_ptr + row + cols + (-1 - k) // cols))  # planted


@triton.jit
def false_multiple_of_pointer(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    source = tl.multiple_of(x_ptr + 1, 16)  # planted
    tl.store(y_ptr + at, tl.load(source - 1 + at, mask=col < cols), mask=col < cols)


@triton.jit
def false_contiguity_of_reversed(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    row = tl.program_id(0) * cols
    turned = tl.max_contiguous(cols - 1 - col, 4)  # planted
    tl.store(y_ptr + row + col, tl.load(x_ptr + row + turned, mask=col < cols), mask=col < cols)


@triton.jit
def false_constancy_of_columns(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + tl.max_constancy(col, 2)  # planted
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=col < cols), mask=col < cols)


@triton.jit
def false_assumption_of_size(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    tl.assume(cols % 16 == 0)  # planted
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    tl.store(y_ptr + at, tl.load(x_ptr + at, mask=col < cols), mask=col < cols)


@triton.jit
def described_with_short_rows(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    into = tl.make_tensor_descriptor(y_ptr, shape=[rows, cols], strides=[cols, 1], block_shape=[1, BLOCK])
    source = tl.make_tensor_descriptor(x_ptr, [rows, cols], [cols - 1, 1], [1, BLOCK])  # planted
    into.store([tl.program_id(0), 0], source.load([tl.program_id(0), 0]))


@triton.jit
def population_counted(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    tl.store(y_ptr + tl.program_id(0) * cols + col, libdevice.popc(col) * 1.0, mask=col < cols)


@triton.jit
def every_second_masked(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr, FILL: tl.constexpr = float("-inf")):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    x = tl.load(x_ptr + at, mask=col < cols, other=0.0)
    tl.store(y_ptr + at, tl.where(col % 2 == 0, x, FILL), mask=col < cols)


@triton.jit
def every_second_finite(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    every_second_masked(y_ptr, x_ptr, rows, cols, BLOCK, -1e30)


@triton.jit
def root(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    tl.store(y_ptr + at, tl.sqrt(tl.load(x_ptr + at, mask=col < cols, other=0.0)), mask=col < cols)


@triton.jit
def root_of_positive_part(y_ptr, x_ptr, rows, cols, BLOCK: tl.constexpr):
    col = tl.arange(0, BLOCK)
    at = tl.program_id(0) * cols + col
    x = tl.load(x_ptr + at, mask=col < cols, other=0.0)
    tl.store(y_ptr + at, tl.sqrt(tl.maximum(x, 0.0)), mask=col < cols)
