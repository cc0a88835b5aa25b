"""What the manifold-constrained hyper-connections share: the narrow projection of four streams, and what follows it.

Mixes are projected in two launches: partial sums over slices of K in the first, whose grid fills the device however
few tokens there are; the second adds them in order and applies sigmoids, Sinkhorn steps and the weighted sum.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.kernel import Expected, Work

STREAMS = 4
MIXES = 24
"""4 input weights, 4 output weights, 4 x 4 between streams."""
EPS = 1e-6
STEPS = 20


@triton.jit
def accumulate(x, fn_ptrs, mask, acc):
    """acc + x fnᵀ for bf16 x [M, C] and fp32 fn [C, N], as two bf16 products: x is exact, fn good to 2^-17."""
    fn = tl.load(fn_ptrs, mask=mask, other=0.0)
    high = fn.to(tl.bfloat16)
    acc = tl.dot(x, high, acc)
    return tl.dot(x, (fn - high.to(tl.float32)).to(tl.bfloat16), acc)


@triton.jit(do_not_specialize=["tokens"])
def project(
    x_ptr, fn_ptr, mix_ptr, square_ptr, tokens, k,
    OUT: tl.constexpr, BLOCK_M: tl.constexpr, BLOCK_K: tl.constexpr, SPLIT_K: tl.constexpr,
):  # fmt: skip
    """Partial x fnᵀ, fp32 [SPLIT_K, tokens, 32], and partial sums of squares, fp32 [SPLIT_K, tokens]."""
    offs_m = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    split = tl.program_id(1)
    offs_n = tl.arange(0, 32)
    in_m = offs_m < tokens
    row = tl.where(in_m, offs_m, 0).to(tl.int64)
    steps = tl.cdiv(tl.cdiv(k, BLOCK_K), SPLIT_K)
    acc = tl.zeros((BLOCK_M, 32), dtype=tl.float32)
    squares = tl.zeros((BLOCK_M, BLOCK_K), dtype=tl.float32)
    for step in range(split * steps, split * steps + steps):
        offs_k = step * BLOCK_K + tl.arange(0, BLOCK_K)
        x = tl.load(x_ptr + row[:, None] * k + offs_k[None, :], mask=(offs_k < k)[None, :], other=0.0)
        fn_ptrs = fn_ptr + offs_n[None, :] * k + offs_k[:, None]
        acc = accumulate(x, fn_ptrs, (offs_k < k)[:, None] & (offs_n < OUT)[None, :], acc)
        wide = x.to(tl.float32)
        squares += wide * wide
    slot = split.to(tl.int64) * tokens + offs_m
    tl.store(mix_ptr + slot[:, None] * 32 + offs_n[None, :], acc, mask=in_m[:, None])
    tl.store(square_ptr + slot, tl.sum(squares, axis=1), mask=in_m)


@triton.jit(do_not_specialize=["tokens"])
def finish(
    y_ptr, post_ptr, comb_ptr, x_ptr, mix_ptr, square_ptr, scale_ptr, base_ptr, tokens, dim, eps,
    SPLIT_K: tl.constexpr, BLOCK: tl.constexpr, HEAD: tl.constexpr,
):  # fmt: skip
    """y = sum of pre_i x_i for a stretch of columns; the first stretch writes post and comb too."""
    token = tl.program_id(0).to(tl.int64)
    i = tl.arange(0, 4)
    square = 0.0
    pre = tl.zeros((4,), dtype=tl.float32)
    for split in range(SPLIT_K):
        slot = split * tokens.to(tl.int64) + token
        square += tl.load(square_ptr + slot)
        pre += tl.load(mix_ptr + slot * 32 + i)
    norm = 1.0 / tl.sqrt(square / (4 * dim) + eps)
    pre = tl.sigmoid(pre * norm * tl.load(scale_ptr) + tl.load(base_ptr + i)) + eps
    offs = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
    x = tl.load(x_ptr + (token * 4 + i)[:, None] * dim + offs[None, :], mask=(offs < dim)[None, :], other=0.0)
    y = tl.sum(pre[:, None] * x.to(tl.float32), axis=0)
    tl.store(y_ptr + token * dim + offs, y.to(tl.bfloat16), mask=offs < dim)
    if not HEAD:
        if tl.program_id(1) == 0:
            at = i[:, None] * 4 + i[None, :]
            post = tl.zeros((4,), dtype=tl.float32)
            comb = tl.zeros((4, 4), dtype=tl.float32)
            for split in range(SPLIT_K):
                slot = split * tokens.to(tl.int64) + token
                post += tl.load(mix_ptr + slot * 32 + 4 + i)
                comb += tl.load(mix_ptr + slot * 32 + 8 + at)
            post = 2.0 * tl.sigmoid(post * norm * tl.load(scale_ptr + 1) + tl.load(base_ptr + 4 + i))
            comb = comb * norm * tl.load(scale_ptr + 2) + tl.load(base_ptr + 8 + at)
            comb = tl.exp(comb - tl.max(comb, axis=1)[:, None])
            comb = comb / tl.sum(comb, axis=1)[:, None] + eps
            comb = comb / (tl.sum(comb, axis=0)[None, :] + eps)
            for _ in range(19):
                comb = comb / (tl.sum(comb, axis=1)[:, None] + eps)
                comb = comb / (tl.sum(comb, axis=0)[None, :] + eps)
            tl.store(post_ptr + token * 4 + i, post)
            tl.store(comb_ptr + token * 16 + at, comb)


def mixed(
    x: Tensor, partials: tuple[Tensor, Tensor], scale: Tensor, base: Tensor, *, head: bool = False
) -> tuple[Tensor, ...]:
    """Launches `finish` for streams x [tokens, 4, dim]: (y, post, comb), or y alone."""
    tokens, _, dim = x.shape
    mix, square = partials
    y = torch.empty((tokens, dim), dtype=torch.bfloat16, device=x.device)
    post = None if head else torch.empty((tokens, STREAMS), device=x.device)
    comb = None if head else torch.empty((tokens, STREAMS, STREAMS), device=x.device)
    finish[(tokens, triton.cdiv(dim, 1024))](
        y, post, comb, x, mix, square, scale, base, tokens, dim, EPS,
        SPLIT_K=mix.shape[0], BLOCK=1024, HEAD=head, num_warps=4,
    )  # fmt: skip
    return (y,) if post is None or comb is None else (y, post, comb)


def partials(tokens: int, split: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Room for what `project` writes."""
    return torch.empty((split, tokens, 32), device=device), torch.empty((split, tokens), device=device)


def expect_mixed(x: Tensor, fn: Tensor, scale: Tensor, base: Tensor, error: Tensor) -> tuple[Expected, ...]:
    """y, and post and comb where fn has 24 rows, of float64 streams x [tokens, 4, dim] known within `error`."""
    flat = x.flatten(1)
    k = flat.shape[1]
    norm = torch.rsqrt(flat.square().mean(1, keepdim=True) + EPS)
    raw = flat @ fn.double().T
    # k products in fp32 in any order, fn cut to two bf16 parts; the norm errs by half of its mean's error.
    off = (k * 2.0**-24 + 2.0**-16) * (flat.abs() @ fn.double().abs().T) + error.flatten(1) @ fn.double().abs().T
    shift = (error.flatten(1) * flat.abs()).sum(1, keepdim=True) / flat.square().sum(1, keepdim=True).clamp_min(1e-30)
    off = norm * (off + raw.abs() * (k * 2.0**-24 + shift + 2.0**-20))
    mix = raw * norm
    s, b = scale.double(), base.double()
    pre_at = mix[:, :4] * s[0] + b[:4]
    pre = torch.sigmoid(pre_at) + EPS
    pre_off = _sigmoid_off(off[:, :4] * s[0].abs(), pre_at)
    y = torch.einsum("ti,tid->td", pre, x)
    y_off = torch.einsum("ti,tid->td", pre_off + pre * 2.0**-20, x.abs()) + torch.einsum("ti,tid->td", pre, error)
    found = (Expected("y", y, y_off + y.abs() * 2.0**-8),)
    if mix.shape[1] == STREAMS:
        return found
    post_at = mix[:, 4:8] * s[1] + b[4:8]
    post_off = 2 * _sigmoid_off(off[:, 4:8] * s[1].abs(), post_at)
    comb_at = (mix[:, 8:] * s[2] + b[8:]).unflatten(1, (STREAMS, STREAMS))
    comb = torch.softmax(comb_at, 2) + EPS
    comb = comb / (comb.sum(1, keepdim=True) + EPS)
    for _ in range(STEPS - 1):
        comb = comb / (comb.sum(2, keepdim=True) + EPS)
        comb = comb / (comb.sum(1, keepdim=True) + EPS)
    # A relative error d of all entries grows by d at most with each of the 2 x 20 divisions; six roundings each.
    entry = off[:, 8:].amax(1) * s[2].abs() + comb_at.abs().amax((1, 2)) * 2.0**-22
    relative = (torch.expm1((2 * STEPS + 1) * (entry + 6 * 2.0**-24)))[:, None, None]
    return (
        *found,
        Expected("post", 2 * torch.sigmoid(post_at), post_off),
        Expected("comb", comb, comb * relative),
    )


def _sigmoid_off(off: Tensor, at: Tensor) -> Tensor:
    """The slope is a quarter at most; fp32 sigmoid is good to a few units of 2^-24 of its argument and value."""
    return off / 4 + at.abs() * 2.0**-24 + 2.0**-21


def projection_default(tokens: int, k: int, device: Device) -> Config:
    split = 28 if tokens <= 16 else 14 if tokens <= 64 else 7 if tokens <= 2048 else 2
    while split * 128 > k:
        split = 1
    shared = {"BLOCK_M": 16 if tokens <= 64 else 32, "BLOCK_K": 128, "SPLIT_K": split, "num_warps": 4}
    return with_launch_options(shared, device, 2)


def with_launch_options(shared: dict[str, int], device: Device, stages: int) -> Config:
    if device.is_amd:
        return Config(shared, num_stages=stages, waves_per_eu=0, matrix_instr_nonkdim=16)
    return Config(shared, num_stages=stages + 1, num_ctas=1, maxnreg=0)


def projection_reject(k: int, config: Config, device: Device) -> str | None:
    block_m, block_k, split = config.size("BLOCK_M"), config.size("BLOCK_K"), config.size("SPLIT_K")
    threads = config.size("num_warps") * device.warp_size
    steps = triton.cdiv(k, block_k)
    if split > 1 and (split - 1) * triton.cdiv(steps, split) >= steps:
        return f"SPLIT_K={split} leaves a split of {steps} steps empty"
    if block_m * block_k > 64 * threads:
        return f"{block_m * block_k // threads} values of a tile a thread do not fit beside their squares"
    stage = block_m * block_k * 2 + 32 * block_k * 4
    if stage * max(1, config.size("num_stages") - 1) > device.shared_bytes_per_block:
        return f"{config['num_stages']} stages of {stage} B exceed {device.shared_bytes_per_block} B of shared memory"
    return None


def projection_work(tokens: int, k: int, config: Config, bytes_moved: int) -> Work:
    block_m, split = config.size("BLOCK_M"), config.size("SPLIT_K")
    depth = k / split
    return Work(
        programs=triton.cdiv(tokens, block_m) * split,
        flops_per_program=2 * 2 * block_m * 32 * depth,
        bytes_per_program=(2 * min(block_m, tokens) + 4 * MIXES) * depth + 4 * 33 * block_m,
        unique_bytes=bytes_moved,
        iterations=max(1, int(depth) // config.size("BLOCK_K")),
        dtype="bf16",
        launches=2,
        reduction_bytes=2 * 4 * 33 * tokens * split + 2 * k * tokens,
    )
