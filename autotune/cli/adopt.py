"""`autotune adopt`: a Triton kernel of somebody else becomes one that can be tuned, proved and served."""

from __future__ import annotations

import argparse
import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from autotune.cli.output import Commands, command, print_json
from autotune.errors import UsageError

if TYPE_CHECKING:
    from autotune.adopt.adopting import Adopted


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "adopt",
        "write the two files of a kernel from an untouched @triton.jit, @triton.autotune or @triton.heuristics "
        "function and from calls that autotune.capture recorded: its problem from their sizes, its space from the "
        "author's configs, its launcher, and a reference; then prove the author's first config in the interpreter",
        "  autotune adopt their_package.norms:_rms_norm_kernel --calls calls.json -o adopted\n"
        "  autotune adopt their_package.norms:_rms_norm_kernel --calls calls.json -o adopted \\\n"
        "      --reference their_package.torch_norms:rms_norm --widen\n"
        "  autotune tune adopted/rms_norm.py --device mi355x --device b200 --tables tables   # then",
    )
    parser.add_argument("kernel", metavar="MODULE:FUNCTION", help="the Triton function, as Python imports it")
    parser.add_argument("--calls", type=Path, required=True, metavar="FILE", help="what autotune.capture wrote")
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="FOLDER", help="where both files go")
    parser.add_argument(
        "--reference",
        metavar="MODULE:FUNCTION",
        help="what the kernel computes, in plain torch: a function of its arguments by name (`x` for `x_ptr`), or of "
        "the tensors that it reads, which returns what it writes (default: the kernel itself at its first config)",
    )
    parser.add_argument(
        "--grid", metavar="MODULE:FUNCTION", help="its grid, of all arguments by name, where the calls do not tell it"
    )
    parser.add_argument(
        "--tolerance",
        type=_share,
        metavar="SHARE",
        help="of each value and of the output's root mean square that a "
        "result may err by, such as 1e-2 (default: from dtypes and sizes)",
    )
    parser.add_argument("--widen", action="store_true", help="tune also the powers of two around the author's values")
    parser.add_argument(
        "--tune",
        nargs="+",
        default=[],
        metavar="NAME",
        help="constexprs to tune of a kernel that its author does not tune",
    )
    parser.add_argument("--name", help="name of the launcher and of the files (default: from the function's)")
    parser.add_argument("--overwrite", action="store_true", help="replace files that are there")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    os.environ["TRITON_INTERPRET"] = "1"  # before anybody imports Triton: one call is run in its interpreter
    from autotune import device as devices
    from autotune.adopt import adopting, calls, foreign
    from autotune.adopt.choices import Choices

    described = foreign.read(adopting.found(arguments.kernel), name=arguments.kernel)
    own = adopting.calls_of(described, calls.read(arguments.calls), arguments.calls)
    described = adopting.tuned_by_user(described, arguments.tune, own[0])
    name = arguments.name or _name(arguments.kernel)
    if not name.isidentifier() or name.startswith("_"):
        raise UsageError(f"--name {name}: must be a Python name that does not begin with _")
    for path in (arguments.output / f"{name}.py", arguments.output / f"{name}.yaml"):
        if path.exists() and not arguments.overwrite:
            raise UsageError(f"{path}: is there already; add --overwrite to replace it, or give another --name")
    reference = adopting.found(arguments.reference) if arguments.reference else None
    if arguments.grid:
        adopting.found(arguments.grid)
    choices = Choices(name, reference, arguments.reference, arguments.grid, arguments.tolerance, arguments.widen)
    adopted = adopting.adopt(described, own, choices, arguments.output, devices.named("b200"))
    if arguments.json:
        print_json({**vars(adopted), "python": str(adopted.python), "yaml": str(adopted.yaml)})
    else:
        _tell(adopted, arguments)
    return 1 if adopted.failure else 0


def _tell(adopted: Adopted, arguments: argparse.Namespace) -> None:
    against = f"against {arguments.reference}" if arguments.reference else "against itself: no --reference was named"
    print(f"{arguments.kernel}: {adopted.configs} config{'s' * (adopted.configs != 1)} of its author")
    print(f"  kernel   {adopted.python}\n  space    {adopted.yaml}")
    for note in adopted.notes:
        print(f"  note     {note}")
    if adopted.failure:
        print(f"  WRONG    its first config, {against}:\n           {adopted.failure}")
        print(f"  mend     {adopted.python}, then: autotune validate {adopted.python} --device mi355x")
        return
    print(f"  proved   its first config, {against}")
    for problem in adopted.problems:
        print(f"           {problem}")
    print(f"  next     autotune tune {adopted.python} --device mi355x --device b200 --tables tables")


def _name(kernel: str) -> str:
    """`rms_norm` of `package.norms:_rms_norm_kernel`."""
    function = kernel.rpartition(":")[2].rpartition(".")[2].strip("_")
    return re.sub(r"(_kernel|_fwd_kernel)$", "", function) or function


def _share(text: str) -> float:
    value = float(text)
    if not 0 <= value < 1:
        raise argparse.ArgumentTypeError(f"must be at least 0 and below 1, got {text}")
    return value
