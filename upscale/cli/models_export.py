"""The command `upscale models export`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, cast

from upscale.cli.session import Session
from upscale.errors import ExitCode, UsageError
from upscale.files.atomic import check_target_free, remove_stale_temporaries, write_atomically
from upscale.files.printable import printable

if TYPE_CHECKING:
    from upscale.export.formats import FormatName
    from upscale.export.source import Source


@dataclass(frozen=True, slots=True)
class Request:
    """What to export.

    Attributes:
        network: Name or file of the network.
        target: File to write.
        format_name: Format, or None for that of the suffix.
        half: Whether weights are stored in fp16.
        card: Model card to write, or None.
        scores: Table of `upscale eval` for the model card, or None.
        overwrite: Whether existing files are replaced.
    """

    network: str
    target: Path
    format_name: str | None
    half: bool
    card: Path | None
    scores: Path | None
    overwrite: bool


def run_export(session: Session, request: Request) -> int:
    """Export a network, and print the names of the files.

    Raises:
        UsageError: Options are invalid, or do not fit together.
        UpscaleError: The network cannot be read, exported or written.
    """
    from upscale.export.card import model_card, read_evaluation
    from upscale.export.source import load_source
    from upscale.export.writing import files_of, format_of, write_network

    name = format_of(request.target, _format_name(request.format_name))
    files = files_of(request.target, name)
    _check_card(request, files)
    for path in files:
        check_target_free(path, overwrite=request.overwrite)
    evaluation = [] if request.scores is None else read_evaluation(request.scores)
    source = load_source(request.network)
    remove_stale_temporaries(request.target.parent)
    difference = write_network(
        source, request.target, name, half=request.half, overwrite=request.overwrite
    )
    if request.card is not None:
        text = model_card(source, files, evaluation).encode()
        write_atomically(request.card, lambda file: file.write(text), overwrite=request.overwrite)
    for path in files if request.card is None else (*files, request.card):
        session.out(session.shown_name(str(path)))
    _say_notes(session, source, name, difference)
    return ExitCode.DONE


def _format_name(text: str | None) -> FormatName | None:
    from upscale.export.formats import FORMATS

    if text is None or text in FORMATS:
        return cast("FormatName | None", text)
    raise UsageError(f"--to {printable(text)}: must be one of {', '.join(FORMATS)}")


def _check_card(request: Request, files: tuple[Path, ...]) -> None:
    """Check the options of the model card.

    Raises:
        UsageError: The table has no card, or the card has the name of another output.
        OutputError: The card exists.
    """
    if request.card is None:
        if request.scores is not None:
            raise UsageError("--scores: needs --card FILE, which it is written to")
        return
    if request.card.absolute() in [path.absolute() for path in files]:
        raise UsageError(f"--card {printable(request.card)}: is the network's own file")
    check_target_free(request.card, overwrite=request.overwrite)


def _say_notes(
    session: Session, source: Source, name: FormatName, difference: float | None
) -> None:
    """Print what the user of the files must know."""
    unshuffle = source.network.unshuffle
    if difference is not None:
        session.say(f"checked: ONNX Runtime differs from PyTorch by at most {difference:.1e}")
    elif name == "onnx":
        session.say("not checked, because the package onnxruntime is not installed")
    if name == "ncnn" and unshuffle > 1:
        session.say(f"note: width and height must be multiples of {unshuffle} in ncnn")
    if name == "pth" and source.published().keys() != source.network.state_dict().keys():
        session.say("note: the layers are stored in parts, as other programs expect")
