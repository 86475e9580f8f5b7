"""The commands beside the default one: a line on each, and how to get it without the others."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import typer


@dataclass(frozen=True, slots=True)
class Command:
    """A command's line in the help, and the import that makes it."""

    summary: str
    load: Callable[[], typer.Typer]


def _models() -> typer.Typer:
    from upscale.cli.models import app

    return app


def _compare() -> typer.Typer:
    from upscale.cli.compare import app

    return app


def _doctor() -> typer.Typer:
    from upscale.cli.doctor import app

    return app


def _video() -> typer.Typer:
    from upscale.cli.video import app

    return app


def _bench() -> typer.Typer:
    from upscale.cli.bench import app

    return app


def _dataset() -> typer.Typer:
    from upscale.cli.dataset import app

    return app


def _degrade() -> typer.Typer:
    from upscale.cli.degrade import app

    return app


def _train() -> typer.Typer:
    from upscale.cli.train import app

    return app


def _eval() -> typer.Typer:
    from upscale.cli.eval import app

    return app


COMMANDS: Mapping[str, Command] = {
    "video": Command("Upscale a video, frame for frame.", _video),
    "compare": Command("Write a page that shows images over each other.", _compare),
    "dataset": Command("Prepare images for upscale_training.", _dataset),
    "degrade": Command(
        "Show what upscale_training does to an image, or make a test set.", _degrade
    ),
    "train": Command("Train a network, or fine-tune one.", _train),
    "eval": Command("Measure how good images and networks are.", _eval),
    "models": Command("List, fetch, import and blend networks.", _models),
    "bench": Command("Time networks on this machine, and say what would be faster.", _bench),
    "doctor": Command("Show what works here, and what to do about the rest.", _doctor),
}
