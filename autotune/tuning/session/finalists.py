"""What a row keeps of its search beside the winner: tried first where a new compiler makes the winner worse."""

from __future__ import annotations

from autotune.config import Config, Scalar
from autotune.tuning.session.winners import Searched

_MOST = 3


def finalists(one: Searched, winner: Config) -> list[dict[str, Scalar]]:
    """The next best configs, best first, each of other machine code than those before it and the winner."""
    best = {one.outcomes[winner]["code"]: winner} if winner in one.outcomes else {}
    for config in one.good:
        best.setdefault(one.outcomes[config]["code"], config)
    return [dict(config) for config in best.values() if config != winner][:_MOST]
