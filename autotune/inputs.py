"""Seeded random tensors for problems' inputs; on the meta device they have shapes and cost nothing.

Routing of tokens to experts is a problem's field: `uniform`, `zipf:1.2` (the exponent), or `captured:` and two hex
digits an expert, its load relative to the heaviest, as `captured` writes them from counts of real traffic.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache

import torch
from torch import Tensor

FP8 = {"e4m3fn": torch.float8_e4m3fn, "e4m3fnuz": torch.float8_e4m3fnuz}

_GROUP = 128
"""Values that are zero together: a scale block of most formats, four of the narrowest."""


class Draw:
    """One generator, seeded once; every method returns a contiguous tensor on `device`, which draws it itself: the
    weights of 384 experts would take a CPU a minute and more memory than a worker may have."""

    def __init__(self, seed: int, device: str) -> None:
        self._device = device
        self._generator = torch.Generator("cpu" if device == "meta" else device).manual_seed(seed)
        self._distribution = _distribution.get()

    def normal(self, shape: tuple[int, ...], dtype: torch.dtype, scale: float = 1.0) -> Tensor:
        """Normal values, or those of the `distribution` that holds; within the finite range of `dtype`."""
        if self._device == "meta":
            return torch.empty(shape, dtype=dtype, device="meta")
        x = torch.randn(shape, generator=self._generator, device=self._device)
        x = DISTRIBUTIONS[self._distribution](x, dtype, self._generator)
        most = torch.finfo(dtype).max
        x.mul_(scale).clamp_(-most, most)
        if self._distribution == "nonfinite":
            _put_nonfinite(x, dtype)
        return x.to(dtype)

    def uniform(self, shape: tuple[int, ...], low: float, high: float) -> Tensor:
        """float32 in [low, high); under `zeros` some are 0, under `constant` all are the middle."""
        if self._device == "meta":
            return torch.empty(shape, device="meta")
        x = self._rand(shape) * (high - low) + low
        if self._distribution == "zeros":
            return torch.where(self._rand(shape) < 0.25, 0.0, x)
        return torch.full_like(x, (low + high) / 2) if self._distribution == "constant" else x

    def integers(self, shape: tuple[int, ...], low: int, high: int, dtype: torch.dtype) -> Tensor:
        """Integers in [low, high)."""
        if self._device == "meta":
            return torch.empty(shape, dtype=dtype, device="meta")
        return torch.randint(low, high, shape, generator=self._generator, dtype=dtype, device=self._device)

    def routes(self, shape: tuple[int, int], shares: Sequence[float]) -> Tensor:
        """int32 [tokens, topk]: distinct experts of each token, drawn by their shares."""
        if self._device == "meta":
            return torch.empty(shape, dtype=torch.int32, device="meta")
        weights = torch.tensor(shares, dtype=torch.float32, device=self._device).expand(shape[0], -1)
        return torch.multinomial(weights, shape[1], generator=self._generator).int()

    def _rand(self, shape: tuple[int, ...]) -> Tensor:
        return torch.rand(shape, generator=self._generator, device=self._device)


@cache
def shares(routing: str, experts: int) -> tuple[float, ...]:
    """Return the share of token slots routed to each expert. Raises ValueError for an unknown form of routing."""
    kind, _, detail = routing.partition(":")
    if routing == "uniform":
        loads = [1.0] * experts
    elif kind == "zipf" and _positive(detail):
        loads = [(rank + 1) ** -float(detail) for rank in range(experts)]
    elif kind == "captured" and len(detail) == 2 * experts and set(detail) <= set("0123456789abcdef"):
        # An expert that was never seen may be drawn, hardly: a token has to find topk distinct ones.
        loads = [max(int(detail[i : i + 2], 16), 1e-3) for i in range(0, len(detail), 2)]
    else:
        raise ValueError(
            f"routing must be uniform, zipf:EXPONENT, or captured: and 2 hex digits for each of {experts} experts, "
            f"got {routing!r}"
        )
    return tuple(load / sum(loads) for load in loads)


def captured(counts: Sequence[int]) -> str:
    """The routing with these counts of tokens an expert, to 1 in 255 of the heaviest. Raises ValueError."""
    heaviest = max(counts, default=0)
    if heaviest < 1 or min(counts) < 0:
        raise ValueError(f"counts must be 0 or more and not all 0, got {list(counts)}")
    return "captured:" + "".join(f"{round(255 * count / heaviest):02x}" for count in counts)


def _positive(text: str) -> bool:
    try:
        return 0 < float(text) < 10
    except ValueError:
        return False


@contextmanager
def distribution(name: str) -> Iterator[None]:
    """Every Draw made inside draws from `name` of DISTRIBUTIONS where a kernel asks for normal values."""
    token = _distribution.set(name)
    try:
        yield
    finally:
        _distribution.reset(token)


def _put_nonfinite(x: Tensor, dtype: torch.dtype) -> None:
    """Put NaN, inf and -inf into one element each of the first rows, if `x` has rows: after all are made finite.

    FP8 has no infinities, and torch saturates them or not from build to build: NaN takes their place.
    """
    if x.ndim > 1:
        rows, most = x.view(-1, x.shape[-1]), torch.nan if dtype.itemsize == 1 else torch.inf
        for row, value in ((0, torch.nan), (2, most), (3, -most)):
            rows[row : row + 1, row : row + 1] = value


def _denormal(x: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    return x * torch.finfo(dtype).smallest_normal / 2


def _huge_range(x: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    return x * torch.exp2(torch.randint(-8, 9, x.shape, generator=generator, device=x.device).float())


def _zeros(x: Tensor, dtype: torch.dtype, generator: torch.Generator) -> Tensor:
    groups = torch.rand(-(-x.numel() // _GROUP), generator=generator, device=x.device) < 0.5
    groups[:1] = True
    return torch.where(groups.repeat_interleave(_GROUP)[: x.numel()].reshape(x.shape), 0.0, x)


DISTRIBUTIONS: Mapping[str, Callable[[Tensor, torch.dtype, torch.Generator], Tensor]] = {
    "normal": lambda x, dtype, generator: x,
    "heavy": lambda x, dtype, generator: x**3,
    "denormal": _denormal,
    "huge_range": _huge_range,
    "constant": lambda x, dtype, generator: torch.full_like(x, 0.75),
    "zeros": _zeros,
    "nonfinite": lambda x, dtype, generator: x,
}
"""Transformations of standard normal values: tails to some 60, the subnormals of a format, 2^-8 to 2^8, one value
everywhere, whole groups of 128 zeros, normal values with NaN and infinities in three of the first rows."""

_distribution: ContextVar[str] = ContextVar("distribution", default="normal")
