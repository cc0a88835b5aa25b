"""Top-k and top-p sampling of a row of logits, given uniform numbers: the same token on every run and config (K24).

A row keeps its k largest logits, then the fewest of these whose softmax reaches p; what equals the last kept one is
kept too. Its token is where the running sum of what is kept, in the order of the vocabulary, passes u. Weights are
integers, 2^30 for the largest logit: sums are exact, whatever their order. p is a share of what top-k left, as in
transformers; SGLang's torch sampler takes it of the whole distribution.

Both cuts are found bit by bit: 2^BITS thresholds a pass, 32 / BITS passes each, and a row is read 2 x 32 / BITS + 3
times by one program (docs/experiments.md).

The token is one of the vocabulary for any bits of the arguments. NaN counts as -inf, and -inf is never drawn unless a
row holds nothing else, from which it is drawn evenly. Where +inf is there, it alone is drawn. A temperature that is not
above 0 takes the largest logit; k below 1 counts as 1, p and u outside their ranges as the nearest end, NaN as no limit
(p) and 0 (u).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Rows
from autotune.kernels._rows import row_config


@dataclass(frozen=True)
class Problem(Rows):
    vocab: int

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.logits.shape[0], args.logits.shape[1])

    def inputs(self, seed: int, device: str) -> tuple[Tensor, ...]:
        draw = Draw(seed, device)
        logits = draw.normal((self.rows, self.vocab), torch.float32, 3.0)
        temperature = draw.uniform((self.rows,), 0.5, 1.5).clamp(min=0.5)  # 0 is no temperature, under any distribution
        k = draw.integers((self.rows,), 1, 2 * self.vocab, torch.int32)
        p, u = draw.uniform((self.rows,), 0.0, 1.0), draw.uniform((self.rows,), 0.0, 1.0)
        if device != "meta":
            k[::2] = k[::2] % 40 + 1
            for row in range(self.rows):
                p[row], u[row] = _clear(logits[row], temperature[row], int(k[row]), float(p[row]), float(u[row]))
            p[2::3] = 1.0
        return logits, temperature, k, p, u

    @property
    def flops(self) -> int:
        return 20 * self.rows * self.vocab

    @property
    def bytes_moved(self) -> int:
        return 4 * self.rows * self.vocab


@triton.jit
def _weights(logits_ptr, col, vocab, peak, sharpness):
    """Keys uint32 in the order of the logits, and weights 0 to 2^30; both 0 past the end."""
    inside = col < vocab
    logit = tl.load(logits_ptr + col, mask=inside, other=float("-inf"))
    logit = tl.where(logit == logit, logit, float("-inf"))
    bits = logit.to(tl.int32, bitcast=True)
    key = bits ^ ((bits >> 31) | -2147483648)
    # The largest weighs 2^30 though it be infinite, and whatever it is multiplied by.
    weight = (tl.exp(tl.where(logit == peak, 0.0, (logit - peak) * sharpness)) * 1073741824.0).to(tl.int32)
    return tl.where(inside, key, 0).to(tl.uint32, bitcast=True), tl.where(inside, weight, 0)


@triton.jit
def _threshold(
    logits_ptr, vocab, peak, sharpness, wanted, BLOCK: tl.constexpr, BITS: tl.constexpr, COUNTS: tl.constexpr
):
    """The largest key such that keys from it on count, or weigh, at least `wanted`; and what they do."""
    digit = tl.arange(0, 1 << BITS)
    threshold = tl.full((), 0, dtype=tl.uint32)
    reached = wanted
    # Not unrolled: 32 copies of the loop below took 40 s to compile.
    for step in range(32 // BITS):
        tried = threshold | (digit << (32 - BITS * (step + 1))).to(tl.uint32, bitcast=True)
        sums = tl.zeros((1 << BITS, BLOCK), dtype=tl.int64)
        for start in range(0, vocab, BLOCK):
            col = start + tl.arange(0, BLOCK)
            key, weight = _weights(logits_ptr, col, vocab, peak, sharpness)
            amount = (col < vocab).to(tl.int32) if COUNTS else weight
            sums += tl.where(key[None, :] >= tried[:, None], amount[None, :], 0)
        sums_of_digit = tl.sum(sums, axis=1)
        best = tl.max(tl.where(sums_of_digit >= wanted, digit, 0), axis=0)
        reached = tl.sum(tl.where(digit == best, sums_of_digit, 0), axis=0)
        threshold = tl.max(tl.where(digit == best, tried, 0), axis=0)
    return threshold, reached


@triton.jit(do_not_specialize=["vocab"])
def _top_k_top_p(
    out_ptr, logits_ptr, temperature_ptr, k_ptr, p_ptr, u_ptr, vocab, BLOCK: tl.constexpr, BITS: tl.constexpr
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64)
    logits_ptr += row * vocab
    temperature = tl.load(temperature_ptr + row)
    # Finite and above 0, so that no infinity meets a 0.
    sharpness = tl.where(temperature > 0.0, tl.minimum(tl.maximum(1.0 / temperature, 1e-30), 1e30), 1e30)
    k = tl.maximum(tl.load(k_ptr + row), 1)
    most = tl.full((BLOCK,), float("-inf"), dtype=tl.float32)
    for start in range(0, vocab, BLOCK):
        col = start + tl.arange(0, BLOCK)
        logit = tl.load(logits_ptr + col, mask=col < vocab, other=float("-inf"))
        most = tl.where(logit > most, logit, most)
    peak = tl.max(most, axis=0)
    threshold = tl.full((), 0, dtype=tl.uint32)
    if k < vocab:
        threshold, _ = _threshold(logits_ptr, vocab, peak, sharpness, k.to(tl.int64), BLOCK, BITS, True)
    sums = tl.zeros((BLOCK,), dtype=tl.int64)
    for start in range(0, vocab, BLOCK):
        key, weight = _weights(logits_ptr, start + tl.arange(0, BLOCK), vocab, peak, sharpness)
        sums += tl.where(key >= threshold, weight, 0)
    total = tl.sum(sums, axis=0)
    p = tl.load(p_ptr + row)
    if p < 1.0:
        # At least one, so that the largest logit is kept whatever p is.
        wanted = tl.maximum((total.to(tl.float64) * tl.maximum(p, 0.0).to(tl.float64)).to(tl.int64), 1)
        threshold, total = _threshold(logits_ptr, vocab, peak, sharpness, wanted, BLOCK, BITS, False)
    u = tl.load(u_ptr + row)
    u = tl.where(u > 0.0, tl.minimum(u, 1.0), 0.0).to(tl.float64)
    passed = tl.minimum((total.to(tl.float64) * u).to(tl.int64), total - 1)
    running = tl.full((), 0, dtype=tl.int64)
    token = tl.full((), 2147483647, dtype=tl.int32)
    for start in range(0, vocab, BLOCK):
        col = start + tl.arange(0, BLOCK)
        key, weight = _weights(logits_ptr, col, vocab, peak, sharpness)
        kept = tl.where(key >= threshold, weight, 0).to(tl.int64)
        through = running + tl.cumsum(kept, axis=0)
        token = tl.minimum(token, tl.min(tl.where(through > passed, col, 2147483647), axis=0))
        running += tl.sum(kept, axis=0)
    tl.store(out_ptr + row, token)


def _kept(logits: Tensor, temperature: Tensor, k: int, p: float) -> Tensor:
    """float64 softmax weights [vocab] of what a row keeps, 0 elsewhere; they need not add up to 1."""
    logits = torch.where(logits.isnan(), -torch.inf, logits)
    if not (logits.isfinite() | (logits == -torch.inf)).all() or not logits.isfinite().any():
        weight = (logits == logits.max()).double()
    else:
        weight = torch.softmax(logits.double() / temperature.double(), 0)
    order = torch.argsort(logits, descending=True, stable=True)
    among_k = torch.where(logits >= logits[order[min(k, len(order)) - 1]], weight, 0.0)
    if p >= 1:
        return among_k
    through = among_k[order].cumsum(0)
    last = min(int((through < p * among_k.sum()).sum()), len(order) - 1)
    return torch.where(logits >= logits[order[last]], among_k, 0.0)


def _clear(logits: Tensor, temperature: Tensor, k: int, p: float, u: float) -> tuple[float, float]:
    """p and u moved to the middle of the weights that they fall on, which no rounding of weights can then change."""
    among_k = _kept(logits, temperature, k, 1.0).sort(descending=True).values
    heavy = among_k[_heavy(among_k)]
    last = int(p * len(heavy))
    p = float((heavy[: last + 1].sum() - heavy[last] / 2) / among_k.sum())
    kept = _kept(logits, temperature, k, p)
    chosen = _heavy(kept).nonzero()[:, 0]
    token = int(chosen[int(u * len(chosen))])
    return p, float((kept[: token + 1].sum() - kept[token] / 2) / kept.sum())


def _heavy(weight: Tensor) -> Tensor:
    """Mask of the weights to aim at: a thousandth of all, or half the largest where all are small."""
    return weight > torch.minimum(weight.sum() * 1e-3, weight.max() / 2)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    tokens = []
    for row in range(problem.rows):
        through = _kept(args.logits[row], args.temperature[row], int(args.k[row]), float(args.p[row])).cumsum(0)
        tokens.append(int((through <= float(args.u[row]) * through[-1]).sum()))
    value = torch.tensor(tokens, dtype=torch.float64, device=args.logits.device)
    return (Expected("tokens", value, torch.zeros_like(value)),)


def _default(problem: Problem, device: Device) -> Config:
    return row_config({"BLOCK": 1024 if problem.vocab > 512 else 512, "BITS": 2, "num_warps": 8}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    block, threads = config.size("BLOCK"), config.size("num_warps") * device.warp_size
    sums = block << config.size("BITS")
    if sums > 32 * threads:
        return f"{sums // threads} 64-bit sums a thread do not fit in registers"
    if block < threads:
        return f"{threads} threads for {block} logits leave threads idle"
    if block > 512 and block >= 2 * problem.vocab:
        return f"BLOCK={block} is at least twice the vocabulary of {problem.vocab}"
    return None


def _work(problem: Problem, config: Config, device: Device) -> Work:
    passes = 2 * 32 // config.size("BITS") + 3
    return Work(
        programs=problem.rows,
        flops_per_program=10 * passes * problem.vocab,
        bytes_per_program=4 * passes * problem.vocab,
        unique_bytes=problem.bytes_moved,
        iterations=passes * triton.cdiv(problem.vocab, config.size("BLOCK")),
    )


@tunable(Problem, jit=_top_k_top_p, reference=_reference, default=_default, reject=_reject, work=_work)
def top_k_top_p(
    logits: Tensor, temperature: Tensor, k: Tensor, p: Tensor, u: Tensor, *, config: Config, device: Device
) -> Tensor:
    """logits fp32 [rows, vocab] -> token int32 [rows], drawn from softmax(logits / temperature) cut to top k, then p.

    temperature fp32 [rows], above 0; k int32 [rows], from 1, vocab or more for no limit; p fp32 [rows] in 0 to 1, 1 for
    no limit; u fp32 [rows] in [0, 1). No rows are no launch. Raises UsageError for other dtypes, shapes or strides.
    """
    require("top_k_top_p", logits=(logits, torch.float32, (None, None)))
    rows, vocab = logits.shape
    require(
        "top_k_top_p",
        home=logits,
        temperature=(temperature, torch.float32, (rows,)),
        k=(k, torch.int32, (rows,)),
        p=(p, torch.float32, (rows,)),
        u=(u, torch.float32, (rows,)),
    )
    out = torch.empty((rows,), dtype=torch.int32, device=logits.device)
    launch(_top_k_top_p, (rows,))(out, logits, temperature, k, p, u, vocab, **options(config))
    return out
