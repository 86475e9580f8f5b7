"""Complete the help pages: fill in lists of choices, and leave out Python types and line breaks.

The choices come from the modules that define them. These are slow to import, so it is done only
for a page that shows them.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import typer
from typer.core import TyperArgument

from upscale.cli.arguments import HELP_OPTIONS
from upscale.cli.examples import EXAMPLES, Example
from upscale.cli.shared_options import GENERAL

if TYPE_CHECKING:
    from rich.console import RenderableType


def complete(command: Any, name: str) -> None:  # noqa: ANN401 -- Typer's own copy of Click has no public names
    """Complete the help of a command and its subcommands in place; `name` is the full name."""
    paragraphs = (command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for parameter in command.params:
        if isinstance(parameter, TyperArgument):
            parameter.display_type_rich = lambda ctx: ""  # type: ignore[method-assign]
        if parameter.name in ("install_completion", "show_completion"):  # declared by Typer
            parameter.metavar, parameter.rich_help_panel = "", GENERAL
        for placeholder, choices in CHOICES.items():
            text = getattr(parameter, "help", None) or ""
            if placeholder in text:
                parameter.help = text.replace(placeholder, ", ".join(choices()))
    command.context_settings["help_option_names"] = [*HELP_OPTIONS]
    if option := command.get_help_option(typer.Context(command, **command.context_settings)):
        option.metavar, option.rich_help_panel = "", GENERAL
        option.help = "Show this help and exit."
    if name in EXAMPLES:
        _add_examples(command, EXAMPLES[name])
    for subname, subcommand in getattr(command, "commands", {}).items():
        complete(subcommand, f"{name} {subname}")


def print_commands(rows: Iterable[tuple[str, str]]) -> None:
    """Print a panel of commands and their summaries to standard output."""
    from rich.table import Table

    table = Table(box=None, show_header=False, pad_edge=False)
    table.add_column(style="bold cyan", no_wrap=True)
    table.add_column()
    for row in rows:
        table.add_row(*row)
    _print_panel("Commands", table)


def _print_examples(examples: Sequence[Example]) -> None:
    from rich.text import Text

    lines = [
        Text.assemble((f"{purpose}\n", "dim"), (f"  {command_line}", "bold cyan"))
        for command_line, purpose in examples
    ]
    _print_panel("Examples", Text("\n").join(lines))


def _print_panel(title: str, content: RenderableType) -> None:
    """Print a panel as Typer prints its own."""
    from rich.console import Console
    from rich.panel import Panel

    panel = Panel(content, title=title, title_align="left", border_style="dim")
    Console(file=sys.stdout, markup=False, highlight=False).print(panel)


def _add_examples(command: Any, examples: Sequence[Example]) -> None:  # noqa: ANN401
    """Let a command print its examples below its options."""
    print_options = command.format_help

    def format_help(context: Any, formatter: Any) -> None:  # noqa: ANN401
        print_options(context, formatter)
        _print_examples(examples)

    command.format_help = format_help


def _video_codecs() -> tuple[str, ...]:
    from upscale.video.encoders import codec_names

    return codec_names()


def _purposes() -> tuple[str, ...]:
    from upscale.video.purposes import PURPOSES

    return tuple(f"{name} ({each.summary})" for name, each in PURPOSES.items())


def _metrics() -> tuple[str, ...]:
    from upscale.metrics.registry import metrics

    return tuple(metrics())


def _denoise_networks() -> tuple[str, ...]:
    from upscale.checkpoints import catalog

    entries = [entry for entry in catalog().values() if entry.denoise_partner]
    return tuple(f"{entry.name} (default: {entry.denoise:g})" for entry in entries)


CHOICES: Mapping[str, Callable[[], tuple[str, ...]]] = {
    "{codecs}": _video_codecs,
    "{denoise}": _denoise_networks,
    "{metrics}": _metrics,
    "{purposes}": _purposes,
}
