"""Measured times of DeepSeek modules, and the kernel calls of our workload that do the same work."""

from __future__ import annotations

import csv
import lzma
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path

from autotune.config import Scalar
from autotune.device import Device
from autotune.errors import UsageError
from autotune.workload import models
from autotune.workload.feed_forward import mixture
from autotune.workload.model import Model
from autotune.workload.rank import GEMM, INDEX_PAGE, LINEAR, Call, Rank
from autotune.workload.scenario import Parallelism, Step

FILE = "deepseek_modules.csv.xz"
_COLUMNS = (
    *("gpu", "module", "engine", "model", "kernel", "gemm_dtype", "heads", "tp", "ep"),
    *("batch", "q_len", "past", "tokens", "us"),
)
MOST_DECODED = 1024
"""Most tokens of a decode row where the file does not say which are: the largest batch of its decode modules."""
LEFT_OUT = {
    "megamoe": "one kernel that also dispatches and combines between ranks; no kernel here communicates",
    "deepep_moe": "its tokens are those of a rank or of all, which the file leaves open",
}
_ATTENTION = ("wqkv_a", "qkv_norm", "wq_b", "qk_prep", "inverse_rope", "wo_a", "wo_b.quant", "wo_b")
_CSA = (*_ATTENTION, "compressor4.", "indexer.", "attention4")
_HCA = (*_ATTENTION, "compressor128.", "attention128")
_DSA = ("wqkv_a", "qkv_norm", "wq_b", "qk_prep", "indexer.", "q_absorb", "attention", "o_absorb", "wo.quant", "wo")
_MOE = ("experts.quant", "router", "align", "w13", "experts.act", "w2", "combine")
OPS = {
    "csa_generation": _CSA,
    "csa_context": _CSA,
    "hca_generation": _HCA,
    "hca_context": _HCA,
    "dsa_generation": _DSA,
    "dsa_context": _DSA,
    "hca_attn": ("attention128",),
    "moe": _MOE,
}
"""Operations of our workload by module; a name that ends in a dot stands for all that begin with it."""
KERNELS = ("paged_mqa_logits", "mhc_pre", "mhc_post")
"""Modules that are one kernel alone."""
_NAMES = {"V4-Pro": "deepseek-v4-pro", "V4-Flash": "deepseek-v4-flash", "V3.2": "deepseek-v3.2"}


@dataclass(frozen=True)
class Shape:
    """All of a row that its work depends on."""

    module: str
    model: str
    gemm_dtype: str
    heads: int
    """Attention heads of this rank; 0 where the module has none."""
    tp: int
    ep: int
    requests: int
    tokens: int
    context: int
    """Positions that the last token of a request can see."""
    decode: bool
    always_indexes: bool
    """Logits and top-k run also where every entry is chosen, as vLLM's times tell, which do not depend on it. SGLang's
    step up by 85 us at the first longer context of V4-Pro on an H100, TensorRT-LLM's by 30 us on a B200."""


@dataclass(frozen=True)
class Row:
    """A measured time in microseconds, of one layer on one GPU."""

    gpu: str
    engine: str
    kernel: str
    shape: Shape
    us: float


def load(path: Path) -> list[Row]:
    """Read all rows, also those of modules that are left out. Raises UsageError where a column is missing."""
    with lzma.open(path, "rt", newline="") as file:
        reader = csv.DictReader(file)
        if missing := [name for name in _COLUMNS if name not in (reader.fieldnames or ())]:
            raise UsageError(
                f"{path}: lacks the columns {', '.join(missing)}; see the table of data in benchmarks/README"
            )
        return [_row(fields) for fields in reader]


def is_left_out(row: Row) -> bool:
    return row.shape.module not in (*OPS, *KERNELS)


def _row(fields: dict[str, str]) -> Row:
    def number(name: str, otherwise: int = 1) -> int:
        return int(fields[name] or otherwise)

    module, tokens = fields["module"], number("tokens")
    by_length = fields["q_len"] == "1" if fields["q_len"] else tokens <= MOST_DECODED
    decode = module.endswith("_generation") or (by_length and not module.endswith("_context"))
    context = number("q_len") + number("past", 0)
    shape = Shape(
        module, fields["model"], fields["gemm_dtype"], number("heads", 0), number("tp"), number("ep"),
        number("batch"), tokens, context, decode, fields["engine"] == "vllm",
    )  # fmt: skip
    return Row(fields["gpu"], fields["engine"], fields["kernel"], shape, float(fields["us"]))


def calls(shape: Shape, device: Device) -> list[Call]:
    """Return the calls of one layer's module, each with `per_step` launches in it.

    A prefill of several requests counts as one of all their tokens, each of which sees `context` positions.
    """
    rank = _rank(shape, device)
    if shape.module in KERNELS:
        return [_kernel(rank, shape)]
    of_layer = mixture(rank, 0, 1) if shape.module == "moe" else rank.model.calls(rank)
    names = OPS[shape.module]
    chosen = [replace(call, per_step=1) for call in of_layer if _is_named(call.op, names)]
    if shape.always_indexes and "indexer." in names and not any(call.op == "indexer.logits" for call in chosen):
        # The shortest list that is chosen from: logits of a shorter one take no less time.
        longer = replace(shape, context=4 * (rank.model.index_topk + INDEX_PAGE))
        missing = [call for call in _rank(longer, device).model.calls(_rank(longer, device)) if "indexer." in call.op]
        present = {call.op for call in chosen}
        chosen += [replace(call, per_step=1) for call in missing if call.op not in present and "mtp." not in call.op]
    return list(_in_dtype(chosen, rank, shape))


def _rank(shape: Shape, device: Device) -> Rank:
    model = _model(shape)
    ways = model.num_attention_heads // shape.heads if shape.heads else shape.tp
    experts = max(1, shape.tokens // shape.ep)
    if shape.module == "moe" and shape.ep > 1:
        # Fewer tokens than ranks leave a rank fewer choices than one token makes.
        choices = round(shape.tokens * model.num_experts_per_tok / shape.ep / experts)
        model = replace(model, num_experts_per_tok=max(1, choices))
    requests = shape.requests if shape.decode else 1
    step = Step("decode" if shape.decode else "prefill", shape.tokens, experts, requests, shape.context)
    return Rank(model, Parallelism(ways, shape.ep), device, step)


def _kernel(rank: Rank, shape: Shape) -> Call:
    if shape.module != "paged_mqa_logits":  # both sites of a layer
        return rank.call(1, f"hyperconnection/{shape.module}", "hc", 2, tokens=shape.tokens, dim=rank.model.hidden_size)
    keys = max(1, shape.context // 4)
    kernel = "indexer/paged_logits" if shape.decode else "indexer/ragged_logits"
    cached: dict[str, Scalar] = {"pages": -(-keys // INDEX_PAGE)} if shape.decode else {"keys": keys}
    return rank.call(11, kernel, "logits", 1, tokens=shape.tokens, heads=shape.heads, fp4=False, **cached)


@cache
def _model(shape: Shape) -> Model:
    model = models.named(_NAMES[shape.model])
    return replace(model, expert_dtype="fp8") if shape.gemm_dtype == "fp8_block" else model


def _is_named(op: str, names: tuple[str, ...]) -> bool:
    return any(op == name or (name.endswith(".") and op.startswith(name)) for name in names)


def _in_dtype(chosen: list[Call], rank: Rank, shape: Shape) -> Iterator[Call]:
    """Yield the calls with what the module's dtype changes.

    bf16 projections take no quantised rows, so that no scale has a format; modules that take a bf16 hidden state
    quantise it, which in our workload the norm before them does.
    """
    bf16 = shape.gemm_dtype == "bfloat16"
    hidden = rank.model.hidden_size
    if not bf16 and shape.module != "hca_attn" and shape.gemm_dtype == "fp8_block":
        yield rank.quant("input.quant", hidden, 1)
    for call in chosen:
        sizes = {name: size for name, size in call.problem.items() if name != "ue8m0"}
        if not bf16:
            yield call
        elif call.kernel == GEMM:
            yield replace(call, kernel=LINEAR, problem=sizes)
        elif call.kernel == "gemm/fp8_grouped":
            yield replace(call, kernel="gemm/bf16_grouped", problem=sizes)
        elif call.kernel == "rope/inverse_rope":
            yield replace(call, problem=sizes | {"quantised": False})
        elif call.kernel != "quant/fp8_group_quant":
            yield call
