"""The protocol: one JSON request a line in, one JSON answer a line out, in a process of the toolchain under check.

Started by path, so that it runs where this package is not installed: `autotune` is the folder two levels up, and
nothing else of it goes on the path. The first line says `{"ready": ...}`, or `{"unfit": why}` and the process ends.
"""

from __future__ import annotations

import base64
import importlib.util
import json
import os
import resource
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any

_SAMPLES = 50


def main() -> None:
    # What compilers print goes to stderr; only answers go to the old stdout.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)

    def say(answer: dict[str, Any]) -> None:
        print(json.dumps(answer), file=answers, flush=True)

    limit = int(float(sys.argv[1]) * 2**30)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
    try:
        _module("autotune", Path(__file__).parents[1] / "__init__.py")
        say({"ready": _probe()})
    except Exception as error:
        say({"unfit": f"{type(error).__name__}: {error}"})
        return
    actions: dict[str, Callable[..., dict[str, Any]]] = {
        "compile": compile_call,
        "validate": validate_call,
        "check": check_call,
        "time": time_call,
    }
    for line in sys.stdin:
        request = json.loads(line)
        try:
            call = _rebuilt(request)
        except Exception as error:  # the kernel's own file fails, before a compiler is asked
            say({"failed": _brief(error), "unasked": True})
            continue
        try:
            say(actions[request["action"]](*call))
        except Exception as error:  # compilers raise anything; it is the answer
            say({"failed": _brief(error)})


def compile_call(kernel: Any, problem: Any, config: Any, device: Any) -> dict[str, Any]:  # noqa: ANN401
    """Texts, machine code (base64) and launch attributes of each launch, and the processor seconds it took.

    For an NPU the plan of each launch.
    """
    if not device.architecture.is_gpu:
        return _plan_call(kernel, problem, config, device)
    from autotune.toolchain import compilers_for
    from autotune.tuning.compilation.launch import compile_launches

    before = _processor_s()
    binaries = compile_launches(kernel, problem, config, device)
    seconds = _processor_s() - before
    return {
        "binaries": [_plain(binary) for binary in binaries],
        "seconds": seconds,
        "toolchain": compilers_for(device.arch),
    }


def _plan_call(kernel: Any, problem: Any, config: Any, device: Any) -> dict[str, Any]:  # noqa: ANN401
    from autotune.state import state_root
    from autotune.toolchain import triton_version
    from autotune.tuning.compilation.npu.planning import plan_launches
    from autotune.tuning.compilation.npu.tools import managed

    before = _processor_s()
    tools = managed(state_root() / "toolchains", sys.argv[2])
    launches = plan_launches(kernel, problem, config, device, tools)
    return {
        "launches": [launch.as_json() for launch in launches],
        "config": dict(config),
        "seconds": _processor_s() - before,
        "toolchain": f"triton {triton_version()}, {tools.name}",
    }


def validate_call(kernel: Any, problem: Any, config: Any, device: Any) -> dict[str, Any]:  # noqa: ANN401
    """The worst error as a fraction of its bound; the process interprets (TRITON_INTERPRET=1)."""
    from autotune.tuning.validation.validate import validate

    return {"error": validate(kernel, problem, config, device)}


def check_call(kernel: Any, problem: Any, config: Any, device: Any) -> dict[str, Any]:  # noqa: ANN401
    """The worst error as a fraction of its bound, of the machine code that the GPU of this machine runs."""
    meter, job = _on_gpu(kernel, problem, config, device)
    return {"error": meter.check(job)}


def time_call(kernel: Any, problem: Any, config: Any, device: Any) -> dict[str, Any]:  # noqa: ANN401
    """Samples in us on the GPU of this machine, after the output was found right there."""
    meter, job = _on_gpu(kernel, problem, config, device)
    return {"error": meter.check(job), "samples_us": list(meter.time([job], _SAMPLES)[0].samples_us)}


def _on_gpu(kernel: Any, problem: Any, config: Any, device: Any) -> tuple[Any, Any]:  # noqa: ANN401
    """The bench of the first GPU, and the call as one of its jobs."""
    from autotune.config import key
    from autotune.tuning.measurement.gpu import Gpu
    from autotune.tuning.workers.worker import Job

    return Gpu().open(0), Job(kernel.name, key(problem), config, device.name)


def _probe() -> str:
    """The version; fails where this Triton lacks what launch.py builds on."""
    import triton
    from triton.backends import backends
    from triton.runtime.jit import JITFunction

    from autotune.toolchain import remedy
    from autotune.tuning.compilation import launch

    if not (hasattr(JITFunction, "run") and hasattr(launch, "compile_launches")):
        raise ImportError(f"triton {triton.__version__} has no JITFunction.run; {remedy()}")
    if not backends:
        raise ImportError(f"triton {triton.__version__} finds no backend: it was copied there, not installed")
    return str(triton.__version__)


def _rebuilt(request: dict[str, Any]) -> tuple[Any, ...]:
    from autotune import device, registry
    from autotune.config import Config, build
    from autotune.origin import Origin

    (name,) = registry.know([Origin(Path(request["path"]), request["launcher"])])
    if request["devices"]:
        device.give_folder(Path(request["devices"]))
    kernel = registry.load(name)
    problem = build(kernel.problem, request["problem"], request["kernel"])
    return kernel, problem, Config(request["config"]), device.target(request["device"])


def _plain(binary: Any) -> dict[str, Any]:  # noqa: ANN401
    wanted = ("ttir", "ptx", "cubin", "amdgcn", "hsaco")
    found = {name: binary.asm[name] for name in wanted if name in binary.asm}
    metadata = binary.metadata
    return {
        "texts": {name: text for name, text in found.items() if isinstance(text, str)},
        "codes": {name: base64.b64encode(c).decode() for name, c in found.items() if isinstance(c, bytes)},
        "shared": metadata.shared,
        "num_warps": metadata.num_warps,
        "num_ctas": metadata.num_ctas,
        "tmem_size": getattr(metadata, "tmem_size", 0) or 0,
    }


def _processor_s() -> float:
    """Return the CPU seconds of this process and its assemblers, which a busy machine changes little."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in used)


def _module(name: str, path: Path) -> ModuleType:
    places = [str(path.parent)] if path.name == "__init__.py" else None
    spec = importlib.util.spec_from_file_location(name, path, submodule_search_locations=places)
    assert spec and spec.loader, path
    module = sys.modules[name] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _brief(error: Exception) -> str:
    from autotune.tuning.compilation.complaint import LONGEST, complaint, last_line

    text = str(error)
    return f"{type(error).__name__}: {(complaint(text) or last_line(text))[:LONGEST]}"


if __name__ == "__main__":
    main()
