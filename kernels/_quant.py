"""Block quantisation: device code for FP8 and FP4 groups, and the values and bounds that references expect.

A group that holds NaN or an infinity is NaN as a whole, in every format: its scale is NaN (255 in e8m0), and whoever
reads it multiplies by that. So do DeepSeek's quantisers in torch, whose maximum is torch.amax (DeepGEMM
`utils/math.py`), and OCP's MX specification (v1.0) gives 255 this meaning; SGLang clamps instead, and hides it. Codes
of such a group may be anything. Subnormals are numbers like others; far below the floor of a scale they become 0.
"""

from __future__ import annotations

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.kernel import Expected

FP8_MAX = {"e4m3fn": 448.0, "e4m3fnuz": 240.0}
AMAX_FLOOR = 1e-4
"""Smallest group maximum that FP8 scales serve: DeepSeek's own floor."""
E8M0 = (torch.uint8, torch.float8_e8m0fnu)
"""Dtypes of e8m0 scales: the byte b is 2^(b - 127), 255 is NaN. Checkpoints have torch's own type of them."""
E2M1 = (0.0, 0.5, 1.0, 1.5, 2.0, 3.0, 4.0, 6.0)


def fp8_name(dtype: torch.dtype) -> str:
    """Name of the FP8 format of an operand: e4m3fn, or e4m3fnuz on CDNA3."""
    return "e4m3fnuz" if dtype == torch.float8_e4m3fnuz else "e4m3fn"


@triton.jit
def _up_to_power_of_two(x):
    # Carry any mantissa bit into the exponent.
    return (((x.to(tl.int32, bitcast=True) + 0x7FFFFF) >> 23) << 23).to(tl.float32, bitcast=True)


@triton.jit
def _inverse(power):
    """Exact inverse of a power of two from 2^-126 to 2^126; multiplying by it is exact, and cheaper than dividing."""
    return (0x7F000000 - power.to(tl.int32, bitcast=True)).to(tl.float32, bitcast=True)


@triton.jit
def _most_bits(groups):
    """Largest magnitude of each group as int32 bits, in whose order NaN is above inf, which tl.max would lose."""
    return tl.max(groups.to(tl.int32, bitcast=True) & 0x7FFFFFFF, axis=2)


@triton.jit
def fp8_groups(
    y, floor, ROWS: tl.constexpr, COLS: tl.constexpr, GROUP: tl.constexpr, FP8_MAX: tl.constexpr, UE8M0: tl.constexpr
):
    """fp32 [ROWS, COLS] -> values to be cast to FP8 [ROWS, COLS], scales fp32 [ROWS, COLS / GROUP].

    A value is at most FP8_MAX and its rounding, which the cast rounds to FP8_MAX: it needs no clamp.
    """
    groups = tl.reshape(y, (ROWS, COLS // GROUP, GROUP))
    most = _most_bits(groups)
    scale = tl.maximum(most.to(tl.float32, bitcast=True), floor) / FP8_MAX
    if UE8M0:
        scale = _up_to_power_of_two(scale)
        q = groups * _inverse(scale)[:, :, None]
    else:
        q = groups / scale[:, :, None]
    scale = tl.where(most < 0x7F800000, scale, float("nan"))
    return tl.reshape(q, (ROWS, COLS)), scale


@triton.jit
def stored_scales(scale, UE8M0: tl.constexpr):
    """Scales of `fp8_groups` as they are stored: fp32, or of powers of two the e8m0 byte, the exponent; NaN is 255."""
    if UE8M0:
        return (scale.to(tl.int32, bitcast=True) >> 23).to(tl.uint8)
    else:
        return scale


@triton.jit
def mx_groups(y, ROWS: tl.constexpr, COLS: tl.constexpr, MAX: tl.constexpr):
    """fp32 [ROWS, COLS] -> values within MAX [ROWS, COLS], e8m0 exponents uint8 [ROWS, COLS / 32], rounded up."""
    groups = tl.reshape(y, (ROWS, COLS // 32, 32))
    # 2^-120: groups of zeros get a scale that is still a normal number.
    most = _most_bits(groups)
    scale = _up_to_power_of_two(tl.maximum(most.to(tl.float32, bitcast=True) / MAX, 7.52316384526264e-37))
    q = groups * _inverse(scale)[:, :, None]
    exponent = tl.where(most < 0x7F800000, scale.to(tl.int32, bitcast=True) >> 23, 255)
    return tl.reshape(q, (ROWS, COLS)), exponent.to(tl.uint8)


@triton.jit
def fp4_encode(y, ROWS: tl.constexpr, COLS: tl.constexpr):
    """fp32 [ROWS, COLS] within 6 -> e2m1 packed uint8 [ROWS, COLS / 2], low nibble first, ties to even."""
    a = tl.abs(y)
    code = (a > 0.25).to(tl.int32) + (a >= 0.75) + (a > 1.25) + (a >= 1.75) + (a > 2.5) + (a >= 3.5) + (a > 5.0)
    code = code | tl.where(y < 0, 8, 0)
    low, high = tl.split(tl.reshape(code, (ROWS, COLS // 2, 2)))
    return (low | (high << 4)).to(tl.uint8)


@triton.jit
def fp4_decode(packed, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Packed uint8 [ROWS, COLS / 2] -> fp32 [ROWS, COLS]."""
    wide = packed.to(tl.int32)
    nibble = tl.reshape(tl.join(wide & 15, wide >> 4), (ROWS, COLS))
    exponent = (nibble >> 1) & 3
    normal = ((exponent + 126) << 23) | ((nibble & 1) << 22)
    tiny = (nibble & 1) * 0x3F000000  # exponent 0 holds 0 and 0.5
    bits = tl.where(exponent > 0, normal, tiny) | ((nibble & 8) << 28)
    return bits.to(tl.float32, bitcast=True)


@triton.jit
def e8m0_broadcast(scale, ROWS: tl.constexpr, COLS: tl.constexpr):
    """e8m0 uint8 [ROWS, COLS / 32] -> its powers of two, fp32 [ROWS, COLS].

    255, which is NaN, becomes inf: what it multiplies is not finite either, and a select costs 4 to 8 % of the loop.
    """
    power = (scale.to(tl.int32) << 23).to(tl.float32, bitcast=True)
    return tl.reshape(tl.broadcast_to(power[:, :, None], (ROWS, COLS // 32, 32)), (ROWS, COLS))


@triton.jit
def hadamard(x, ROWS: tl.constexpr, COLS: tl.constexpr):
    """Walsh-Hadamard transform of each row (natural order), unscaled; COLS is a power of two."""
    half: tl.constexpr = COLS // 2
    for _ in tl.static_range(COLS.bit_length() - 1):
        # Butterfly on the last index bit; the join puts it first, so that every bit has its turn.
        low, high = tl.split(tl.reshape(x, (ROWS, half, 2)))
        x = tl.reshape(tl.permute(tl.join(low + high, low - high), (0, 2, 1)), (ROWS, COLS))
    return x


def scale_dtype(ue8m0: bool) -> torch.dtype:
    """Dtype of the scales of a group of FP8 values: uint8 for e8m0 bytes, else fp32."""
    return torch.uint8 if ue8m0 else torch.float32


def decode_fp8(q: Tensor, scale: Tensor, group: int) -> tuple[Tensor, Tensor]:
    """float64 values of quantised `q` [.., cols], and of its scales [.., cols / group], fp32 or e8m0 bytes."""
    powers = scale_powers(scale)
    return q.double() * powers.repeat_interleave(group, -1), powers


def is_e8m0(dtype: torch.dtype) -> bool:
    """True if scales of this dtype are e8m0 bytes."""
    return dtype in E8M0


def scale_bytes(scale: Tensor) -> Tensor:
    """Return fp32 scales as they are, e8m0 ones as uint8, which is what Triton takes."""
    return scale.view(torch.uint8) if is_e8m0(scale.dtype) else scale


def scale_powers(scale: Tensor) -> Tensor:
    """float64 values of scales, fp32 or e8m0."""
    return e8m0_powers(scale_bytes(scale)) if is_e8m0(scale.dtype) else scale.double()


def bytes_of_scale(ue8m0: bool) -> int:
    """Bytes of one scale."""
    return 1 if ue8m0 else 4


def expect_fp8(name: str, y: Tensor, relative: float, group: int, dtype: str, ue8m0: bool) -> tuple[Expected, Expected]:
    """Expected value and scale of quantised float64 `y` [rows, cols]; the kernel's fp32 values err by `relative`."""
    return expect_fp8_within(name, y, y.abs() * relative, group, dtype, ue8m0)


def expect_fp8_within(
    name: str, y: Tensor, error: Tensor, group: int, dtype: str, ue8m0: bool
) -> tuple[Expected, Expected]:
    """Like `expect_fp8`, with the kernel's error given by element."""
    y = _whole_groups(y, group)
    groups = y.unflatten(-1, (-1, group))
    amax = groups.abs().amax(-1).clamp_min(AMAX_FLOOR)
    slack = error.unflatten(-1, (-1, group)).amax(-1) + amax * 2.0**-22
    exact = amax / FP8_MAX[dtype]
    scale, scale_bound = exact, slack / FP8_MAX[dtype]
    if ue8m0:
        exponent, low, high = _exponents(amax, slack, FP8_MAX[dtype])
        scale = torch.exp2(exponent)
        scale_bound = torch.maximum(torch.exp2(high) - scale, scale - torch.exp2(low))
    # e4m3 has 3 mantissa bits: half an ulp is 2^-4 of the value, or half the smallest subnormal times the scale.
    step = 2.0**-10 if dtype == "e4m3fn" else 2.0**-11
    wide = (scale + scale_bound).repeat_interleave(group, -1)
    return Expected(name, y, y.abs() * 2.0**-4 + 1.1 * error + step * wide), Expected(
        f"{name} scale", scale, scale_bound
    )


def expect_mx(name: str, y: Tensor, error: Tensor, kind: str) -> tuple[Expected, Expected]:
    """1x32 groups with e8m0 scales; `kind` is e2m1, e4m3fn or e4m3fnuz. Values, then exponents as `e8m0_exponents`.

    Scales are compared by their exponents: 2^-120 and 2^-127 would be equal beside what may underflow.
    """
    y = _whole_groups(y, 32)
    groups = y.unflatten(-1, (-1, 32))
    amax = groups.abs().amax(-1)
    # Largest value, half an ulp of a normal number, half the smallest subnormal.
    most, half_ulp, step = {
        "e2m1": (6.0, 2.0**-2, 0.25),
        "e4m3fn": (448.0, 2.0**-4, 2.0**-10),
        "e4m3fnuz": (240.0, 2.0**-4, 2.0**-11),
    }[kind]
    slack = error.unflatten(-1, (-1, 32)).amax(-1) + amax * 2.0**-22
    exponent, low, high = _exponents(amax.clamp_min(most * 2.0**-120), slack, most)
    wide = torch.exp2(high).repeat_interleave(32, -1)
    return Expected(name, y, y.abs() * half_ulp + 1.1 * error + step * wide), Expected(
        f"{name} exponent", exponent, torch.maximum(high - exponent, exponent - low)
    )


def _whole_groups(y: Tensor, group: int) -> Tensor:
    """`y` with NaN everywhere in groups that hold NaN or an infinity."""
    whole = y.unflatten(-1, (-1, group)).isfinite().all(-1, keepdim=True)
    return torch.where(whole, y.unflatten(-1, (-1, group)), torch.nan).flatten(-2)


def _exponents(amax: Tensor, slack: Tensor, most: float) -> tuple[Tensor, Tensor, Tensor]:
    """Exponent of the least power of two that brings `amax` within `most`; the least and the largest that are right.

    Within the kernel's error `slack` of a power of two, either neighbour is.
    """

    def up(x: Tensor) -> Tensor:
        return torch.ceil(torch.log2(x))

    return up(amax / most), up((amax - slack).clamp_min(1e-300) / most), up((amax + slack) / most)


def decode_fp4(packed: Tensor) -> Tensor:
    """float64 values of packed e2m1, low nibble first: [..., n] uint8 -> [..., 2 n]."""
    nibbles = torch.stack((packed & 15, packed >> 4), -1).flatten(-2).long()
    return torch.tensor(E2M1, dtype=torch.float64, device=packed.device)[nibbles & 7] * torch.where(
        nibbles >= 8, -1.0, 1.0
    )


def decode_e8m0(scale: Tensor, group: int = 32) -> Tensor:
    """float64 powers of two, each repeated over its group: [..., n] uint8 -> [..., n * group]; 255 is NaN."""
    return e8m0_powers(scale).repeat_interleave(group, -1)


def e8m0_powers(scale: Tensor) -> Tensor:
    """float64 powers of two of e8m0 bytes; 255 is NaN."""
    return torch.where(scale == 255, torch.nan, torch.exp2(scale.double() - 127))


def e8m0_exponents(scale: Tensor) -> Tensor:
    """float64 exponents of the powers of two of e8m0 bytes; 255 is NaN."""
    return torch.where(scale == 255, torch.nan, scale.double() - 127)


def hadamard_matrix(size: int, device: torch.device) -> Tensor:
    """Sylvester's matrix of +-1, float64 [size, size]."""
    matrix = torch.ones(1, 1, dtype=torch.float64, device=device)
    while matrix.shape[0] < size:
        matrix = torch.cat((torch.cat((matrix, matrix), 1), torch.cat((matrix, -matrix), 1)))
    return matrix
