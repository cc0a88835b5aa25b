"""A tuned table as the package holds it: rows of one kernel on one device, with where each comes from."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from autotune.config import Config, Key
from autotune.errors import TableError

TIERS = ("measured", "imported", "modeled", "simulated")
"""Where a row comes from, best first; a simulated one is a rehearsal, filed under no real device."""

ANY_ORDER = "any"
"""The order of a config whose kernel adds nothing up."""


@dataclass(frozen=True)
class Row:
    """One problem's config with its provenance. `code` is the hash of the machine code that was proved."""

    problem: Key
    config: Config
    tier: str
    evidence: Mapping[str, Any] = field(hash=False)
    """Times, proof and search of the row by name; put together at the first look where a file was read."""
    toolchain: str
    code: str
    serves: tuple[tuple[str, int, int], ...] = ()
    """(field, low, high), ends included: neighbours that the config was chosen and proved for too."""

    @property
    def intervals(self) -> dict[str, tuple[int, int]]:
        """`serves` by field: (low, high), ends included."""
        return {name: (low, high) for name, low, high in self.serves}

    @property
    def rank(self) -> int:
        return TIERS.index(self.tier)

    @property
    def order(self) -> str | None:
        """The order in which its config adds up, as a deterministic session proved; None for a row tuned freely."""
        proved = self.evidence.get("deterministic")
        order = proved.get("order") if isinstance(proved, Mapping) else None
        return order if isinstance(order, str) else None


@dataclass(frozen=True)
class Table:
    """All rows of one kernel on one device."""

    kernel: str
    arch: str
    device: str
    source: str
    """`Identity.kernel` of the kernel that the rows were tuned for."""
    rows: tuple[Row, ...]
    deterministic: bool = False
    """All rows that may serve one another's problems add in one order, proved bit for bit: batches change no row."""
    proof: str = ""
    """`Identity.proof` under which every row was proved; empty where some row never was."""

    @property
    def keeps_an_order(self) -> bool:
        """True if a config of none of its rows may reduce in another order than they do."""
        return self.deterministic and {row.order for row in self.rows} != {ANY_ORDER}

    def merged(self, rows: Iterable[Row]) -> Table:
        """With `rows` put in; a row gives way only to one of its own tier or a better one.

        Raises TableError for a row tuned freely that would join a deterministic table.
        """
        kept = {row.problem: row for row in self.rows}
        for row in rows:
            if self.deterministic and row.order is None:
                raise TableError(
                    f"{self.kernel} on {self.device}: the table is deterministic, a {row.tier} row of "
                    f"{dict(row.problem)} is not; tune it with --deterministic, or name other tables"
                )
            if row.problem not in kept or row.rank <= kept[row.problem].rank:
                kept[row.problem] = row
        return replace(self, rows=tuple(kept.values()))
