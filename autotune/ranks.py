"""Tables held against those of the other ranks of a job: ranks with other tables run other configs, and say nothing."""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable

_compared: set[str] = set()


def compare(name: str, content: Callable[[], str]) -> None:
    """Log an error where another rank has told another hash of what is called `name`; each name is compared once.

    It goes through the key-value store of the initialized process group, and waits for nobody: a collective could hang
    where ranks look up different kernels. Each rank tells its hash and reads those told so far, so that of two that
    differ the later one finds out. Without torch.distributed nothing happens.
    """
    distributed = sys.modules.get("torch.distributed")
    if name in _compared or distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return
    _compared.add(name)
    rank, size = distributed.get_rank(), distributed.get_world_size()
    store, mine = distributed.distributed_c10d._get_default_store(), content()
    store.set(_place(name, rank), mine)
    others = [other for other in range(size) if other != rank and store.check([_place(name, other)])]
    told = {other: store.get(_place(name, other)).decode() for other in others}
    if differing := {other: theirs for other, theirs in told.items() if theirs != mine}:
        words = ", ".join(f"rank {other} has {theirs}" for other, theirs in differing.items())
        logging.getLogger(__name__).error(
            "%s: rank %d has table %s, but %s; copy one folder of tables to all ranks", name, rank, mine, words
        )


def forget() -> None:
    """Compare every name again."""
    _compared.clear()


def _place(name: str, rank: int) -> str:
    return f"autotune/{name}/{rank}"
