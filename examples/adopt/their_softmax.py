"""A softmax as other people write it: autotuned by Triton, with its launcher. Nothing here knows of this package."""

# ruff: noqa: ANN001, ANN201, PLR0913 - code of others has other rules

import torch
import triton
import triton.language as tl


@triton.autotune(
    configs=[
        triton.Config({"ROWS": 1}, num_warps=4),
        triton.Config({"ROWS": 4}, num_warps=4),
        triton.Config({"ROWS": 4}, num_warps=8, num_stages=2),
    ],
    key=["n_cols"],
)
@triton.heuristics({"BLOCK": lambda args: triton.next_power_of_2(args["n_cols"])})
@triton.jit
def softmax_kernel(y_ptr, x_ptr, n_rows, n_cols, stride, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, BLOCK)
    inside = (row < n_rows)[:, None] & (col < n_cols)[None, :]
    at = row[:, None] * stride + col[None, :]
    x = tl.load(x_ptr + at, mask=inside, other=-float("inf")).to(tl.float32)
    x = tl.where((row < n_rows)[:, None], x, 0.0)
    power = tl.exp(x - tl.max(x, axis=1)[:, None])
    y = power / tl.sum(power, axis=1)[:, None]
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=inside)


def softmax(x):
    y = torch.empty_like(x)
    softmax_kernel[lambda meta: (triton.cdiv(x.shape[0], meta["ROWS"]),)](y, x, *x.shape, x.stride(0))
    return y


def softmax_in_torch(x):
    return torch.softmax(x, dim=1)
