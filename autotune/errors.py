"""The tree of errors; each message says the place, the rule, what came, and the remedy.

AutotuneError
├── UsageError            a command, argument or call that cannot be meant
├── DeviceError           an unknown device, or none present
├── ToolchainError        the Triton installed here cannot do what was asked; no config is to blame
├── PackageError          a package that was asked for is not installed; also an ImportError
├── KernelError           a Python file that holds no kernel, or cannot be imported
├── SpaceError            a search-space YAML that cannot be read whole
├── TableError            a tuned table that cannot be read whole
├── MachineError          a disk, compiler, driver or process of this machine failed: no config is to blame
└── CandidateFailed       one config failed at one stage; data for the search, never swallowed
    ├── Rejected          ruled out before compiling
    ├── CompileFailed     the compiler refused, crashed or ran out of time, memory or on-chip storage
    └── WrongResult       the output differs from the reference
        └── Defect        a program touches memory that it must not touch
"""

import difflib
import errno
from collections.abc import Iterable
from typing import ClassVar

TROUBLESHOOTING = "docs/troubleshooting.md"


class AutotuneError(Exception):
    """Any error that this package raises on purpose; the command line prints it and exits with 2."""

    section: ClassVar[str] = "commands-and-names"
    """Anchor of the part of the troubleshooting page that explains errors of this class."""

    def __init__(self, *args: object) -> None:
        super().__init__(*args)
        self.add_note(self.help())  # Python shows it below a traceback

    @classmethod
    def help(cls) -> str:
        """Return the line that names the page; the command line prints it below the message."""
        return f"See {TROUBLESHOOTING}#{cls.section}"


class UsageError(AutotuneError):
    pass


class DeviceError(AutotuneError):
    section = "devices"


class ToolchainError(AutotuneError):
    section = "compilers"


class PackageError(AutotuneError, ImportError):
    section = "this-machine"


class KernelError(AutotuneError):
    section = "kernels-of-your-own"


class SpaceError(AutotuneError):
    section = "search-spaces"


class TableError(AutotuneError):
    section = "tables"


class MachineError(AutotuneError):
    """Ends a session, which keeps nothing of it: after the repair the same command tunes as if nothing had been."""

    section = "this-machine"

    @classmethod
    def of(cls, error: OSError, place: object = None) -> "MachineError":
        """`error` with a remedy and its file, or with `place` where it names none, as a write to a full disk does."""
        where = error.filename or place
        said = f"{where}: {error.strerror or error}" if where is not None else str(error.strerror or error)
        return cls(f"{said}; {_remedy(error)}, then run the same command again")


class CandidateFailed(AutotuneError):
    section = "configs-that-fail"
    stage: ClassVar[str] = "candidate"


class Rejected(CandidateFailed):
    stage = "reject"


class CompileFailed(CandidateFailed):
    stage = "compile"


class DoesNotFit(CompileFailed):
    pass


class WrongResult(CandidateFailed):
    stage = "validate"


class Defect(WrongResult):
    """A fault of one program: `place` is file:line of the kernel, `offset` counts elements of the argument."""

    def __init__(self, kind: str, place: str, program: tuple[int, ...], argument: str, offset: int, more: str) -> None:
        self.kind, self.place, self.program, self.argument, self.offset = kind, place, program, argument, offset
        super().__init__(f"{place}: program {program}: {kind}: {argument}[{offset}], {more}")


def told(error: AutotuneError | OSError, about: str = "") -> str:
    """Return what a command prints of an error: `about`, the message, and below it the page that explains it."""
    explained = type(error) if isinstance(error, AutotuneError) else MachineError
    return f"error: {about}{error}\n{explained.help()}"


def _remedy(error: OSError) -> str:
    if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        return "free space there (journals and caches lie under AUTOTUNE_STATE, temporary files under TMPDIR)"
    if error.errno in (errno.EMFILE, errno.ENFILE, errno.EAGAIN, errno.ENOMEM):
        return "end other processes, raise the limit (ulimit), or give fewer --jobs"
    return "make it usable, or name another folder in AUTOTUNE_STATE (journals, caches) or TMPDIR (temporary files)"


def did_you_mean(word: str, known: Iterable[str]) -> str:
    """`; did you mean 'BLOCK_M'?`, or the whole list of known words where none is near."""
    names = sorted(known)
    near = difflib.get_close_matches(word, names, n=1, cutoff=0.5)
    return f"; did you mean {near[0]!r}?" if near else f"; known: {', '.join(names)}"
