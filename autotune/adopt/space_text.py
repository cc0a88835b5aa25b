"""The search space of an adopted kernel, as YAML: its author's values, or the powers of two around them too."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from autotune.config import Config, Scalar
from autotune.row_check import MOST_THREADS

Problems = Sequence[Mapping[str, Scalar]]

_NVIDIA = ("num_ctas", "maxnreg")
"""Options that AMD's back end does not have."""
_AMD_WARPS = MOST_THREADS // 64
_LIMITS = {"num_warps": (1, 16), "num_stages": (1, 5)}
"""Smallest and largest value to which an option is widened."""


def yaml_text(name: str, configs: Sequence[Config], check: Problems, captured: Problems, *, widen: bool) -> str:
    """Return the file `name.yaml`: what is tuned, the problems of proofs, and those of the captured calls."""
    lists = {part: values_of([config[part] for config in configs], part, widen=widen) for part in configs[0]}
    shared = {part: values for part, values in lists.items() if part not in _NVIDIA}
    warps = lists.get("num_warps", [])
    fitting = sorted({min(int(value), _AMD_WARPS) for value in warps})
    per_arch = {
        "amd": {} if fitting == warps else {"num_warps": fitting},
        "nvidia": {part: values for part, values in lists.items() if part in _NVIDIA},
    }
    more = {vendor: parts for vendor, parts in per_arch.items() if parts}
    title = f"# What may be tuned in {name}.py: the values of its author's configs{', and those around them' * widen}."
    parts = [
        f"{title}\nparams:\n" + "".join(f"  {part}: {_yaml(values)}\n" for part, values in shared.items()),
        "per_arch:\n" + "".join(f"  {vendor}: {_yaml(lists)}\n" for vendor, lists in more.items()) if more else "",
        "check:   # every config must get these right in the interpreter\n" + _rows(check),
        "compile:   # as captured\n" + _rows(captured),
    ]
    return "\n".join(filter(None, parts))


def values_of(author: Sequence[Scalar], name: str, *, widen: bool) -> list[Scalar]:
    """Return the author's values of a parameter; with `widen` also the powers of two from half the smallest to twice
    the largest, and of `num_stages` one less and one more. Tiles stay at 16 or more, where the author's do."""
    values: set[Any] = set(author)
    numbers = [value for value in values if type(value) is int and value > 0]
    if widen and len(numbers) == len(values):
        low, high = min(numbers), max(numbers)
        least, most = _LIMITS.get(name, (16 if low >= 16 else 1, 2 * high))
        if name == "num_stages":
            values |= set(range(max(least, low - 1), min(most, high + 1) + 1))
        elif all(number.bit_count() == 1 for number in numbers):
            around = (1 << power for power in range(high.bit_length() + 1))
            values |= {number for number in around if max(least, low // 2) <= number <= min(most, 2 * high)}
    return sorted(values)


def _rows(problems: Problems) -> str:
    return "".join(f"  - {_yaml(dict(problem))}\n" for problem in problems)


def _yaml(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name}: {_yaml(item)}" for name, item in value.items()) + "}"
    return f'"{value}"' if isinstance(value, str) else str(value)
