"""What a row keeps of its search beside the winner: tried first where a new compiler makes the winner worse."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from autotune.config import Config, Scalar

_MOST = 3


def finalists(outcomes: Mapping[Config, Mapping[str, Any]], winner: Config) -> list[dict[str, Scalar]]:
    """The next best configs, best first, each of other machine code than those before it and the winner."""
    good = sorted((found["us"], str(config), config) for config, found in outcomes.items() if "us" in found)
    best = {outcomes[winner]["code"]: winner} if winner in outcomes else {}
    for _, _, config in good:
        best.setdefault(outcomes[config]["code"], config)
    return [dict(config) for config in best.values() if config != winner][:_MOST]
