"""The subcommands: name, summary and module of each, imported only when it runs.

Other packages add a subcommand with an entry point in the group `upscale.commands`, whose object
is a Typer app:

    [project.entry-points."upscale.commands"]
    hello = "hello_package.cli:app"
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from importlib.metadata import EntryPoint

ENTRY_POINT_GROUP = "upscale.commands"
_NAME = re.compile(r"[a-z][a-z0-9_-]*")


@dataclass(frozen=True, slots=True)
class Command:
    """A subcommand.

    Attributes:
        summarise: Returns the line that `upscale --help` shows.
        load: Imports the command's module and returns its Typer app.
    """

    summarise: Callable[[], str]
    load: Callable[[], typer.Typer]


def find_command(name: str) -> Command | None:
    """Return the subcommand of this name, or None; installed packages are searched last."""
    if name in COMMANDS:
        return COMMANDS[name]
    return _installed().get(name) if _NAME.fullmatch(name) else None


def all_commands() -> Mapping[str, Command]:
    """Return every subcommand by name; a built-in one takes precedence over an installed one."""
    return {**COMMANDS, **{k: v for k, v in _installed().items() if k not in COMMANDS}}


def _built_in(module: str, summary: str) -> Command:
    def load() -> typer.Typer:
        app: typer.Typer = importlib.import_module(f"upscale.cli.{module}").app
        return app

    return Command(lambda: summary, load)


COMMANDS: Mapping[str, Command] = {
    "video": _built_in("video", "Upscale videos."),
    "app": _built_in("browser_app", "Upscale in a browser window on this machine."),
    "compare": _built_in("compare", "Write an HTML page that compares images."),
    "models": _built_in("models", "List, download, import and blend networks."),
    "eval": _built_in("eval", "Measure image quality, and compare networks."),
    "dataset": _built_in("dataset", "Prepare images for training."),
    "degrade": _built_in("degrade", "Preview training degradations, or make a test set."),
    "train": _built_in("train", "Train or fine-tune a network."),
    "bench": _built_in("bench", "Measure the speed of networks on this machine."),
    "doctor": _built_in("doctor", "Check the installation and suggest fixes."),
}


@cache
def _installed() -> Mapping[str, Command]:
    from importlib.metadata import entry_points  # slow to import

    return {point.name: _from_package(point) for point in entry_points(group=ENTRY_POINT_GROUP)}


def _from_package(point: EntryPoint) -> Command:
    def summarise() -> str:
        try:
            text = typer.main.get_command(point.load()).help or ""
        except Exception as error:  # a broken package must not break `upscale --help`
            return f"Cannot be loaded: {type(error).__name__}: {error}"
        return text.strip().partition("\n")[0]

    return Command(summarise, point.load)
