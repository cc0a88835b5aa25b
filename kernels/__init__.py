"""Parameterized Triton kernels, one a file, one folder a family; import them as `autotune.kernels`."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from types import ModuleType

from autotune import packages

packages.require_launchers()  # in words, before a kernel's own import fails


class Family(ModuleType):
    """A family folder, whose attributes are its kernels: `norm.rms_norm(...)` is a plain call."""

    def __getattr__(self, name: str) -> object:
        if name.startswith("_") or not any((Path(folder) / f"{name}.py").exists() for folder in self.__path__):
            raise AttributeError(f"{self.__name__} has no kernel {name!r}")
        return getattr(import_module(f"{self.__name__}.{name}"), name)

    def __setattr__(self, name: str, value: object) -> None:
        # Python binds an imported file to its folder: the kernel takes its place.
        super().__setattr__(name, getattr(value, name, value) if isinstance(value, ModuleType) else value)

    def __dir__(self) -> list[str]:
        kernels = {path.stem for folder in self.__path__ for path in Path(folder).glob("[!_]*.py")}
        return sorted({*super().__dir__(), *kernels})


for _folder in Path(__file__).parent.iterdir():
    if _folder.is_dir() and _folder.name.isidentifier() and not _folder.name.startswith("_"):
        import_module(f"{__name__}.{_folder.name}").__class__ = Family
