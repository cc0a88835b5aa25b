"""`autotune new`: the two files of a kernel of one's own, right as they are, to be changed from there."""

from __future__ import annotations

import argparse
from pathlib import Path

from autotune import files, registry
from autotune.cli.output import Commands, command, print_json
from autotune.errors import UsageError
from autotune.origin import KERNELS, SPACES, of_file

_PLACEHOLDER = "kernel_name"
"""Stands for the name of the file in both templates."""


def add(commands: Commands) -> None:
    parser = command(
        commands,
        "new",
        "begin a kernel of your own: a Python file and its search space, which are proved as they are",
        "  autotune new own/softmax               writes own/softmax.py and own/softmax.yaml\n"
        "  autotune validate own/softmax --device h100",
        extra="",
    )
    parser.add_argument("path", type=Path, help="folder/name, where no kernel is yet")
    parser.set_defaults(run=run)


def run(arguments: argparse.Namespace) -> int:
    path = arguments.path if arguments.path.suffix == ".py" else arguments.path.with_name(f"{arguments.path.name}.py")
    if path.stem.startswith("_"):
        raise UsageError(f"{path}: a name that begins with _ is a helper's, which no command takes for a kernel")
    (name,) = registry.know([of_file(path)])
    made = [path, of_file(path).space]
    for file in made:
        if file.exists():
            raise UsageError(f"{file}: is there already; name another kernel, or remove it")
    for file, template in zip(made, (KERNELS / "_template.py", SPACES / "_template.yaml"), strict=True):
        files.write(file, template.read_text(encoding="utf-8").replace(_PLACEHOLDER, path.stem))
    if arguments.json:
        print_json({"kernel": name, "files": [str(file) for file in made]})
        return 0
    print(f"{name}: {path} and {made[1].name}, six parts and a search space")
    print(f"  prove it  autotune validate {path} --device h100")
    print(f"  tune it   autotune tune {path} --device h100 --tables tables")
    return 0
