"""The formats by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autotune.errors import UsageError
from autotune.interchange import aiter, kernel_tuner_cache, triton_cache
from autotune.interchange import kernel_tuner_t4 as t4
from autotune.interchange import vllm_sglang as engine
from autotune.interchange.entries import Entry, Hints, Unmapped
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
    "vllm": Format("vLLM's JSON", partial(engine.read, engine="vllm"), partial(engine.write, engine="vllm")),
    "sglang": Format("SGLang's JSON", partial(engine.read, engine="sglang"), partial(engine.write, engine="sglang")),
    "aiter": Format("AITER's JSON of Triton GEMMs", aiter.read, aiter.write),
    "aiter-csv": Format("AITER's CSV", aiter.read_csv, _not_written),
    "fla": Format("FLA's config cache", triton_cache.read_fla, triton_cache.write_fla),
    "triton": Format("Triton's *.autotune.json", triton_cache.read_triton, triton_cache.write_triton),
    "t4": Format("Kernel Tuner's T4 results", t4.read, t4.write, t4.write_trials),
    "cachefile": Format("Kernel Tuner's cache files", kernel_tuner_cache.read, _no_rows, kernel_tuner_cache.write),
}
