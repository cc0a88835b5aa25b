"""Which experts a token goes to, and with what weight (K18).

`sqrtsoftplus` (V4): the top k of sqrt(softplus(logit)) + bias, weighted by the scores without the bias, normalised.
`hash` (V4's first layers): experts by a table of token ids, weights from the same scores. `grouped_sigmoid` (V3.2):
sigmoid scores; of 8 groups the 4 with the largest sums of their best two stay, then the top k.

For any bits of the logits the experts exist and are distinct: scores are ranked as integers, in which what was taken is
below -inf. NaN is larger than everything, as in torch.topk, and makes its own token's weights NaN.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import triton
import triton.language as tl
from torch import Tensor

from autotune.config import Config
from autotune.device import Device
from autotune.errors import UsageError
from autotune.inputs import Draw
from autotune.kernel import Arguments, Expected, Work, tunable
from autotune.kernels._launch import launch, options, require
from autotune.kernels._problem import Sizes, at_most, multiple_of, one_of, power_of_two
from autotune.kernels._rows import row_config, row_reject

SCORINGS = ("sqrtsoftplus", "hash", "grouped_sigmoid")
GROUPS, KEPT = 8, 4
SCALE = 2.5


@dataclass(frozen=True)
class Problem(Sizes):
    tokens: int
    experts: int
    topk: int
    scoring: str = "sqrtsoftplus"

    def __post_init__(self) -> None:
        super().__post_init__()
        at_most(self, topk=self.experts)
        one_of(self, scoring=SCORINGS)
        if self.scoring == "grouped_sigmoid":
            power_of_two(self, "experts")
            multiple_of(self, experts=GROUPS)

    @classmethod
    def of(cls, args: Arguments) -> Problem:
        return cls(args.logits.shape[0], args.logits.shape[1], args.topk, args.scoring)

    def inputs(self, seed: int, device: str) -> tuple[Tensor | int | str | float | None, ...]:
        draw = Draw(seed, device)
        logits = draw.normal((self.tokens, self.experts), torch.float32)
        hashed = self.scoring == "hash"
        bias = None if hashed else draw.normal((self.experts,), torch.float32, 0.1)
        ids = draw.integers((self.tokens, self.topk), 0, self.experts, torch.int32) if hashed else None
        if ids is not None and device != "meta":
            ids[0, 0], ids[-1, -1] = -3, self.experts + 2
        return logits, bias, ids, self.topk, self.scoring, SCALE

    @property
    def flops(self) -> int:
        return (8 + 2 * self.topk) * self.tokens * self.experts

    @property
    def bytes_moved(self) -> int:
        return 4 * self.tokens * (self.experts + 2 * self.topk) + 4 * self.experts


@triton.jit
def _score(logit, SIGMOID: tl.constexpr):
    if SIGMOID:
        return tl.sigmoid(logit)
    # softplus = max(x, 0) + log1p(e), e = exp(-|x|); a series where log(1 + e) would lose e's digits.
    e = tl.exp(-tl.abs(logit))
    log1p = tl.where(e < 0.03, e * (1.0 - e * (0.5 - e * 0.33333334)), tl.log(1.0 + e))
    return tl.sqrt(tl.maximum(logit, 0.0) + log1p)


@triton.jit
def _existing(expert, experts):
    return tl.minimum(tl.maximum(expert, 0), experts - 1)


@triton.jit
def _ranks(x):
    """int32 in the order of fp32 x: NaN is the largest integer, and the smallest one is no number's."""
    bits = x.to(tl.int32, bitcast=True)
    return tl.where(x == x, bits ^ ((bits >> 31) & 0x7FFFFFFF), 2147483647)


@triton.jit
def _best_groups(rank, ROWS: tl.constexpr, BLOCK: tl.constexpr):
    """Ranks [ROWS, BLOCK] with the smallest integer outside the 4 groups whose two best choices sum highest."""
    grouped = tl.reshape(rank, (ROWS, 8, BLOCK // 8))
    first = tl.max(grouped, axis=2)
    place = tl.arange(0, BLOCK // 8)[None, None, :]
    best = tl.argmax(grouped, axis=2)[:, :, None]
    second = tl.max(tl.where(place == best, -2147483648, grouped), axis=2)
    # The way back from a rank is the way there; that of NaN is a NaN.
    first = (first ^ ((first >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    second = (second ^ ((second >> 31) & 0x7FFFFFFF)).to(tl.float32, bitcast=True)
    sums = _ranks(first + second)
    group = tl.arange(0, 8)[None, :]
    kept = tl.zeros((ROWS, 8), dtype=tl.int32)
    for _ in tl.static_range(4):
        hit = group == tl.argmax(sums, axis=1)[:, None]
        kept = tl.where(hit, 1, kept)
        sums = tl.where(hit, -2147483648, sums)
    return tl.reshape(tl.where(kept[:, :, None] == 1, grouped, -2147483648), (ROWS, BLOCK))


@triton.jit(do_not_specialize=["tokens"])
def _router(
    weights_ptr, ids_ptr, logits_ptr, bias_ptr, hash_ids_ptr, tokens, experts, scale,
    TOPK: tl.constexpr, SCORING: tl.constexpr, BLOCK: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    in_rows = row < tokens
    total = tl.zeros((ROWS,), dtype=tl.float32)
    if SCORING == "hash":
        for i in tl.static_range(TOPK):
            chosen = _existing(tl.load(hash_ids_ptr + row * TOPK + i, mask=in_rows, other=0), experts)
            total += _score(tl.load(logits_ptr + row * experts + chosen, mask=in_rows, other=0.0), False)
        total = tl.where(total == 0.0, 1.0, total)
        for i in tl.static_range(TOPK):
            expert = _existing(tl.load(hash_ids_ptr + row * TOPK + i, mask=in_rows, other=0), experts)
            weight = _score(tl.load(logits_ptr + row * experts + expert, mask=in_rows, other=0.0), False)
            tl.store(ids_ptr + row * TOPK + i, expert, mask=in_rows)
            tl.store(weights_ptr + row * TOPK + i, weight / total * scale, mask=in_rows)
    else:
        col = tl.arange(0, BLOCK)[None, :]
        inside = col < experts
        logits = tl.load(logits_ptr + row[:, None] * experts + col, mask=in_rows[:, None] & inside, other=0.0)
        score = _score(logits, SCORING == "grouped_sigmoid")
        rank = tl.where(inside, _ranks(score + tl.load(bias_ptr + col, mask=inside, other=0.0)), -2147483648)
        if SCORING == "grouped_sigmoid":
            rank = _best_groups(rank, ROWS, BLOCK)
        rest = rank
        for _ in tl.static_range(TOPK):
            taken = col == tl.argmax(rest, axis=1)[:, None]
            total += tl.sum(tl.where(taken, score, 0.0), axis=1)
            rest = tl.where(taken, -2147483648, rest)
        total = tl.where(total == 0.0, 1.0, total)
        for i in tl.static_range(TOPK):
            best = tl.argmax(rank, axis=1)
            hit = col == best[:, None]
            share = tl.sum(tl.where(hit, score, 0.0), axis=1) / total * scale
            rank = tl.where(hit, -2147483648, rank)
            tl.store(ids_ptr + row * TOPK + i, best, mask=in_rows)
            tl.store(weights_ptr + row * TOPK + i, share, mask=in_rows)


def _reference(problem: Problem, args: Arguments) -> tuple[Expected, ...]:
    wide = args.logits.double()
    score = torch.sigmoid(wide) if args.scoring == "grouped_sigmoid" else torch.nn.functional.softplus(wide).sqrt()
    if args.hash_ids is not None:
        ids = args.hash_ids.long().clamp(0, problem.experts - 1)
    else:
        assert args.bias is not None
        choice = score + args.bias.double()
        if args.scoring == "grouped_sigmoid":
            groups = choice.unflatten(1, (GROUPS, -1))
            kept = _largest(groups.topk(2, 2).values.sum(2), KEPT)
            allowed = torch.zeros_like(groups[:, :, 0], dtype=torch.bool).scatter_(1, kept, True)
            choice = torch.where(allowed[:, :, None], groups, float("-inf")).flatten(1)
        ids = _largest(choice, args.topk)
    chosen = score.gather(1, ids)
    total = chosen.sum(1, keepdim=True)
    value = chosen / torch.where(total == 0, 1.0, total) * args.scale
    # exp, log and root of a few ulps each, of arguments of a few units; a sum of topk, a division, a product.
    # A logit below -87 leaves nothing of exp in fp32, where its root is still 2^-63.
    bound = value * (args.topk + 40) * 2.0**-23 + 2.0**-60
    return (Expected("weights", value, bound), Expected("ids", ids.double(), torch.zeros_like(value)))


def _largest(choice: Tensor, count: int) -> Tensor:
    """Indices of the `count` largest of each row; of equals the first."""
    return choice.sort(dim=1, descending=True, stable=True).indices[:, :count]


def _default(problem: Problem, device: Device) -> Config:
    return row_config({"ROWS": 1, "num_warps": 1 if problem.tokens > 64 else 4}, device)


def _reject(problem: Problem, config: Config, device: Device) -> str | None:
    if problem.scoring == "hash":
        return None
    return row_reject(config.size("ROWS"), triton.next_power_of_2(problem.experts), config, device, 32)


def _work(problem: Problem, config: Config, device: Device) -> Work:
    rows = config.size("ROWS")
    return Work(
        programs=triton.cdiv(problem.tokens, rows),
        flops_per_program=(8 + 2 * problem.topk) * rows * problem.experts,
        bytes_per_program=4 * rows * (problem.experts + 2 * problem.topk) + 4 * problem.experts,
        unique_bytes=problem.bytes_moved,
        iterations=problem.topk,
    )


@tunable(Problem, jit=_router, reference=_reference, default=_default, reject=_reject, work=_work)
def router(
    logits: Tensor,
    bias: Tensor | None,
    hash_ids: Tensor | None,
    topk: int,
    scoring: str = "sqrtsoftplus",
    scale: float = SCALE,
    *,
    config: Config,
    device: Device,
) -> tuple[Tensor, Tensor]:
    """logits fp32 [tokens, experts] -> (weights fp32 [tokens, topk], experts int32 [tokens, topk]), best first.

    bias fp32 [experts], but for `hash`, whose hash_ids int32 [tokens, topk] are the experts; one outside 0 to experts
    counts as the nearest. Weights of finite logits are finite: zeros where all chosen scores are 0. No tokens are no
    launch. Raises UsageError.
    """
    require("router", logits=(logits, torch.float32, (None, None)))
    tokens, experts = logits.shape
    if scoring not in SCORINGS or (scoring == "hash") != (hash_ids is not None) or (hash_ids is None) == (bias is None):
        raise UsageError(
            f"router: scoring must be one of {', '.join(SCORINGS)}, with hash_ids for hash and bias for the others; "
            f"got {scoring!r}, bias {bias is not None}, hash_ids {hash_ids is not None}"
        )
    if bias is not None:
        require("router", home=logits, bias=(bias, torch.float32, (experts,)))
    if hash_ids is not None:
        require("router", home=logits, hash_ids=(hash_ids, torch.int32, (tokens, topk)))
    weights = torch.empty((tokens, topk), dtype=torch.float32, device=logits.device)
    ids = torch.empty((tokens, topk), dtype=torch.int32, device=logits.device)
    launch(_router, (triton.cdiv(tokens, config.size("ROWS")),))(
        weights, ids, logits, bias, hash_ids, tokens, experts, scale,
        TOPK=topk, SCORING=scoring, BLOCK=triton.next_power_of_2(experts), **options(config),
    )  # fmt: skip
    return weights, ids
