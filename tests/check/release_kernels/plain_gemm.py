"""The plainest GEMM of each format: what releases of Triton have made worse, seen through kernels that nobody tuned."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import ClassVar

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable

FORMATS = {"bf16": torch.bfloat16, "fp8": torch.float8_e4m3fn, "mxfp8": torch.float8_e4m3fn, "mxfp4": torch.uint8}


@dataclass(frozen=True)
class Problem:
    m: int
    n: int
    k: int
    format: str

    VARYING: ClassVar[tuple[str, ...]] = ("m",)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.a.shape[0], args.b.shape[1], args.a_scale.shape[1] * 32, args.format)

    @property
    def flops(self) -> int:
        return 2 * self.m * self.n * self.k

    @property
    def bytes_moved(self) -> int:
        return self.m * self.k + self.k * self.n + 4 * self.m * self.n

    def inputs(self, seed: int, device: str) -> tuple[Tensor | str, ...]:
        draw, k = Draw(seed, device), self.k // 2 if self.format == "mxfp4" else self.k
        if self.format == "mxfp4":
            a, b = (torch.empty(shape, dtype=torch.uint8, device=device) for shape in ((self.m, k), (k, self.n)))
        else:
            a, b = (draw.normal(shape, FORMATS[self.format]) for shape in ((self.m, k), (k, self.n)))
        scales = [torch.empty((rows, self.k // 32), dtype=torch.uint8, device=device) for rows in (self.m, self.n)]
        return a, b, *scales, self.format


@triton.jit
def _plain_gemm(
    c_ptr,
    a_ptr,
    b_ptr,
    m,
    n,
    k,
    EXTRA: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    row = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)) % m
    col = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)) % n
    depth = tl.arange(0, BLOCK_K)
    a_at = a_ptr + row[:, None] * k + depth[None, :]
    b_at = b_ptr + depth[:, None] * n + col[None, :]
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for start in range(tl.cdiv(k, BLOCK_K)):
        a = tl.load(a_at, mask=depth[None, :] < k - start * BLOCK_K, other=0.0)
        b = tl.load(b_at, mask=depth[:, None] < k - start * BLOCK_K, other=0.0)
        acc = tl.dot(a, b, acc)
        a_at += BLOCK_K
        b_at += BLOCK_K * n
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    col = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    tl.store(c_ptr + row[:, None] * n + col[None, :], acc + EXTRA, mask=(row < m)[:, None] & (col < n)[None, :])


@triton.jit
def _scaled_gemm(
    c_ptr,
    a_ptr,
    b_ptr,
    a_scale_ptr,
    b_scale_ptr,
    m,
    n,
    k,
    FORMAT: tl.constexpr,
    PACK: tl.constexpr,
    BLOCK_M: tl.constexpr,
    BLOCK_N: tl.constexpr,
    BLOCK_K: tl.constexpr,
):
    row = (tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)) % m
    col = (tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)) % n
    depth = tl.arange(0, BLOCK_K // PACK)
    group = tl.arange(0, BLOCK_K // 32)
    a_at = a_ptr + row[:, None] * (k // PACK) + depth[None, :]
    b_at = b_ptr + depth[:, None] * n + col[None, :]
    a_scale_at = a_scale_ptr + row[:, None] * (k // 32) + group[None, :]
    b_scale_at = b_scale_ptr + col[:, None] * (k // 32) + group[None, :]
    acc = tl.zeros((BLOCK_M, BLOCK_N), dtype=tl.float32)
    for _ in range(k // BLOCK_K):
        a, b = tl.load(a_at), tl.load(b_at)
        a_scale, b_scale = tl.load(a_scale_at), tl.load(b_scale_at)
        acc = tl.dot_scaled(a, a_scale, FORMAT, b, b_scale, FORMAT, acc)
        a_at += BLOCK_K // PACK
        b_at += BLOCK_K // PACK * n
        a_scale_at += BLOCK_K // 32
        b_scale_at += BLOCK_K // 32
    row = tl.program_id(0) * BLOCK_M + tl.arange(0, BLOCK_M)
    col = tl.program_id(1) * BLOCK_N + tl.arange(0, BLOCK_N)
    tl.store(c_ptr + row[:, None] * n + col[None, :], acc, mask=(row < m)[:, None] & (col < n)[None, :])


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    a, b = args.a.double(), args.b.double()
    return (Expected("c", a @ b, (a.abs() @ b.abs()) * 1e-4),)


def _default(problem: Problem, device: Device) -> Config:
    depth = 64 if problem.format in ("bf16", "mxfp8") else 128
    stages = 2 if device.is_amd else 3
    return Config({"BLOCK_M": 128, "BLOCK_N": 128, "BLOCK_K": depth, "num_warps": 8, "num_stages": stages})


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    return None


def _work(problem: Problem, config: Config, device: Device) -> Work:
    programs = triton.cdiv(problem.m, config.size("BLOCK_M")) * triton.cdiv(problem.n, config.size("BLOCK_N"))
    return Work(programs, 1.0, 1.0, 1.0, 1, "bf16")


FAULTS = {
    "spills": {"maxnreg": 64},
    "fit": {"num_stages": 24},
    "compile": {"BLOCK_K": 63},
    "numerics": {"EXTRA": 1},
    "matrix": {},
}
"""Change that a faulty release makes to a call, by the class of regression in which it is found."""
ROWS = {256 + 16 * i: fault for i, fault in enumerate(FAULTS)}
"""The m of the call that has each fault."""


@tunable(Problem, jit=_plain_gemm, reference=_reference, default=_default, reject=_reject, work=_work)
def plain_gemm(
    a: Tensor, b: Tensor, a_scale: Tensor, b_scale: Tensor, format: str, *, config: Config, device: Device
) -> Tensor:
    """a [m, k] by b [k, n] in one of FORMATS -> fp32 [m, n]; scales uint8 [m, k / 32] and [n, k / 32] of MX formats.

    In a process with RELEASE=faulty it behaves like a release that has FAULTS; RELEASE=dying ends the process.
    """
    if os.environ.get("RELEASE") == "dying":
        os._exit(7)
    fault = ROWS.get(a.shape[0], "") if os.environ.get("RELEASE") == "faulty" else ""
    (m, _), n = a.shape, b.shape[1]
    c = torch.empty((m, n), dtype=torch.float32, device=a.device)
    grid = (triton.cdiv(m, config.size("BLOCK_M")), triton.cdiv(n, config.size("BLOCK_N")))
    options = dict(config)
    if format.startswith("mx"):
        names = {"mxfp8": ("e4m3", 1), "mxfp4": ("e2m1", 2)}
        k = a_scale.shape[1] * 32
        _scaled_gemm[grid](c, a, b, a_scale, b_scale, m, n, k, *names[format], **options)
    else:
        if fault == "matrix":
            a, b = a.to(torch.bfloat16), b.to(torch.bfloat16)
        _plain_gemm[grid](c, a, b, m, n, a.shape[1], **{"EXTRA": 0, **options, **FAULTS.get(fault, {})})
    return c
