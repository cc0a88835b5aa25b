"""The command line: results on stdout, progress on stderr; exit 0 fine, 1 something failed, 2 usage."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from functools import cache

from autotune.errors import AutotuneError
from autotune.toolchain import compiler_environment

EXAMPLES = """examples:
  autotune tune gemm/fp8_block_scaled --device mi355x --model deepseek-v4-pro --scenario 8k1k
  autotune explain gemm/fp8_block_scaled m=64,n=2048,k=7168,dtype=e4m3fn --device b200
  autotune compile moe/mxfp4_grouped_gemm --target all
  autotune show --device mi355x
  autotune check --baseline triton==3.8.0 --against triton==3.9.0
"""


def main(argv: Sequence[str] | None = None) -> int:
    """Runs one command and returns its exit code."""
    os.environ.update(compiler_environment())  # before Triton is imported
    arguments = _parser().parse_args(argv)
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


@cache
def _parser() -> argparse.ArgumentParser:
    from autotune.cli import (
        bisect,
        bundle,
        check,
        compile_,
        devices,
        doctor,
        explain,
        export,
        import_,
        learn,
        lint,
        list_,
        predict,
        show,
        tune,
        validate,
    )

    parser = argparse.ArgumentParser(
        prog="autotune",
        description="Tunes Triton kernels for DeepSeek V4 per GPU, proves them, and serves the tables.",
        epilog=EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(title="commands", required=True, metavar="COMMAND")
    for module in (
        tune,
        list_,
        show,
        explain,
        validate,
        predict,
        compile_,
        check,
        bisect,
        import_,
        export,
        learn,
        lint,
        bundle,
        devices,
        doctor,
    ):
        module.add(commands)
    return parser
