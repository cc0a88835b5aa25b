"""Triton code as other people write it, with nothing of this package: kernels, their callers, and plain torch."""

# ruff: noqa: PLR0913 - code of others has other rules

import torch
import triton
import triton.language as tl


def drop_many_rows(configs, named_args, **kwargs):
    return [config for config in configs if config.kwargs["ROWS"] <= 4]


@triton.autotune(
    configs=[
        triton.Config({"ROWS": 1}, num_warps=4),
        triton.Config({"ROWS": 2}, num_warps=8, num_stages=2),
        triton.Config({"ROWS": 8}, num_warps=4),
    ],
    key=["n_cols"],
    prune_configs_by={"early_config_prune": drop_many_rows},
)
@triton.heuristics({"BLOCK": lambda args: triton.next_power_of_2(args["n_cols"])})
@triton.jit
def softmax_kernel(y_ptr, x_ptr, n_rows, n_cols, stride, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    row = tl.program_id(0) * ROWS + tl.arange(0, ROWS)
    col = tl.arange(0, BLOCK)
    mask = (row < n_rows)[:, None] & (col < n_cols)[None, :]
    at = row[:, None] * stride + col[None, :]
    x = tl.load(x_ptr + at, mask=mask, other=-float("inf")).to(tl.float32)
    x = tl.where((row < n_rows)[:, None], x, 0.0)
    power = tl.exp(x - tl.max(x, axis=1)[:, None])
    y = power / tl.sum(power, axis=1)[:, None]
    tl.store(y_ptr + at, y.to(y_ptr.dtype.element_ty), mask=mask)


def softmax(x):
    y = torch.empty_like(x)
    softmax_kernel[lambda meta: (triton.cdiv(x.shape[0], meta["ROWS"]),)](y, x, *x.shape, x.stride(0))
    return y


def softmax_in_torch(x):
    return torch.softmax(x, -1)


def wrong_softmax(x):
    return torch.softmax(x, -1) * 1.5


@triton.autotune(
    configs=[
        triton.Config({"BLOCK_M": 32, "BLOCK_N": 64, "BLOCK_K": 32}, num_stages=3, num_warps=4),
        triton.Config({"BLOCK_M": 64, "BLOCK_N": 32, "BLOCK_K": 64}, num_stages=4, num_warps=8),
    ],
    key=["M", "N", "K"],
)
@triton.jit
def matmul_kernel(
    a_ptr, b_ptr, c_ptr, bias_ptr, M, N, K, stride_am, stride_ak, stride_bk, stride_bn, stride_cm,
    BLOCK_M: tl.constexpr, BLOCK_N: tl.constexpr, BLOCK_K: tl.constexpr, ACTIVATION: tl.constexpr,
):  # fmt: skip
    blocks = tl.cdiv(N, BLOCK_N)
    m = tl.program_id(0) // blocks * BLOCK_M + tl.arange(0, BLOCK_M)
    n = tl.program_id(0) % blocks * BLOCK_N + tl.arange(0, BLOCK_N)
    k = tl.arange(0, BLOCK_K)
    acc = tl.zeros((BLOCK_M, BLOCK_N), tl.float32)
    for start in range(0, K, BLOCK_K):
        in_a, in_b = (m < M)[:, None] & (start + k < K)[None, :], (start + k < K)[:, None] & (n < N)[None, :]
        a = tl.load(a_ptr + m[:, None] * stride_am + (start + k)[None, :] * stride_ak, mask=in_a, other=0.0)
        b = tl.load(b_ptr + (start + k)[:, None] * stride_bk + n[None, :] * stride_bn, mask=in_b, other=0.0)
        acc = tl.dot(a, b, acc)
    if bias_ptr is not None:
        acc += tl.load(bias_ptr + n, mask=n < N, other=0.0)[None, :]
    if ACTIVATION == "relu":
        acc = tl.maximum(acc, 0.0)
    inside = (m < M)[:, None] & (n < N)[None, :]
    tl.store(c_ptr + m[:, None] * stride_cm + n[None, :], acc.to(c_ptr.dtype.element_ty), mask=inside)


def matmul(a, b, bias=None):
    (M, K), N = a.shape, b.shape[1]
    c = torch.empty((M, N), dtype=a.dtype)
    matmul_kernel[lambda meta: (triton.cdiv(M, meta["BLOCK_M"]) * triton.cdiv(N, meta["BLOCK_N"]),)](
        a, b, c, bias, M, N, K, *a.stride(), *b.stride(), c.stride(0), ACTIVATION="relu"
    )
    return c


def matmul_in_torch(a, b, bias):
    return torch.relu(a @ b if bias is None else a @ b + bias)


@triton.autotune(
    configs=[triton.Config({"BLOCK": 128, "SPLIT": split}) for split in (1, 4)], key=["n"], reset_to_zero=["out_ptr"]
)
@triton.jit
def total_kernel(out_ptr, x_ptr, n, BLOCK: tl.constexpr, SPLIT: tl.constexpr):
    row, part = tl.program_id(0), tl.program_id(1)
    acc = tl.zeros((BLOCK,), tl.float32)
    for start in range(part * BLOCK, n, BLOCK * SPLIT):
        at = start + tl.arange(0, BLOCK)
        acc += tl.load(x_ptr + row * n + at, mask=at < n, other=0.0)
    tl.atomic_add(out_ptr + row, tl.sum(acc, axis=0))


def total(x):
    out = torch.zeros(x.shape[0])
    total_kernel[lambda meta: (x.shape[0], meta["SPLIT"])](out, x, x.shape[1])
    return out


@triton.jit
def scale_rows_kernel(x_ptr, slot_ptr, scale, dim, stride, BLOCK: tl.constexpr):
    row = tl.load(slot_ptr + tl.program_id(0))
    col = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    at = x_ptr + row * stride + col
    tl.store(at, (tl.load(at, mask=col < dim, other=0.0) * scale).to(x_ptr.dtype.element_ty), mask=col < dim)


def scale_rows(x, slots):
    grid = lambda meta: (slots.shape[0], triton.cdiv(x.shape[1], meta["BLOCK"]))  # noqa: E731
    scale_rows_kernel[grid](x, slots, 0.5, x.shape[1], x.stride(0), BLOCK=64)


def hook_for(name):
    return lambda named: named[name].fill_(7.0)


@triton.autotune(configs=[triton.Config({"BLOCK": block}, pre_hook=hook_for("x_ptr")) for block in (32, 64)], key=["n"])
@triton.jit
def add_one_kernel(x_ptr, n, BLOCK: tl.constexpr):
    at = tl.program_id(0) * BLOCK + tl.arange(0, BLOCK)
    tl.store(x_ptr + at, tl.load(x_ptr + at, mask=at < n) + 1, mask=at < n)


@triton.autotune(
    configs=[triton.Config({"BLOCK": 32}, pre_hook=hook_for("x_ptr")), triton.Config({"BLOCK": 64})], key=["n"]
)
@triton.jit
def unevenly_hooked_kernel(x_ptr, n, BLOCK: tl.constexpr):
    tl.store(x_ptr + tl.arange(0, BLOCK), 0.0, mask=tl.arange(0, BLOCK) < n)
