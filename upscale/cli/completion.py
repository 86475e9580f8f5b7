"""Answer the completion scripts of the shells, and provide the values of options.

Typer generates and installs the scripts (`--install-completion`) and writes the answers. It expects
one command group, which this program is not, so a command without options of its own selects the
command that the line is about. Where nothing is offered, the shells complete file names.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

import typer
from typer.completion import get_completion_inspect_parameters, shell_complete
from typer.core import TyperCommand

from upscale.cli.commands import all_commands, find_command

if TYPE_CHECKING:
    from upscale.video.duplicates import Duplicates
    from upscale.video.probe import SizeChange
    from upscale.video.recode import AudioChoice

Completions = Callable[[str], list[str]]
"""Function that an option or argument has as `autocompletion`."""


def answer(request: str) -> int:
    """Print the completions that a shell's script asks for and return the exit code.

    Args:
        request: Value of the variable that the script sets, for example `complete_bash`.
    """
    get_completion_inspect_parameters()  # registers the shells
    program: Any = _Program("upscale")
    return shell_complete(program, {}, "upscale", "_UPSCALE_COMPLETE", request)


class _Program(TyperCommand):
    """Makes the context of the command that a line is about."""

    def make_context(self, info_name: Any, args: list[str], parent: Any = None, **more: Any) -> Any:  # noqa: ANN401
        command = find_command(args[0]) if args else None
        if command is not None:
            chosen: Any = typer.main.get_command(command.load())
            return chosen.make_context(args[0], args[1:], parent, **more)
        from upscale.cli.image import app

        chosen = typer.main.get_command(app)
        return chosen.make_context(info_name, args, parent, **more)


def one_of(names: Callable[[], Iterable[str]]) -> Completions:
    """Return a completion of names, which are looked up when they are needed."""
    return lambda incomplete: [name for name in names() if name.startswith(incomplete)]


def list_of(names: Callable[[], Iterable[str]]) -> Completions:
    """Return a completion of names that are separated by commas."""

    def complete(incomplete: str) -> list[str]:
        before, comma, last = incomplete.rpartition(",")
        used = before.split(",")
        return [f"{before}{comma}{n}" for n in names() if n.startswith(last) and n not in used]

    return complete


def first_word(context: typer.Context, incomplete: str) -> list[tuple[str, str]]:
    """Complete the name of a command as the first word; inputs are file names."""
    if context.params.get("inputs"):
        return []
    return [
        (name, command.summarise())
        for name, command in all_commands().items()
        if name.startswith(incomplete)
    ]


def image_formats() -> Iterable[str]:
    """Return the names of the formats that can be written."""
    from upscale.images.formats import writable_traits

    return writable_traits()


def networks() -> Iterable[str]:
    """Return `auto`, and the names of the networks in the catalogue and of the imported ones."""
    from upscale.checkpoints import catalog, imported_names
    from upscale.options import AUTO

    return [AUTO, *catalog(), *imported_names()]


def audio_choices() -> tuple[AudioChoice, ...]:
    """Return what can happen to the sound of a video."""
    from upscale.video.recode import AUDIO_CHOICES

    return AUDIO_CHOICES


def duplicate_choices() -> tuple[Duplicates, ...]:
    """Return which frames of a video can count as repeated."""
    from upscale.video.duplicates import DUPLICATE_CHOICES

    return DUPLICATE_CHOICES


def size_changes() -> tuple[SizeChange, ...]:
    """Return what can happen to frames of another size."""
    from upscale.video.probe import SIZE_CHANGES

    return SIZE_CHANGES


def purposes() -> Iterable[str]:
    """Return the names of the encoding presets by purpose."""
    from upscale.video.purposes import PURPOSES

    return PURPOSES


def containers() -> list[str]:
    """Return the suffixes of videos that can be written, without their dot."""
    from upscale.video.encoders import CONTAINERS

    return [suffix[1:] for suffix in CONTAINERS]


def face_networks() -> Iterable[str]:
    """Return the names of the networks for faces, and `none`."""
    from upscale.checkpoints import face_catalog
    from upscale.options import NO_FACE_MODEL

    return [*face_catalog(), NO_FACE_MODEL]


def face_detectors() -> Iterable[str]:
    """Return the names of the detectors of faces."""
    from upscale.checkpoints import face_catalog
    from upscale.options import FACE_DETECTOR

    return [FACE_DETECTOR, *face_catalog("face-detector")]


def face_parsers() -> Iterable[str]:
    """Return the names of the networks that find the outline of a face, and `none`."""
    from upscale.checkpoints import face_catalog
    from upscale.options import NO_FACE_MODEL

    return [*face_catalog("face-parser"), NO_FACE_MODEL]


def codecs() -> Iterable[str]:
    """Return the names of the video codecs."""
    from upscale.video.encoders import codec_names

    return codec_names()


def metric_names() -> Iterable[str]:
    """Return the names of the metrics."""
    from upscale.metrics.registry import metrics

    return metrics()
