"""Origin of a kernel: a Python file and the launcher in it, in this package or in anybody's folder."""

from __future__ import annotations

import importlib.util
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from types import ModuleType

KERNELS = Path(__file__).parent / "kernels"
SPACES = Path(__file__).parent / "search_spaces"
_SHIPPED = KERNELS.resolve()


@dataclass(frozen=True, order=True)
class Origin:
    """The place where a kernel's code lies; the search space lies beside it, or in `search_spaces/`."""

    path: Path
    """Its Python file, links resolved."""
    function: str
    """Name of the launcher under `@tunable` in that file."""

    @property
    def name(self) -> str:
        """`folder/function`: the same on every machine, wherever the folder lies there."""
        return f"{self.path.parent.name}/{self.function}"

    @property
    def op_name(self) -> str:
        """Name of its op of torch: `family_kernel` of `torch.ops.autotune.family_kernel`."""
        return re.sub(r"\W", "_", self.name)

    @property
    def is_shipped(self) -> bool:
        """True for a kernel of this package, whose space and tables lie in folders of their own."""
        return self.path.is_relative_to(_SHIPPED)

    @property
    def space(self) -> Path:
        """The YAML file of its search space."""
        return SPACES / f"{self.name}.yaml" if self.is_shipped else self.path.with_name(f"{self.function}.yaml")

    def module(self) -> ModuleType:
        """Import the file, under the name that Python has for it. Raises what the file raises."""
        return import_module(_import_path(self.path))


def of_file(path: Path) -> Origin:
    """Return the origin of the kernel that bears its file's name, as all kernels of a folder do."""
    return Origin(path.resolve(), path.stem)


@cache
def _import_path(path: Path) -> str:
    """The name by which programs import the file at `path`, or `folder.file` in a package made for its folder.

    The name is a part of Triton's cache key: binaries of a bundle are found by programs that import the same name.
    """
    if path.is_relative_to(_SHIPPED):
        return ".".join(("autotune", "kernels", *path.relative_to(_SHIPPED).with_suffix("").parts))
    return next(_importable(path), None) or f"{_package(path.parent)}.{path.stem}"


def _importable(path: Path) -> Iterator[str]:
    """Import paths under which Python finds the file at `path` by itself."""
    for folder in sys.path:
        root = Path(folder or ".").resolve()
        if path.is_relative_to(root):
            parts = path.relative_to(root).with_suffix("").parts
            if all(map(str.isidentifier, parts)) and _file_of(".".join(parts)) == path:
                yield ".".join(parts)


def _file_of(module: str) -> Path | None:
    """The file that `import module` would run; None where there is none."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):  # a parent that is no package; a module without a spec, as __main__
        return None
    return Path(spec.origin).resolve() if spec is not None and spec.origin else None


def _package(folder: Path) -> str:
    """The name of a package whose modules are the files of `folder`: the folder's, or one that nothing else has.

    Its files may import one another as in any package: `from ._problem import Rows`. No `__init__.py` is run.
    """
    plain = re.sub(r"\W", "_", folder.name)
    number = 1
    while True:
        name = plain if number == 1 else f"{plain}_{number}"
        module = sys.modules.get(name)
        if module is None and importlib.util.find_spec(name) is None:
            module = sys.modules[name] = ModuleType(name, f"Kernels of {folder}.")
            module.__path__ = [str(folder)]
        if module is not None and list(getattr(module, "__path__", ())) == [str(folder)]:
            return name
        number += 1
