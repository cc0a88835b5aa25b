"""The formats by name."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autotune.errors import UsageError
from autotune.interchange import (
    aiter,
    fla,
    inductor,
    kernel_tuner_cache,
    kernel_tuner_t4,
    triton_cache,
    triton_configs,
    vllm_sglang,
    vllm_sglang_write,
)
from autotune.interchange.entries import Entry, Hints, Read, Written
from autotune.table import Table
from autotune.tuning.search.trials import Trials


def _all(entries: Iterable[Entry]) -> Read:
    return list(entries), []


@dataclass(frozen=True)
class Format:
    about: str
    read: Callable[[Path, Hints], Read]
    write: Callable[[list[Table]], Written]
    """Writer of rows of tables."""
    write_trials: Callable[[Iterable[Trials]], Written] | None = None
    """Writer of all trials of sessions."""
    suffix: str = ".json"
    """How the names of its files end; in a folder, others are passed over."""
    asked: Callable[[Iterable[Entry]], Read] = _all
    """Those of many files' entries that the format's own lookup would come to, and the others with the reason."""


def _not_written(tables: list[Table]) -> Written:
    raise UsageError("aiter-csv names AITER's own prebuilt kernels: nothing here can be written as one; export aiter")


def _no_rows(tables: list[Table]) -> Written:
    raise UsageError("cachefile holds what a session tried, not a table's rows: add --trials")


def _engine(about: str, engine: str) -> Format:
    read, write = partial(vllm_sglang.read, engine=engine), partial(vllm_sglang_write.write, engine=engine)
    return Format(about, read, write, asked=vllm_sglang.asked)


FORMATS = {
    "vllm": _engine("vLLM's JSON", "vllm"),
    "sglang": _engine("SGLang's JSON", "sglang"),
    "aiter": Format("AITER's JSON of Triton GEMMs", aiter.read, aiter.write),
    "aiter-csv": Format("AITER's CSV", aiter.read_csv, _not_written, suffix=".csv"),
    "fla": Format("FLA's config cache", fla.read, fla.write),
    "triton": Format("Triton's cache", triton_cache.read, triton_cache.write, suffix=".autotune.json"),
    "configs": Format("source for @triton.autotune", triton_configs.read, triton_configs.write, suffix=".py"),
    "inductor": Format("torch._inductor's lookup table", inductor.read, inductor.write),
    "t4": Format("Kernel Tuner's T4", kernel_tuner_t4.read, kernel_tuner_t4.write, kernel_tuner_t4.write_trials),
    "cachefile": Format("Kernel Tuner's cache", kernel_tuner_cache.read, _no_rows, kernel_tuner_cache.write),
}
