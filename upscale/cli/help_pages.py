"""Complete the help pages of commands: examples, and neither Python types nor line breaks."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import typer
from rich.table import Table
from rich.text import Text
from typer.core import TyperArgument

from upscale.cli.arguments import HELP_OPTIONS
from upscale.cli.commands import COMMANDS, all_commands
from upscale.cli.examples import EXAMPLES, Example
from upscale.cli.help_layout import print_page, print_panel
from upscale.cli.shared_options import GENERAL


def complete(command: Any, name: str) -> None:  # noqa: ANN401 -- Typer's own copy of Click has no public names
    """Complete the help of a command and its subcommands in place; `name` is the full name."""
    paragraphs = (command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for parameter in command.params:
        if isinstance(parameter, TyperArgument):
            parameter.display_type_rich = lambda ctx: ""  # type: ignore[method-assign]
        if parameter.name in ("install_completion", "show_completion"):  # declared by Typer
            parameter.metavar, parameter.rich_help_panel = "", GENERAL
    command.context_settings["help_option_names"] = [*HELP_OPTIONS]
    if option := command.get_help_option(typer.Context(command, **command.context_settings)):
        option.metavar, option.rich_help_panel = "", GENERAL
        option.help = "Show this help and exit."
    if name == "upscale" or name.split()[1] in COMMANDS:  # others may use all features of Typer
        command.format_help = partial(_print, command, name)
    for subname, subcommand in getattr(command, "commands", {}).items():
        complete(subcommand, f"{name} {subname}")


def _print(command: Any, name: str, context: Any, formatter: Any) -> None:  # noqa: ANN401
    """Print a page; what Typer formats with its formatter is not used."""
    print_page(command, context)
    if name == "upscale":
        _print_commands()
    if name in EXAMPLES:
        _print_examples(EXAMPLES[name])


def _print_commands() -> None:
    """Print a panel of all subcommands and their summaries."""
    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    for name, command in all_commands().items():
        table.add_row(name, command.summarise())
    print_panel("Commands", table)


def _print_examples(examples: Sequence[Example]) -> None:
    lines = [
        Text.assemble((f"{purpose}\n", "dim"), (f"  {command_line}", "bold cyan"))
        for command_line, purpose in examples
    ]
    print_panel("Examples", Text("\n").join(lines))
