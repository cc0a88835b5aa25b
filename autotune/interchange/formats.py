"""The formats by name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from autotune.errors import UsageError
from autotune.interchange import aiter, aiter_csv, engines, tuning_results
from autotune.interchange.foreign import Entry, Hints, Unmapped
from autotune.table import Table


@dataclass(frozen=True)
class Format:
    about: str
    read: Callable[[Path, Hints], tuple[list[Entry], list[Unmapped]]]
    write: Callable[[list[Table]], tuple[dict[str, str], list[Unmapped]]]


def _not_written(tables: list[Table]) -> tuple[dict[str, str], list[Unmapped]]:
    raise UsageError("aiter-csv names AITER's own prebuilt kernels: nothing here can be written as one; export aiter")


FORMATS = {
    "vllm": Format("vLLM's JSON", partial(engines.read, engine="vllm"), partial(engines.write, engine="vllm")),
    "sglang": Format("SGLang's JSON", partial(engines.read, engine="sglang"), partial(engines.write, engine="sglang")),
    "aiter": Format("AITER's JSON of Triton GEMMs", aiter.read, aiter.write),
    "aiter-csv": Format("AITER's CSV", aiter_csv.read, _not_written),
    "fla": Format("FLA's config cache", tuning_results.read_fla, tuning_results.write_fla),
    "triton": Format("Triton's *.autotune.json", tuning_results.read_triton, tuning_results.write_triton),
    "t4": Format("Kernel Tuner's T4 results", tuning_results.read_t4, tuning_results.write_t4),
}
