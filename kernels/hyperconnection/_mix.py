"""Parts of the manifold-constrained hyper-connections: the narrow projection of four streams, and what follows it.

Mixes are projected in two launches: partial sums over slices of K in the first, whose grid fills the device however
few tokens there are; the second adds them in order and applies sigmoids, Sinkhorn steps and the weighted sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected
from autotune.kernels._launch import launch
from autotune.kernels._problem import Sizes, at_least

STREAMS = 4
MIXES = 24
"""4 input weights, 4 output weights, 4 x 4 between streams."""
EPS = 1e-6
STEPS = 20


@dataclass(frozen=True)
class Streams(Sizes):
    """Four residual streams of `tokens` rows and `dim` columns, and the output `o` of a sublayer."""

    tokens: int
    dim: int

    def __post_init__(self) -> None:
        super().__post_init__()
        at_least(self, dim=16)

    @classmethod
    def of(cls, args: Arguments) -> Self:
        return cls(args.o.shape[0], args.o.shape[1])


def draw_mixed(draw: Draw, tokens: int, dim: int) -> tuple[Tensor, ...]:
    """Return o bf16 [tokens, dim], residual bf16 [tokens, 4, dim], post fp32 [tokens, 4], comb fp32 [tokens, 4, 4]."""
    return (
        draw.normal((tokens, dim), torch.bfloat16),
        draw.normal((tokens, STREAMS, dim), torch.bfloat16),
        draw.uniform((tokens, STREAMS), 0.0, 2.0),
        draw.uniform((tokens, STREAMS, STREAMS), 0.0, 0.5),
    )


def reference_streams(args: Arguments) -> tuple[Tensor, Tensor]:
    """Return the new streams post_j o + sum_i comb[i, j] R_i, float64 [tokens, 4, dim], and the error of fp32 sums."""
    comb, old, o = args.comb.double(), args.residual.double(), args.o.double()
    post = args.post.double()[:, :, None]
    value = post * o[:, None, :] + torch.einsum("tij,tid->tjd", comb, old)
    magnitude = post * o.abs()[:, None, :] + torch.einsum("tij,tid->tjd", comb, old.abs())
    return value, 6 * 2.0**-24 * magnitude  # five products and four sums


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


@triton.jit
def _sum_partials(mix_ptr, slot, used, n):
    """Mix n of a token: its partials of all splits, loaded at once and added as a tree."""
    return tl.sum(tl.load(mix_ptr + slot * 32 + n, mask=used, other=0.0), axis=0)


@triton.jit
def _post_and_comb(post_ptr, comb_ptr, mix_ptr, scale_ptr, base_ptr, token, slot, used, norm, eps):
    i = tl.arange(0, 4)
    at = i[:, None] * 4 + i[None, :]
    post = _sum_partials(mix_ptr, slot[:, None], used[:, None], 4 + i[None, :])
    post = 2.0 * tl.sigmoid(post * norm * tl.load(scale_ptr + 1) + tl.load(base_ptr + 4 + i))
    comb = _sum_partials(mix_ptr, slot[:, None, None], used[:, None, None], 8 + at[None, :, :])
    comb = comb * norm * tl.load(scale_ptr + 2) + tl.load(base_ptr + 8 + at)
    comb = tl.exp(comb - tl.max(comb, axis=1)[:, None])
    comb = comb / tl.sum(comb, axis=1)[:, None] + eps
    comb = comb / (tl.sum(comb, axis=0)[None, :] + eps)
    for _ in range(19):
        comb = comb / (tl.sum(comb, axis=1)[:, None] + eps)
        comb = comb / (tl.sum(comb, axis=0)[None, :] + eps)
    tl.store(post_ptr + token * 4 + i, post)
    tl.store(comb_ptr + token * 16 + at, comb)


@triton.jit(do_not_specialize=["tokens"])
def apply_mixes(
    y_ptr, post_ptr, comb_ptr, x_ptr, mix_ptr, square_ptr, scale_ptr, base_ptr, tokens, dim, eps,
    SPLIT_K: tl.constexpr, SPLITS: tl.constexpr, BLOCK: tl.constexpr, HEAD: tl.constexpr,
):  # fmt: skip
    """y = sum of pre_i x_i, a stretch of columns a program; one more program a token for post and comb, unless HEAD."""
    token = tl.program_id(0).to(tl.int64)
    split = tl.arange(0, SPLITS)
    used = split < SPLIT_K
    slot = split * tokens.to(tl.int64) + token
    square = tl.sum(tl.load(square_ptr + slot, mask=used, other=0.0), axis=0)
    norm = 1.0 / tl.sqrt(square / (4 * dim) + eps)
    if not HEAD and tl.program_id(1) == tl.num_programs(1) - 1:
        _post_and_comb(post_ptr, comb_ptr, mix_ptr, scale_ptr, base_ptr, token, slot, used, norm, eps)
    else:
        offs = tl.program_id(1) * BLOCK + tl.arange(0, BLOCK)
        y = tl.zeros((BLOCK,), dtype=tl.float32)
        for i in tl.static_range(4):
            mix = _sum_partials(mix_ptr, slot, used, i) * norm
            pre = tl.sigmoid(mix * tl.load(scale_ptr) + tl.load(base_ptr + i)) + eps
            y += pre * tl.load(x_ptr + (token * 4 + i) * dim + offs, mask=offs < dim, other=0.0).to(tl.float32)
        tl.store(y_ptr + token * dim + offs, y.to(tl.bfloat16), mask=offs < dim)


def launch_mixes(
    x: Tensor, partials: tuple[Tensor, Tensor], scale: Tensor, base: Tensor, *, head: bool = False
) -> tuple[Tensor, ...]:
    """Launch `apply_mixes` for streams x [tokens, 4, dim]: (y, post, comb), or y alone."""
    tokens, _, dim = x.shape
    mix, square = partials
    y = torch.empty((tokens, dim), dtype=torch.bfloat16, device=x.device)
    post = None if head else torch.empty((tokens, STREAMS), device=x.device)
    comb = None if head else torch.empty((tokens, STREAMS, STREAMS), device=x.device)
    launch(apply_mixes, (tokens, triton.cdiv(dim, 1024) + (not head)))(
        y, post, comb, x, mix, square, scale, base, tokens, dim, EPS,
        SPLIT_K=mix.shape[0], SPLITS=triton.next_power_of_2(mix.shape[0]), BLOCK=1024, HEAD=head, num_warps=2,
    )  # fmt: skip
    return (y,) if post is None or comb is None else (y, post, comb)


def partials(tokens: int, split: int, device: torch.device) -> tuple[Tensor, Tensor]:
    """Buffers that `project` writes."""
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
    expected = (Expected("y", y, y_off + y.abs() * 2.0**-8),)
    if mix.shape[1] == STREAMS:
        return expected
    post_at = mix[:, 4:8] * s[1] + b[4:8]
    post_off = 2 * _sigmoid_off(off[:, 4:8] * s[1].abs(), post_at)
    comb_at = (mix[:, 8:] * s[2] + b[8:]).unflatten(1, (STREAMS, STREAMS))
    comb = _sinkhorn(comb_at)
    # The slope by every logit, a tenth on top for its own change; 2 x 20 divisions round six times each.
    slope = torch.func.vmap(torch.func.jacrev(_sinkhorn))(comb_at).abs()
    entry = (off[:, 8:] * s[2].abs()).unflatten(1, (STREAMS, STREAMS)) + comb_at.abs() * 2.0**-22
    comb_off = 1.1 * torch.einsum("tijkl,tkl->tij", slope, entry) + comb * (2 * STEPS * 6 * 2.0**-24)
    return (*expected, Expected("post", 2 * torch.sigmoid(post_at), post_off), Expected("comb", comb, comb_off))


def _sinkhorn(logits: Tensor) -> Tensor:
    comb = torch.softmax(logits, -1) + EPS
    comb = comb / (comb.sum(-2, keepdim=True) + EPS)
    for _ in range(STEPS - 1):
        comb = comb / (comb.sum(-1, keepdim=True) + EPS)
        comb = comb / (comb.sum(-2, keepdim=True) + EPS)
    return comb


def _sigmoid_off(off: Tensor, at: Tensor) -> Tensor:
    """The slope is a quarter at most; fp32 sigmoid is good to a few units of 2^-24 of its argument and value."""
    return off / 4 + at.abs() * 2.0**-24 + 2.0**-21
