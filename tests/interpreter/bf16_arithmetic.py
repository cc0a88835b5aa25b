"""Dots and elementwise operations of the interpreter in bf16, and its conversions to FP8, against torch's.

As a script: prints as JSON how many the interpreter gets wrong as Triton brings it, without the corrections.
"""

import json

import numpy as np
import torch
import triton
import triton.language as tl
from triton.runtime.errors import InterpreterError

from autotune.tuning.interpreter import corrections


@triton.jit
def dot(a_ptr, b_ptr, c_ptr, N: tl.constexpr):
    i = tl.arange(0, N)
    offs = tl.program_id(0) * N * N + i[:, None] * N + i[None, :]
    tl.store(c_ptr + offs, tl.dot(tl.load(a_ptr + offs), tl.load(b_ptr + offs)))


@triton.jit
def elementwise(x_ptr, y_ptr, out_ptr, N: tl.constexpr, OP: tl.constexpr):
    offs = tl.program_id(0) * N + tl.arange(0, N)
    x, y = tl.load(x_ptr + offs), tl.load(y_ptr + offs)
    if OP == "add":
        z = x + y
    elif OP == "sub":
        z = x - y
    elif OP == "mul":
        z = x * y
    elif OP == "neg":
        z = -x
    elif OP == "abs":
        z = tl.abs(x)
    elif OP == "max":
        z = tl.maximum(x, y)
    elif OP == "min":
        z = tl.minimum(x, y)
    elif OP == "less":
        z = tl.where(x < y, x, y)
    elif OP == "scaled":
        z = (x.to(tl.float32) * 3.0).to(tl.bfloat16)
    else:
        z = x + 1.5
    tl.store(out_ptr + offs, z)


TORCH = {
    "add": torch.add,
    "sub": torch.sub,
    "mul": torch.mul,
    "neg": lambda x, y: -x,
    "abs": lambda x, y: x.abs(),
    "max": torch.maximum,
    "min": torch.minimum,
    "less": lambda x, y: torch.where(x < y, x, y),
    "scaled": lambda x, y: (x.float() * 3.0).bfloat16(),
    "constant": lambda x, y: x + 1.5,
}


def draw(generator, *shape):
    """Normal, heavy-tailed, tiny and mixed magnitudes in turn."""
    x = torch.randn(*shape, generator=generator)
    kind = torch.arange(shape[0]).view(-1, *[1] * (len(shape) - 1)) % 4
    spread = torch.exp2(torch.randint(-12, 12, shape, generator=generator).float())
    x = torch.where(kind == 1, x**3, x)
    x = torch.where(kind == 2, x * 2.0**-30, x)
    return torch.where(kind == 3, x * spread, x).bfloat16()


def dots(count):
    generator, wrong = torch.Generator().manual_seed(0), 0
    for size, share in ((16, count // 2), (32, count - count // 2)):
        a, b = draw(generator, share, size, size), draw(generator, share, size, size)
        c = torch.empty(share, size, size)
        dot[(share,)](a, b, c, N=size)
        exact = a.double() @ b.double()
        bound = size * 2.0**-24 * (a.double().abs() @ b.double().abs())
        wrong += int((~((c - exact).abs() <= bound)).flatten(1).any(1).sum())
    return wrong


def operations(count):
    generator, wrong = torch.Generator().manual_seed(1), 0
    for name, torch_op in TORCH.items():
        share, size = count // len(TORCH), 64
        x, y = draw(generator, share, size), draw(generator, share, size)
        out = torch.empty_like(x)
        try:
            elementwise[(share,)](x, y, out, N=size, OP=name)
        except InterpreterError:  # before Triton 3.9 bf16 constants raise
            wrong += share
            continue
        wrong += int((out.view(torch.int16) != torch_op(x, y).view(torch.int16)).any(1).sum())
    return wrong


def conversions():
    """float32 values that bf16 can hold, and random ones, to every FP8: saturated, else equal bits."""
    patterns = (np.arange(65536, dtype=np.uint32) << 16).view(np.float32)
    random = np.random.default_rng(0).normal(size=20000).astype(np.float32) * 100
    values = np.concatenate([patterns[np.isfinite(patterns)], random])
    wrong = 0
    for kind, torch_kind in corrections._FP8.items():
        most = torch.finfo(torch_kind).max
        want = torch.from_numpy(values).clamp(-most, most).to(torch_kind).view(torch.uint8).numpy()
        wrong += int((corrections.from_float32(values, kind) != want).sum())
        bits = np.arange(256, dtype=np.uint8)
        back = torch.from_numpy(bits).view(torch_kind).float().numpy()
        wrong += int((~np.isclose(corrections.to_float32(bits, kind), back, rtol=0, equal_nan=True)).sum())
    return wrong


if __name__ == "__main__":
    print(json.dumps({"dots": dots(1000), "operations": operations(1000)}))
