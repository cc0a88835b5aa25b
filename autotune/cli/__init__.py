"""The command line: results on stdout, progress on stderr; exit 0 fine, 1 something failed, 2 usage."""

from __future__ import annotations

import argparse
import os
import pkgutil
import sys
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import import_module
from typing import Any, NoReturn

from autotune.errors import AutotuneError
from autotune.toolchain import compiler_environment

EXAMPLES = """where to begin:
  autotune doctor                        what this machine can do, and what is missing
  autotune list                          the kernels
  autotune devices                       the GPUs
  autotune COMMAND --help                what a command does, with examples

examples:
  autotune tune gemm/fp8_block_scaled --device mi355x --model deepseek-v4-pro --scenario 8k1k
  autotune explain gemm/fp8_block_scaled m=64,n=2048,k=7168,dtype=e4m3fn --device b200
  autotune compile moe/mxfp4_grouped_gemm --target all
  autotune show --device mi355x
  autotune check --baseline triton==3.8.0 --against triton==3.9.0
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    os.environ.update(compiler_environment())  # before Triton is imported
    words = sys.argv[1:] if argv is None else argv
    if not words:
        _parser().print_help(sys.stderr)
        return 2
    arguments = _parser().parse_args(words)
    try:
        code: int = arguments.run(arguments)
    except AutotuneError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    except BrokenPipeError:
        # The reader of a pipe left; Python would complain again at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 0
    except OSError as error:  # a path that no file system takes, a full disk
        print(f"error: {error}; name another file or folder", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        print("interrupted; finished trials are on disk, the same command resumes", file=sys.stderr)
        return 130
    return code


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
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
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
