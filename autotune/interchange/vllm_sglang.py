"""vLLM's and SGLang's JSON: block-scaled FP8 GEMM and fused MoE, one file a shape and device, one entry a token count.

File names are what the engines' own `get_w8a8_block_fp8_configs` and `get_config_file_name` build. They differ in a
space, in `_down` (SGLang tunes the second expert GEMM apart) and in SGLang's folder `triton_X_Y_Z`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from autotune import device as devices
from autotune import workload
from autotune.config import Scalar
from autotune.device import Device
from autotune.errors import UsageError
from autotune.files import scalars
from autotune.foreign_text import read_loose_json
from autotune.interchange.entries import Entry, Hints, LeftOut, Read, reason_of
from autotune.toolchain import order, recorded_triton
from autotune.workload import Model

DENSE, FP8_EXPERTS, BF16_EXPERTS = "gemm/fp8_block_scaled", "moe/fp8_grouped_gemm", "moe/bf16_grouped_gemm"
BLOCK = 128
"""Both sides of a block of weights that shares a scale, in the files that have a kernel here."""

NAME = re.compile(
    r"(?:E=(?P<e>\d{1,6}),)?N=(?P<n>\d{1,9})(?:,K=(?P<k>\d{1,9}))?,device_name=(?P<device>[^,/]*?)"
    r"(?P<tail>(?:,dtype=(?P<dtype>[a-z0-9_]+?))?(?:,block_shape=\[(?P<block>\d+, ?\d+)\])?)"
    r"(?P<channel>,per_channel_quant=True)?(?P<down>_down)?\.json"
)

OURS = {
    "BLOCK_SIZE_M": "BLOCK_M",
    "BLOCK_SIZE_N": "BLOCK_N",
    "BLOCK_SIZE_K": "BLOCK_K",
    "GROUP_SIZE_M": "GROUP_M",
    **{name: name for name in ("num_warps", "num_stages", "num_ctas", "maxnreg", "waves_per_eu")},
    "matrix_instr_nonkdim": "matrix_instr_nonkdim",
}
KEPT = {"kpack", "SPLIT_K", "USE_TMA", "SWAP_AB", "grf_mode"}
"""Hints to code paths that our kernels do not have; none changes a result."""

_SAYS_NOTHING = re.compile(r"(AMD_Radeon_Graphics|0x[0-9a-fA-F]+|)")
"""Names that drivers give to GPUs that they do not know."""
_VERSION = re.compile(r"\d+(?:\.\d+){1,3}[\w.+-]{0,40}")
_RELEASE = re.compile(r"triton_(\d+)_(\d+)_(\d+)")


@dataclass(frozen=True)
class Shape:
    """Facts that a file name states. `sizes` holds e, n and k where they are given."""

    kernel: str
    device: Device
    sizes: dict[str, int]
    down: bool
    name: str
    """The GPU, as the engine calls it."""


def engine_names(device: Device) -> tuple[str, ...]:
    """Return the engines' names of a device, the usual one first; the driver decides which of them they see."""
    return dict(device.aliases).get("engines", ())


def identity(name: str) -> tuple[int | str, int, int, str, bool]:
    """(E or "", N, K or 0, dtype or "", down) of a file name that `write` made."""
    match = NAME.fullmatch(name)
    assert match is not None, name
    experts = int(match["e"]) if match["e"] else ""
    return experts, int(match["n"]), int(match["k"] or 0), match["dtype"] or "", bool(match["down"])


def read(path: Path, hints: Hints, engine: str) -> Read:
    """The entries of one file. Raises UsageError for a file that is not a table of configs."""
    shape = _shape(_plain(path.name), hints)
    problems = _problems(shape, hints) if isinstance(shape, Shape) else shape
    if isinstance(problems, str):
        return [], [LeftOut(str(path), "", problems)]
    assert isinstance(shape, Shape)
    data = read_loose_json(path)
    if not isinstance(data, dict):
        raise UsageError(f"{path}: must be an object of token counts, got {type(data).__name__}")
    version = data.pop("triton_version", None)
    known = isinstance(version, str) and _VERSION.fullmatch(version)
    toolchain = f"triton {version}" if known else _folder_version(path.parent.name)
    entries: list[Entry] = []
    left: list[LeftOut] = []
    for tokens, config in data.items():
        try:
            fields = _fields(tokens, config)
        except UsageError as error:
            left.append(LeftOut(str(path), tokens[:80], reason_of(error, tokens)))
            continue
        origin = {"from": engine, "file": _plain(path.name), "entry": tokens, "fields": list(fields)}
        origin |= {"name": shape.name, **({"triton_version": version} if known else {})}
        options, kept = _options(fields, shape, engine)
        size = "m" if shape.kernel == DENSE else "tokens"
        names = engine_names(shape.device)
        rank = names.index(shape.name) if shape.name in names else len(names)
        for problem in problems:
            full = {**problem, size: int(tokens)}
            home = (shape.kernel, shape.device.name)
            entries.append(Entry(path, tokens, *home, full, options, kept, origin, (), toolchain, rank))
    return entries, left


def asked(entries: Iterable[Entry]) -> Read:
    """The entries that the engines would ask for, of folders with several releases of Triton.

    SGLang takes the newest release that has a file, whole; and where there is a `_down` file, the second expert GEMM
    follows it at every size.
    """
    entries = list(entries)
    newest: dict[str, tuple[int, ...]] = {}
    tuned_apart = set()
    for entry in entries:
        file = entry.origin["file"]
        newest[file] = max(newest.get(file, ()), release(entry.toolchain))
        if file.endswith("_down.json"):
            tuned_apart.add(file)
    kept, left = [], []
    for entry in entries:
        file = entry.origin["file"]
        down = file.removesuffix(".json") + "_down.json"
        if release(entry.toolchain) < newest[file]:
            latest = ".".join(map(str, newest[file]))
            left.append(entry.left_out(f"Triton {latest} has this file too, and the engine asks the newest first"))
        elif down not in tuned_apart or entry.problem["gathers"]:
            kept.append(entry)
    return kept, list(dict.fromkeys(left))


def clamped(config: dict[str, Any], kernel: str, device: Device, engine: str) -> dict[str, Any]:
    """`config`, in the engine's names, as the engine launches it.

    vLLM takes the smaller of BLOCK_SIZE_K and the scale block for experts (`fused_moe.py`); SGLang the scale block for
    a dense BLOCK_SIZE_K below it on AMD (`get_w8a8_block_fp8_configs`).
    """
    block_k = config.get("BLOCK_SIZE_K")
    above = kernel == FP8_EXPERTS and engine == "vllm"
    below = kernel == DENSE and engine == "sglang" and device.is_amd
    if type(block_k) is int and ((above and block_k > BLOCK) or (below and 0 < block_k < BLOCK)):
        return {**config, "BLOCK_SIZE_K": BLOCK}
    return config


def _fields(tokens: str, config: Any) -> dict[str, Any]:  # noqa: ANN401
    if not re.fullmatch(r"[1-9]\d{0,8}", tokens):
        raise UsageError(f"{tokens}: an entry's name must be a token count")
    fields = scalars(config, tokens)
    if unknown := fields.keys() - OURS.keys() - KEPT:
        raise UsageError(f"{tokens}: unknown field {', '.join(sorted(unknown))}")
    return fields


def _options(fields: dict[str, Any], shape: Shape, engine: str) -> tuple[dict[str, Scalar], dict[str, Any]]:
    """(parameters of our kernel, what is kept to write the entry again)."""
    ours = {**OURS, **({"SPLIT_K": "SPLIT_K"} if shape.kernel == DENSE else {})}
    launched = clamped(fields, shape.kernel, shape.device, engine)
    given = {name: fields[name] for name in fields if launched[name] != fields[name]}
    options = {ours[name]: value for name, value in launched.items() if name in ours}
    return options, {**{name: value for name, value in fields.items() if name not in ours}, **given}


def _plain(name: str) -> str:
    """The file's name unpacked, with its ending in small letters."""
    stem = re.sub(r"(?i)\.(gz|xz|bz2)$", "", name)
    return re.sub(r"(?i)\.json$", ".json", stem)


def _shape(name: str, hints: Hints) -> Shape | str:
    match = NAME.fullmatch(name)
    if match is None:
        return "the file name is not one that the engine's block-FP8 or MoE lookup builds"
    device = _device(match["device"], hints)
    if isinstance(device, str):
        return device
    block = (match["block"] or "").replace(" ", "")
    if match["channel"]:
        return "per-channel scales: no kernel here"
    dtype = "" if match["dtype"] in (None, "bf16", "bfloat16") else match["dtype"]
    formats = {("fp8_w8a8", "128,128"): (DENSE, FP8_EXPERTS), ("", ""): (None, BF16_EXPERTS)}
    dense, experts = formats.get((dtype, block), (None, None))
    kernel = experts if match["e"] else dense
    if kernel is None:
        what = f"{dtype or 'bf16'}" + (f" in blocks of {block}" if block else "")
        return f"{'experts' if match['e'] else 'a dense GEMM'} in {what}: no kernel here"
    if not match["e"] and not match["k"]:
        return "the file name gives no K"
    if match["e"] and match["k"]:
        return "the file name gives E and K: no lookup builds it"
    sizes = {size: int(match[size]) for size in "enk" if match[size]}
    return Shape(kernel, device, sizes, bool(match["down"]), match["device"])


def _device(name: str, hints: Hints) -> Device | str:
    """The GPU of the name; `--device` speaks for a name that says nothing, that is a variant, or whose file was named.

    NVIDIA_A100-SXM-64GB is a variant of a100; NVIDIA_L2 is another GPU than any.
    """
    known = devices.called(name)
    if known is not None:
        return devices.named(known)
    unknown = f"no device record is called {name or '(empty)'!r}"
    if not hints.device:
        return f"{unknown}; say which one it is with --device"
    device = devices.named(hints.device)
    if (name.startswith("NVIDIA") and device.is_amd) or (name.startswith(("AMD", "0x")) and not device.is_amd):
        return f"{unknown}, and {device.name} is of another vendor"
    variant = re.search(rf"(?<![a-z0-9]){re.escape(device.name)}(?![a-z0-9])", name.lower().replace("-", "_"))
    if hints.named or variant or _SAYS_NOTHING.fullmatch(name):
        return device
    return f"{unknown}; name the file itself if its GPU is as {device.name} is"


def _problems(shape: Shape, hints: Hints) -> list[dict[str, Scalar]] | str:
    """The problems that one entry serves, without the token count."""
    dtype: dict[str, Scalar] = {"dtype": shape.device.fp8} if shape.kernel != BF16_EXPERTS else {}
    if shape.kernel == DENSE:
        return [{"n": shape.sizes["n"], "k": shape.sizes["k"], **dtype}]
    if not hints.model:
        return "names neither hidden size nor top-k; say whose it is with --model"
    model = workload.models.named(hints.model)
    inner = shape.sizes["n"]
    topk = _topk(shape.sizes["e"], inner, model)
    if isinstance(topk, str):
        return topk
    same: dict[str, Scalar] = {"topk": topk, "experts": shape.sizes["e"], **dtype}
    w13: dict[str, Scalar] = {"n": 2 * inner, "k": model.hidden_size, "gathers": True, **same}
    w2: dict[str, Scalar] = {"n": model.hidden_size, "k": inner, "gathers": False, **same}
    return [w2] if shape.down else [w13, w2]


def _topk(experts: int, inner: int, model: Model) -> int | str:
    """Experts that a token of `model` takes where a rank holds `experts` of width `inner`; or why it is not the model.

    SGLang runs the shared expert as one more routed expert of every token; earlier releases held up to 16 copies of it
    (`n_share_experts_fusion`), of which a token takes one.
    """
    routed = model.n_routed_experts
    if model.expert_dtype == "fp4":
        return f"the experts of {model.name} are FP4, the file's are not"
    if inner < 1 or model.moe_intermediate_size % inner:
        return f"experts of width {inner} are no split of {model.name}'s {model.moe_intermediate_size}"
    if experts == routed:
        return model.num_experts_per_tok
    if model.n_shared_experts and experts - routed in (1, 2, 4, 8, 16):
        return model.num_experts_per_tok + model.n_shared_experts
    if experts and experts < routed and not routed % experts:
        return (
            f"{experts} of {routed} experts may be a rank's of {model.name} or all of another model's; the name does "
            f"not tell, nor how many of its tokens come to this rank"
        )
    return f"{experts} experts are not {model.name}'s {routed}"


def _folder_version(folder: str) -> str:
    match = _RELEASE.fullmatch(folder)
    return f"triton {'.'.join(match.groups())}" if match else "unknown"


def release(toolchain: str) -> tuple[int, ...]:
    """(3, 10, 0) of `triton 3.10.0`, () of a toolchain that is not known."""
    version = recorded_triton(toolchain)
    return order(version)[:3] if version else ()
