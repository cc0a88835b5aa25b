"""A kernel built from an edited source, its own or that of a shared module, while the real one stays loaded."""

import importlib
import importlib.util
import re
import shutil
import sys

from autotune import registry
from autotune.origin import SPACES

KERNELS = registry.KERNELS.resolve()


def sources(name):
    """Files that a kernel is made of: its own first, then the shared modules that it imports."""
    path = registry.load(name).path
    return [path, *sorted(_imported(path) - {path})]


def _imported(path):
    found, queue = set(), [path]
    while queue:
        here = queue.pop()
        found.add(here)
        for module in re.findall(r"^from autotune\.kernels\.([\w.]+) import", here.read_text(encoding="utf-8"), re.M):
            there = KERNELS.joinpath(*module.split(".")).with_suffix(".py")
            if there not in found:
                queue.append(there)
    return found


def edited(name, path, source, folder):
    """The kernel `name` with the text of `path` replaced by `source`, written into `folder` for the interpreter."""
    family, stem = name.split("/")
    wanted = f"autotune.kernels.{family}.{stem}"
    closure = [_module(p) for p in sources(name)]
    package = sys.modules[f"autotune.kernels.{family}"]
    saved = {module: sys.modules.pop(module, None) for module in closure}
    attributes = dict(vars(package))
    try:
        copy = folder / path.resolve().relative_to(KERNELS)
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(source, encoding="utf-8")
        if path.stem == stem:  # a kernel outside the package has its search space beside it
            shutil.copy(SPACES / f"{name}.yaml", copy.with_suffix(".yaml"))
        _execute(_module(path), copy)
        return getattr(importlib.import_module(wanted), stem)
    finally:
        sys.modules.update({module: old for module, old in saved.items() if old is not None})
        vars(package).update(attributes)


def _module(path):
    return ".".join(("autotune.kernels", *path.resolve().relative_to(KERNELS).with_suffix("").parts))


def _execute(module_name, path):
    spec = importlib.util.spec_from_file_location(module_name, path)
    module = importlib.util.module_from_spec(spec)
    sys.modules[module_name] = module
    spec.loader.exec_module(module)


def line_of(source, text):
    """The number of the only line that holds `text`."""
    (number,) = [i for i, line in enumerate(source.splitlines(), 1) if text in line]
    return number


def replaced(source, old, new):
    """`source` with the only occurrence of `old` replaced."""
    assert source.count(old) == 1, f"{source.count(old)} occurrences of {old!r}"
    return re.sub(re.escape(old), lambda _: new, source)
