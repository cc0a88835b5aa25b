"""The command line: results on stdout, progress on stderr; exit 0 fine, 1 something failed, 2 usage."""

from __future__ import annotations

import argparse
import os
import pkgutil
import sys
import traceback
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module, metadata
from pathlib import Path
from typing import Any, NoReturn

from autotune import packages
from autotune.cli import completion
from autotune.device import give_folder
from autotune.errors import AutotuneError, MachineError, UsageError, told
from autotune.toolchain import compiler_environment

BEGIN = """where to begin:
  autotune doctor                        what this machine can do, and what is missing
  autotune list                          the kernels, and the parts of a model that they serve
  autotune devices                       the GPUs that are described
  autotune explain gemm/fp8_block_scaled m=64,n=2048,k=7168 --device mi355x      a config, and why
  autotune tune norm/rms_norm_quant --device mi355x --problem rows=64,cols=7168  a first table
"""

HELP = f"""{BEGIN}  autotune COMMAND --help                what a command does, with examples

exit codes: 0 fine; 1 the command worked and found something wrong, or nothing; 2 the command, a file or the machine
  is at fault, and the message says what to do; 130 interrupted, and the same command resumes
NO_COLOR=1 turns colours off; results go to stdout, progress and errors to stderr
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code."""
    os.environ.update(compiler_environment())  # before Triton is imported
    if completion.VARIABLE in os.environ:
        completion.complete(_parser())
    words = sys.argv[1:] if argv is None else argv
    if not words:
        print(f"{BEGIN}  autotune --help                        all commands", file=sys.stderr)
        return 2
    arguments = _parser().parse_args(words)
    try:
        give_folder(_folder(arguments.devices))
        if arguments.extra:
            packages.require(arguments.extra)
        code: int = arguments.run(arguments)
    except AutotuneError as error:
        _tell(error, told(error), arguments)
        return 2
    except BrokenPipeError:
        # The reader of a pipe left; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a path that no file system takes, a full disk
        _tell(error, told(MachineError(f"{error}; name another file or folder")), arguments)
        return 2
    except KeyboardInterrupt:
        print("interrupted; finished trials are on disk, the same command resumes", file=sys.stderr)
        return 130
    return code


def _folder(records: Path | None) -> Path | None:
    """The folder of device records that `--devices` names. Raises UsageError where there is none."""
    if records is not None and not records.is_dir():
        raise UsageError(f"--devices {records}: no folder is there; name one with records, or `mkdir` it to add some")
    return records and records.resolve()


def _tell(error: Exception, message: str, arguments: argparse.Namespace) -> None:
    if arguments.verbose:
        traceback.print_exception(error)
    print(message, file=sys.stderr)


class _Version(argparse.Action):
    """Prints the version of this package and ends; the metadata are read only then."""

    def __call__(self, parser: argparse.ArgumentParser, *_: Any) -> NoReturn:  # noqa: ANN401
        try:
            version = metadata.version(packages.DISTRIBUTION)
        except metadata.PackageNotFoundError:
            version = "of a checkout that is not installed"
        print(f"autotune {version}")
        parser.exit()


class _Parser(argparse.ArgumentParser):
    """A parser whose errors say where the usage is explained."""

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:  # noqa: ANN401 - overloaded in argparse
        """Refuses what a command does not know itself; argparse would let the parser of all commands refuse it."""
        arguments, unknown = super().parse_known_args(args, namespace)
        if unknown:
            self.error(f"unrecognized arguments: {' '.join(unknown)}")
        return arguments, unknown

    def error(self, message: str) -> NoReturn:
        super().error(f"{message}; `{self.prog} --help` shows the options and examples")


@cache
def _parser() -> argparse.ArgumentParser:
    parser = _Parser(
        prog="autotune",
        description="Tunes Triton kernels for DeepSeek V4 per GPU, proves them, and serves the tables.",
        epilog=HELP,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--version", action=_Version, nargs=0, help="print the version and exit")
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in _commands():
        module.add(commands)
    return parser


def _commands() -> Iterator[Any]:
    """The modules of this folder that add a command, by name.

    A new command is a new module. All are imported for every command line, so none may import Torch, Triton or Optuna
    at its top: what a command works with is imported where it works (tests/test_layering.py counts the modules).
    """
    for found in pkgutil.iter_modules(__path__):
        module = import_module(f"{__name__}.{found.name}")
        if hasattr(module, "add"):
            yield module
