"""The formats by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autotune.errors import UsageError
from autotune.interchange import aiter, aiter_csv, cachefile, engines, t4, triton_cache
from autotune.interchange.foreign import Entry, Hints, Unmapped
from autotune.table import Table
from autotune.tuning.session.trials import Trials

Written = tuple[dict[str, str], list[Unmapped]]
"""Contents by file name, and what is left out."""


@dataclass(frozen=True)
class Format:
    about: str
    read: Callable[[Path, Hints], tuple[list[Entry], list[Unmapped]]]
    write: Callable[[list[Table]], Written]
    """Of the rows of tables."""
    write_trials: Callable[[Iterable[Trials]], Written] | None = None
    """Of all that sessions tried."""


def _not_written(tables: list[Table]) -> Written:
    raise UsageError("aiter-csv names AITER's own prebuilt kernels: nothing here can be written as one; export aiter")


def _no_rows(tables: list[Table]) -> Written:
    raise UsageError("cachefile holds what a session tried, not a table's rows: add --trials")


FORMATS = {
    "vllm": Format("vLLM's JSON", partial(engines.read, engine="vllm"), partial(engines.write, engine="vllm")),
    "sglang": Format("SGLang's JSON", partial(engines.read, engine="sglang"), partial(engines.write, engine="sglang")),
    "aiter": Format("AITER's JSON of Triton GEMMs", aiter.read, aiter.write),
    "aiter-csv": Format("AITER's CSV", aiter_csv.read, _not_written),
    "fla": Format("FLA's config cache", triton_cache.read_fla, triton_cache.write_fla),
    "triton": Format("Triton's *.autotune.json", triton_cache.read_triton, triton_cache.write_triton),
    "t4": Format("Kernel Tuner's T4 results", t4.read, t4.write, t4.write_trials),
    "cachefile": Format("Kernel Tuner's cache files", cachefile.read, _no_rows, cachefile.write),
}
