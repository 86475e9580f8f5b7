"""Complete the help pages: fill in lists of choices, and leave out Python types and line breaks.

The choices come from the modules that define them. These are slow to import, so it is done only
for a page that shows them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import typer
from typer.core import TyperArgument

from upscale.cli.shared_options import GENERAL


def complete(command: Any) -> None:  # noqa: ANN401 -- Typer's own copy of Click has no public names
    """Complete the help of a command and its subcommands in place."""
    paragraphs = (command.help or "").split("\n\n")
    command.help = "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)
    for parameter in command.params:
        if isinstance(parameter, TyperArgument):
            parameter.display_type_rich = lambda ctx: ""  # type: ignore[method-assign]
        for placeholder, choices in CHOICES.items():
            text = getattr(parameter, "help", None) or ""
            if placeholder in text:
                parameter.help = text.replace(placeholder, ", ".join(choices()))
    if option := command.get_help_option(typer.Context(command)):
        option.metavar, option.rich_help_panel = "", GENERAL
        option.help = "Show this help and exit."
    for subcommand in getattr(command, "commands", {}).values():
        complete(subcommand)


def _video_codecs() -> tuple[str, ...]:
    from upscale.video.encoders import codec_names

    return codec_names()


def _metrics() -> tuple[str, ...]:
    from upscale.metrics.registry import metrics

    return tuple(metrics())


CHOICES: Mapping[str, Callable[[], tuple[str, ...]]] = {
    "{codecs}": _video_codecs,
    "{metrics}": _metrics,
}
