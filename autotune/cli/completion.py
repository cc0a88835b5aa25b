"""`autotune completion`: what makes a shell complete commands, options, kernels, devices and models."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterable
from typing import Any

from autotune import device as devices
from autotune import registry
from autotune.cli.output import Commands
from autotune.workload import models, scenario

VARIABLE = "_ARGCOMPLETE"
"""Set by the shell while it asks this program for completions."""

_NAMES: dict[str, Callable[[], Iterable[str]]] = {
    "kernel": registry.names,
    "kernels": registry.names,
    "device": devices.names,
    "model": lambda: models.MODELS,
    "scenario": lambda: scenario.SCENARIOS,
}
"""Values of an argument by its name in the parsers."""


def add(commands: Commands) -> None:
    parser: argparse.ArgumentParser = commands.add_parser(
        "completion",
        help="completion of commands, options, kernels and devices for a shell",
        description="Prints what a shell needs in order to complete commands, options, kernels and devices.",
        epilog="examples:\n"
        '  eval "$(autotune completion bash)"                                    # in ~/.bashrc; zsh likewise\n'
        "  autotune completion fish > ~/.config/fish/completions/autotune.fish",
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("shell", choices=("bash", "zsh", "fish"), help="the shell to complete in")
    parser.set_defaults(run=run, verbose=False, extra="tune", devices=None)


def run(arguments: argparse.Namespace) -> int:
    from argcomplete.shell_integration import shellcode

    print(shellcode(["autotune"], shell=arguments.shell))
    return 0


def complete(parser: argparse.ArgumentParser) -> None:
    """Print the completions that the shell asks for, and exit."""
    import argcomplete

    for command in _commands(parser):
        for action in command._actions:
            if (names := _NAMES.get(action.dest)) is not None:
                action.completer = _completer(names)  # type: ignore[attr-defined]
    argcomplete.autocomplete(parser)


def _commands(parser: argparse.ArgumentParser) -> Iterable[argparse.ArgumentParser]:
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            yield from action.choices.values()


def _completer(names: Callable[[], Iterable[str]]) -> Callable[..., list[str]]:
    def completer(prefix: str, **_: Any) -> list[str]:  # noqa: ANN401
        return [name for name in names() if name.startswith(prefix)]

    return completer
