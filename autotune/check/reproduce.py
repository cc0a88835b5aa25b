"""One Python file that shows what a compiler makes of a kernel, and needs only Triton: for its maintainers."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from types import ModuleType
from typing import Any
from unittest import mock

import triton
import triton.language as tl
from triton.runtime import driver
from triton.runtime.jit import JITFunction

from autotune.check.call import CheckedCall
from autotune.errors import UsageError
from autotune.tuning.compilation.launch import StubDriver, meta_inputs, target_of

_SCRIPT = '''"""{about}

Needs only Triton, no GPU:   pip install triton==X.Y.Z && python {name}
"""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter

{imports}
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

{sources}

SIGNATURE = {signature}
CONSTANTS = {constants}
ATTRIBUTES = {attributes}
OPTIONS = {options}
TARGET = GPUTarget({target})
MATRIX = r"\\b(v_s?mfma\\w*|v_s?wmma\\w*|(?:wgmma\\.mma_async|tcgen05\\.mma|mma\\.sync)[.\\w:]*)"


def main():
    binary = triton.compile(ASTSource({function}, SIGNATURE, CONSTANTS, ATTRIBUTES), target=TARGET, options=OPTIONS)
    print("triton", triton.__version__, TARGET, "shared memory", binary.metadata.shared)
    text = binary.asm["amdgcn" if "amdgcn" in binary.asm else "ptx"]
    print(dict(Counter(re.findall(MATRIX, text))))
    if "amdgcn" in binary.asm:
        for field in ("vgpr_count", "agpr_count", "vgpr_spill_count", "sgpr_spill_count", "private_segment_fixed_size"):
            print(field, max(map(int, re.findall(rf"\\.{{field}}:?\\s+(\\d+)", text)), default=0))
        return
    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(binary.asm["cubin"])
        file.flush()
        tool = triton.__path__[0] + "/backends/nvidia/bin/cuobjdump"
        print(subprocess.run([tool, "--dump-resource-usage", file.name], capture_output=True, text=True).stdout)


if __name__ == "__main__":
    main()
'''


@dataclass
class _Seen:
    """The kernel's own launch, or the only one: what Triton would compile."""

    function: Any = None
    options: dict[str, Any] = field(default_factory=dict)
    compile: dict[str, Any] = field(default_factory=dict)


def script(call: CheckedCall, name: str, about: str) -> str:
    """The text of the file. Raises UsageError for a kernel that reads what such a file cannot hold."""
    seen = _own_launch(call)
    imports, constants, functions = _closure(seen.function)
    target = target_of(call.device.arch)
    return _SCRIPT.format(
        about=about.replace("\\", "/").replace('"""', "'''"),
        name=name,
        imports="\n".join(sorted(imports)),
        sources="\n\n\n".join([*constants, *functions]),
        signature=seen.compile["signature"],
        constants="{" + ", ".join(f"{k}: {_literal(v)}" for k, v in seen.compile["constants"].items()) + "}",
        attributes=seen.compile["configs"][0],
        options=seen.options,
        target=f"{target.backend!r}, {target.arch!r}, {target.warp_size}",
        function=seen.function.__name__,
    )


def _own_launch(call: CheckedCall) -> _Seen:
    """Triton's own hook sees signature, constants and alignments, and says that nothing needs to be compiled."""
    seen = _Seen()
    original = JITFunction.run

    def hook(*, fn: Any, compile: dict[str, Any], **_: Any) -> bool:  # noqa: ANN401
        if not seen.compile or fn.jit_function is call.kernel.jit:
            seen.function, seen.compile = fn.jit_function, compile
        return True

    def run(function: JITFunction, *args: Any, grid: Any, warmup: bool, **kwargs: Any) -> None:  # noqa: ANN401
        function.device_caches.clear()
        original(function, *args, grid=grid, warmup=True, **kwargs)
        if seen.function is function:
            names = {param.name for param in function.params}
            seen.options = {name: value for name, value in kwargs.items() if name not in names}

    driver.set_active(StubDriver(target_of(call.device.arch)))
    with mock.patch.object(JITFunction, "run", run), mock.patch.object(triton.knobs.runtime, "jit_cache_hook", hook):
        call.kernel.launch(*meta_inputs(call.problem), config=call.config, device=call.device)
    return seen


def _closure(function: Any) -> tuple[set[str], list[str], list[str]]:  # noqa: ANN401
    """Import lines, global constants and sources of `function` and all that it calls, callees first."""
    found: dict[str, Any] = {}
    imports = {"import triton", "import triton.language as tl"}
    constants: list[str] = []
    functions: list[str] = []

    def visit(one: Any) -> None:  # noqa: ANN401
        for name, value in _globals(one):
            if name in found:
                if found[name] is not value:
                    raise UsageError(f"{function.__name__}: two globals named {name!r} cannot go into one file")
                continue
            found[name] = value
            if isinstance(value, JITFunction):
                visit(value)
            elif isinstance(value, ModuleType) and value.__name__.startswith("triton"):
                imports.add(f"import {value.__name__} as {name}" if "." in value.__name__ else "import triton")
            elif isinstance(value, tl.constexpr | tl.dtype | bool | int | float | str):
                constants.append(f"{name} = {_literal(value)}")
            elif getattr(value, "__module__", "").startswith("triton"):
                imports.add(f"from {value.__module__} import {value.__name__} as {name}")
            else:
                raise UsageError(
                    f"{function.__name__}: global {name!r} of {type(value).__name__} needs more than Triton"
                )
        functions.append(("@triton.jit(noinline=True)\n" if one.noinline else "@triton.jit\n") + one.src.rstrip())

    found[function.__name__] = function
    visit(function)
    return imports, constants, functions


def _globals(function: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    tree = ast.parse(function.src)
    # Annotations are no code: with postponed evaluation nothing in them is looked up.
    body = [node for statement in tree.body[0].body for node in ast.walk(statement)]
    used = [node for node in body if isinstance(node, ast.Name)]
    own = {*function.arg_names, *(node.id for node in used if isinstance(node.ctx, ast.Store))}
    for name in sorted({node.id for node in used} - own):
        if name in function.fn.__globals__:
            yield name, function.fn.__globals__[name]


def _literal(value: Any) -> str:  # noqa: ANN401
    if isinstance(value, tl.constexpr):
        return f"tl.constexpr({_literal(value.value)})"
    return f"tl.dtype({value.name!r})" if isinstance(value, tl.dtype) else repr(value)
