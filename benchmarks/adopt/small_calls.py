"""Small calls of other packages' operations, forward and backward, for the exam: on CPU tensors in the interpreter.

    TRITON_INTERPRET=1 PYTHONPATH=site:. python -m benchmarks.adopt.small_calls calls.json

Each operation is called with two sets of sizes, so that it can be told which sizes belong together. Every call is made
by the package's own launcher; what it asks of CUDA (the number of multiprocessors) is answered by a stand-in.
"""

from __future__ import annotations

import argparse
import importlib
import sys
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
from torch import Tensor

import autotune

ROWS = ((4, 96), (7, 128))
"""(rows, columns) of the operations over rows."""

Operation = Callable[[int, int], Any]
"""(rows, columns) -> outputs, some of which need gradients."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("calls", type=Path, help="file of captured calls to write")
    parser.add_argument("packages", nargs="*", default=sorted(_OPERATIONS), help="of liger and fla (default: both)")
    given = parser.parse_args()
    torch.manual_seed(0)
    properties = SimpleNamespace(multi_processor_count=4, name="stand-in", major=9, minor=0)
    operations = [operation for package in given.packages for operation in _OPERATIONS[package]()]
    with autotune.capture(given.calls), mock.patch.object(torch.cuda, "get_device_properties", lambda *_: properties):
        for name, operation in operations:
            for rows, columns in ROWS:
                try:
                    _with_gradients(operation(rows, columns))
                except Exception as error:  # anybody's operation may raise anything on a CPU
                    print(f"{name}: not called: {type(error).__name__}: {error}"[:160], file=sys.stderr)
                    break


def _liger() -> Iterator[tuple[str, Operation]]:
    def of(module: str, name: str) -> Any:  # noqa: ANN401
        return getattr(importlib.import_module(f"liger_kernel.ops.{module}"), f"Liger{name}Function").apply

    yield "rms_norm", lambda r, c: of("rms_norm", "RMSNorm")(_x(r, c), _x(c), 1e-6, 0.0, "llama", False)
    yield "layer_norm", lambda r, c: of("layer_norm", "LayerNorm")(_x(r, c), _x(c), _x(c), 1e-6)
    yield "softmax", lambda r, c: of("softmax", "Softmax")(_x(r, c))
    yield "sparsemax", lambda r, c: of("sparsemax", "Sparsemax")(_x(r, c), -1)
    yield "silu_mul", lambda r, c: of("swiglu", "SiLUMul")(_x(r, c), _x(r, c))
    yield "gate_up_silu_mul", lambda r, c: of("swiglu", "FusedGateUpSiLUMul")(_x(r, 2 * c))
    yield "gelu_mul", lambda r, c: of("geglu", "GELUMul")(_x(r, c), _x(r, c))
    yield "relu_squared", lambda r, c: of("relu_squared", "ReLUSquared")(_x(r, c))
    yield "poly_norm", lambda r, c: of("poly_norm", "PolyNorm")(_x(r, c), _x(3), _x(), 1e-6, False)
    yield (
        "group_norm",
        lambda r, c: of("group_norm", "GroupNorm")(_x(r, 8, c), _x(8), _x(8), 8, 4, 1e-6),
    )
    yield (
        "add_rms_norm",
        lambda r, c: of("fused_add_rms_norm", "FusedAddRMSNorm")(_x(r, c), _x(r, c), _x(c), 1e-6),
    )
    yield (
        "cross_entropy",
        lambda r, c: of("cross_entropy", "CrossEntropy")(_x(r, c), torch.randint(c, (r,)), None),
    )
    yield "kl_div", lambda r, c: of("kl_div", "KLDivLoss")(_x(r, c).log_softmax(-1), torch.softmax(_x(r, c), -1))
    yield "jsd", lambda r, c: of("jsd", "JSD")(_x(r, c).log_softmax(-1), _x(r, c).log_softmax(-1))
    yield "tvd", lambda r, c: of("tvd", "TVDLoss")(torch.softmax(_x(r, c), -1), torch.softmax(_x(r, c), -1))
    yield (
        "rope",
        lambda r, c: of("rope", "Rope")(_x(1, 4, r, c), _x(1, 2, r, c), _plain(1, r, c), _plain(1, r, c)),
    )
    yield (
        "qwen2vl_mrope",
        lambda r, c: of("qwen2vl_mrope", "Qwen2VLMRope")(
            _x(1, 4, r, c), _x(1, 2, r, c), _plain(3, 1, r, c), _plain(3, 1, r, c), [c // 8, c // 8, c // 4]
        ),
    )
    yield (
        "llama4_rope",
        lambda r, c: of("llama4_rope", "Llama4Rope")(_x(1, r, 4, c), _x(1, r, 2, c), _complex(r, c // 2)),
    )
    yield "attention_residual", lambda r, c: of("attn_res", "AttnRes")(_x(3, r, c), _x(c), _x(c), 1e-6)


def _fla() -> Iterator[tuple[str, Operation]]:
    def of(module: str, name: str) -> Any:  # noqa: ANN401
        return getattr(importlib.import_module(f"fla.{module}"), name)

    def activation(name: str, tensors: int) -> Operation:
        return lambda r, c: of("modules.activations.ops", name)(*(_x(r, c) for _ in range(tensors)))

    def attention(name: str) -> Operation:
        return lambda r, c: of(_ATTENTIONS[name], name)(*_heads(3, r), **_GATES[name](r))

    for name in ("sigmoid", "logsigmoid", "swish", "elu_p1"):
        yield name, activation(name, 1)
    for name in ("swiglu", "sigmoidglu", "powglu"):
        yield name, activation(name, 2)
    yield "l2norm", lambda r, c: of("modules.norm.l2norm", "l2norm")(_x(r, c))
    yield "fla_layer_norm", lambda r, c: of("modules.norm.layernorm", "layer_norm")(_x(r, c), _x(c), _x(c))
    yield (
        "rms_norm_gated",
        lambda r, c: of("modules.norm.fused_norm_gate", "rms_norm_gated")(_x(r, c), _x(r, c), _x(c), _x(c)),
    )
    yield "fla_rms_norm_group", lambda r, c: of("modules.norm.layernorm_gated", "rmsnorm_fn")(_x(r, c), _x(c), None)
    yield "softmax_fwd", lambda r, c: of("ops.utils.softmax", "softmax_fwd")(_plain(r, c))
    yield "logsumexp_fwd", lambda r, c: of("ops.utils.logsumexp", "logsumexp_fwd")(_plain(r, c))
    yield "mean_pooling", lambda r, c: of("ops.utils", "mean_pooling")(_x(1, 8 * r, 2, c), 8)
    yield "cumsum", lambda r, c: of("ops.utils", "chunk_local_cumsum")(_plain(1, 32 * r, 2), 32)
    yield "cumsum_vector", lambda r, c: of("ops.utils", "chunk_local_cumsum")(_plain(1, 32 * r, 2, c), 32)
    yield "global_cumsum", lambda r, c: of("ops.utils", "chunk_global_cumsum")(_plain(1, 32 * r, 2))
    yield "token_shift", lambda r, c: of("modules.token_shift", "token_shift")(_x(2, r, c))
    yield (
        "rotary",
        lambda r, c: of("modules.rotary", "rotary_embedding")(_x(2, r, 2, c), _plain(r, c // 2), _plain(r, c // 2)),
    )
    yield "hgrn", lambda r, c: of("ops.hgrn", "fused_recurrent_hgrn")(_x(2, r, c), _x(2, r, c))
    yield "hgrn_chunk", lambda r, c: of("ops.hgrn", "chunk_hgrn")(_x(2, r, c), _x(2, r, c))
    for name in _ATTENTIONS:
        yield name, attention(name)


_ATTENTIONS = {
    "chunk_retention": "ops.retention",
    "fused_recurrent_retention": "ops.retention",
    "chunk_linear_attn": "ops.linear_attn",
    "chunk_simple_gla": "ops.simple_gla",
    "fused_recurrent_simple_gla": "ops.simple_gla",
    "chunk_gla": "ops.gla",
    "fused_recurrent_gla": "ops.gla",
    "chunk_gated_delta_rule": "ops.gated_delta_rule",
    "chunk_delta_rule": "ops.delta_rule",
    "parallel_attn": "ops.attn",
}
_GATES: Mapping[str, Callable[[int], dict[str, Tensor]]] = {
    **dict.fromkeys(_ATTENTIONS, lambda rows: {}),
    "chunk_simple_gla": lambda r: {"g": -_plain(1, 16 * r, 2).abs()},
    "fused_recurrent_simple_gla": lambda r: {"g": -_plain(1, 16 * r, 2).abs()},
    "chunk_gla": lambda r: {"g": -_plain(1, 16 * r, 2, 32).abs()},
    "fused_recurrent_gla": lambda r: {"gk": -_plain(1, 16 * r, 2, 32).abs()},
    "chunk_gated_delta_rule": lambda r: {"g": -_plain(1, 16 * r, 2).abs(), "beta": _plain(1, 16 * r, 2).sigmoid()},
    "chunk_delta_rule": lambda r: {"beta": _plain(1, 16 * r, 2).sigmoid()},
}
"""Gates of an attention over 16 tokens a row."""


_OPERATIONS = {"fla": _fla, "liger": _liger}


def _heads(count: int, rows: int) -> list[Tensor]:
    """Queries, keys and values [1, tokens, 2 heads, 32]; keys of norm 1, as the delta rules want them."""
    return [torch.nn.functional.normalize(_plain(1, 16 * rows, 2, 32), dim=-1).requires_grad_() for _ in range(count)]


def _x(*shape: int) -> Tensor:
    return torch.randn(shape, requires_grad=True)


def _plain(*shape: int) -> Tensor:
    return torch.randn(shape)


def _complex(*shape: int) -> Tensor:
    return torch.polar(torch.ones(shape), torch.rand(shape))


def _with_gradients(outputs: Any) -> None:  # noqa: ANN401
    every = outputs if isinstance(outputs, tuple | list) else (outputs,)
    wanted = [value for value in every if isinstance(value, Tensor) and value.requires_grad]
    if wanted:
        torch.autograd.backward(wanted, [torch.randn_like(value) for value in wanted])


if __name__ == "__main__":
    main()
