"""Finds kernels: those of this package, those that installed packages announce, and those that an argument names.

Only an argument of the user's or an installed entry point makes a file known, never a name in a table, journal or
search space. Worker processes are told what is known here (`named_here`, `know`).
"""

from __future__ import annotations

import ast
import importlib.util
import re
import traceback
from collections.abc import Iterable
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from autotune import packages
from autotune.errors import AutotuneError, KernelError, UsageError, did_you_mean
from autotune.origin import KERNELS, Origin, of_file

if TYPE_CHECKING:
    from autotune.kernel import Kernel

__all__ = [
    "GROUP",
    "KERNELS",
    "check",
    "check_file",
    "know",
    "load",
    "load_all",
    "named",
    "named_here",
    "names",
    "origin_of",
]

GROUP = "autotune.kernels"
"""Entry points of installed packages in this group name a package whose folder holds kernels."""

_NAME = re.compile(r"[A-Za-z_][\w.-]*/[A-Za-z_]\w*")

_named: dict[str, Origin] = {}
"""Kernels outside this package that arguments made known in this process, by name."""


def names() -> list[str]:
    """Names of all kernels that are known here, sorted: `family/kernel` each."""
    shipped = (f"{path.parent.name}/{path.stem}" for path in KERNELS.glob("*/*.py") if not path.stem.startswith("_"))
    return sorted({*shipped, *_announced(), *_named})


def check(name: str) -> None:
    """Raises UsageError unless there is a kernel `name`. Imports nothing, where `load` imports Torch and Triton."""
    origin_of(name)


def check_file(name: str) -> None:
    """Raises KernelError where the file of the kernel `name` is no Python that can be read. Runs nothing of it."""
    origin = origin_of(name)
    try:
        ast.parse(origin.path.read_bytes(), str(origin.path))
    except (OSError, SyntaxError, ValueError, RecursionError) as error:
        raise _failure(error, origin) from error


def named(argument: str) -> tuple[str, ...]:
    """Return the names of the kernels that `argument` of a command means, which are known from now on.

    It is a name, a path to a Python file, a folder with such files, or `package.module:launcher`. Imports nothing but
    the packages that a module lies in. Raises UsageError.
    """
    if _known(argument):
        return (argument,)
    path = Path(argument)
    if ":" in argument and not path.exists():
        return know([_of_module(*argument.rsplit(":", 1))])
    if path.is_dir():
        return know(map(of_file, _files(path)))
    path = path if path.suffix == ".py" else path.with_name(f"{path.name}.py")
    if path.is_file():
        return know([of_file(path)])
    if argument.endswith((".py", "/")):
        raise UsageError(f"{argument}: no such file or folder; `autotune new {argument}` begins a kernel there")
    raise UsageError(_unknown(argument))


def know(origins: Iterable[Origin]) -> tuple[str, ...]:
    """Make kernels known in this process and return their names. Raises UsageError where a name is another's."""
    known = []
    for origin in origins:
        if not _NAME.fullmatch(origin.name):
            raise UsageError(
                f"{origin.path}: its name would be {origin.name!r}; letters, digits and _ make the name of a file, "
                "and of its folder also - and ."
            )
        other = _known(origin.name)
        if other is not None and other != origin:
            raise UsageError(f"two kernels are called {origin.name}: {other.path} and {origin.path}; rename a folder")
        if other is None:
            _check_op(origin)
            _named[origin.name] = origin
        known.append(origin.name)
    return tuple(known)


def _check_op(origin: Origin) -> None:
    """Raise UsageError where a kernel of another name would be the same op of torch: own/a_b and own_a/b."""
    for name in names():
        other = _known(name)
        if other is not None and other.op_name == origin.op_name:
            raise UsageError(
                f"{origin.path}: {origin.name} and {name} would both be torch.ops.autotune.{origin.op_name}; "
                "rename a file or a folder"
            )


def named_here() -> tuple[Origin, ...]:
    """Return what `know` was told in this process, so that another one can be told it too."""
    return tuple(_named.values())


def origin_of(name: str) -> Origin:
    """Return the origin of a kernel. Raises UsageError for an unknown name."""
    origin = _known(name)
    if origin is None:
        raise UsageError(_unknown(name))
    return origin


def load(name: str) -> Kernel[Any]:
    """The kernel `family/kernel`.

    Raises UsageError for an unknown name, KernelError for a file that is no kernel, PackageError where torch or Triton
    is not installed.
    """
    origin = origin_of(name)
    packages.require_launchers()
    try:
        module = origin.module()
    except (Exception, SystemExit) as error:  # a kernel's file may raise anything
        raise _failure(error, origin) from error
    from autotune.kernel import Kernel

    kernel = getattr(module, origin.function, None)
    if not isinstance(kernel, Kernel):
        made = sorted(key for key, value in vars(module).items() if isinstance(value, Kernel))
        there = f"it makes {', '.join(made)}" if made else "it makes none"
        raise KernelError(
            f"{origin.path}: no launcher {origin.function!r} under @tunable ({there}); give the launcher the name of "
            "the file, or the file a name that begins with _ if it holds no kernel"
        )
    return kernel


def load_all(names: Iterable[str]) -> tuple[list[Kernel[Any]], list[AutotuneError]]:
    """Load each kernel, and return those that are sound, with what is wrong with the others. Raises PackageError."""
    packages.require_launchers()
    sound: list[Kernel[Any]] = []
    errors: list[AutotuneError] = []
    for name in names:
        try:
            sound.append(load(name))
        except (KernelError, UsageError) as error:
            errors.append(error)
    return sound, errors


def _unknown(name: str) -> str:
    return f"unknown kernel {name!r}{did_you_mean(name, names())}; one of your own is named by its file or folder"


def _known(name: str) -> Origin | None:
    if _is_shipped(name):
        return of_file(KERNELS / f"{name}.py")
    return _named.get(name) or _announced().get(name)


def _is_shipped(name: str) -> bool:
    """True for a kernel of this package; asks for one file, as walking all of them costs 8 ms, at every `load`."""
    family, _, stem = name.partition("/")
    is_public = family.isidentifier() and stem.isidentifier() and not stem.startswith("_")
    return is_public and (KERNELS / family / f"{stem}.py").is_file()


@cache
def _announced() -> dict[str, Origin]:
    """Kernels of the folders that installed packages announce, by name; a name that this package has is not taken."""
    origins: dict[str, Origin] = {}
    for entry in metadata.entry_points(group=GROUP):
        for folder in _folders(entry.value):
            for origin in map(of_file, _public(folder)):
                if not _is_shipped(origin.name) and _NAME.fullmatch(origin.name):
                    origins.setdefault(origin.name, origin)
    return origins


def _folders(package: str) -> list[Path]:
    """Return the folders of an installed package; none where it cannot be found, which is its packager's to mend."""
    try:
        spec = importlib.util.find_spec(package)
    except Exception:  # importing the packages around it runs their code
        return []
    return [Path(folder) for folder in (spec.submodule_search_locations or ())] if spec else []


def _public(folder: Path) -> list[Path]:
    return sorted(path for path in folder.glob("*.py") if not path.stem.startswith("_"))


def _files(folder: Path) -> list[Path]:
    """The files of kernels in `folder`, or where it has none, in the folders inside it. Raises UsageError."""
    files = _public(folder) or [path for inner in sorted(folder.iterdir()) if inner.is_dir() for path in _public(inner)]
    if not files:
        raise UsageError(f"{folder}: no Python file of a kernel is there; `autotune new {folder}/NAME` begins one")
    return files


def _of_module(module: str, function: str) -> Origin:
    """The origin that `package.module:launcher` names. Raises UsageError."""
    try:
        spec = importlib.util.find_spec(module)
    except Exception as error:  # importing the packages around it runs their code
        raise UsageError(f"{module}: cannot be found ({_words(error)})") from error
    if spec is None or not spec.origin or not spec.origin.endswith(".py"):
        raise UsageError(f"{module}: no such module here; install its package, or name the file by its path")
    return Origin(Path(spec.origin).resolve(), function)


def _failure(error: BaseException, origin: Origin) -> KernelError:
    if isinstance(error, AutotuneError):
        return KernelError(f"{_place(error, origin)}: {error}")
    return KernelError(f"{_place(error, origin)}: {_words(error)}; mend the file")


def _place(error: BaseException, origin: Origin) -> str:
    """File and line at fault: of a syntax error, else the deepest line of the kernel's folder, else the file."""
    if isinstance(error, SyntaxError) and error.filename:
        return f"{error.filename}:{error.lineno}"
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if _is_beside(frame.filename, origin)]
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else str(origin.path)


def _is_beside(file: str, origin: Origin) -> bool:
    return Path(file).resolve().parent == origin.path.parent


def _words(error: BaseException) -> str:
    said = error.msg if isinstance(error, SyntaxError) else str(error)
    return f"{type(error).__name__}: {said.strip().splitlines()[0] if said.strip() else 'no message'}"
