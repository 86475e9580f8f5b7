"""Outputs: the meaning of `-o`, and which input claims which file."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from upscale.errors import UpscaleError, UsageError
from upscale.files.atomic import temporary_file
from upscale.files.identity import file_key
from upscale.files.printable import printable, shell_word
from upscale.images import format_of, is_image_name
from upscale.jobs.inputs import STANDARD_STREAM, Source, is_address, is_video


@dataclass(frozen=True, slots=True)
class Destination:
    """Where outputs are written.

    Attributes:
        kind: Place: beside the inputs, a folder, one file, or standard output.
        path: The file or the folder; None for the other kinds.
    """

    kind: Literal["beside", "folder", "file", "stdout"]
    path: Path | None = None


def choose_destination(
    output: str | None, inputs: Sequence[str], requested_format: str | None
) -> Destination:
    """Return the destination that `-o` means for these inputs.

    Args:
        output: Value of `-o`, or None.
        inputs: Files, folders, or `-`, as the user named them.
        requested_format: Value of `--format`, or None.

    Raises:
        UsageError: The combination is impossible.
    """
    if not inputs:
        raise UsageError("no input: name images, folders, or - for standard input")
    if "" in inputs:
        raise UsageError("an input has an empty name")
    if inputs.count(STANDARD_STREAM) > 1:
        raise UsageError("-: standard input can be read only once")
    folder = next((name for name in inputs if Path(name).is_dir()), None)
    is_single = len(inputs) == 1 and folder is None
    if output is None:
        return _default_destination(inputs, folder, is_single)
    if output == STANDARD_STREAM:
        if not is_single:
            raise UsageError("-o -: standard output takes one image: name one input")
        return Destination("stdout")
    path = Path(output)
    if path.is_dir() or output.endswith(("/", os.sep)):
        return Destination("folder", path)
    if is_single:
        _reject_video(inputs[0], path)
        return _file_destination(path, requested_format)
    if path.exists() or is_image_name(path):
        raise UsageError(
            f"-o {printable(output)}: several images need a folder: pass one that ends in /"
        )
    return Destination("folder", path)


def output_among(inputs: Sequence[str]) -> str | None:
    """Return the output of a command `upscale IN OUT`, None if all names can be inputs.

    Of two names, the last is the output if it is `-`, or does not exist and is a new folder (it
    ends in /) or an image that can be written.

    Args:
        inputs: Names on the command line, without a list of inputs and without `-o`.

    Raises:
        UsageError: The last name can neither be an input nor, beside these inputs, an output.

    Example:
        >>> output_among(["photo.jpg", "large.png"]), output_among(["photo.jpg"])
        ('large.png', None)
    """
    if len(inputs) < 2 or "" in inputs or is_address(inputs[-1]):
        return None
    *sources, last = inputs
    if last == STANDARD_STREAM:
        return last if len(sources) == 1 and not Path(sources[0]).is_dir() else None
    if os.path.lexists(last):
        return None
    is_folder = last.endswith(("/", os.sep))
    if len(sources) == 1 and (is_folder or _is_writable_name(last)):
        return last
    _reject_missing_output(sources, last, is_folder=is_folder)
    return None


def page_among(inputs: Sequence[str]) -> str | None:
    """Return the page of a comparison `upscale IN PAGE.html --models A,B`, None without one.

    Args:
        inputs: Names on the command line.

    Example:
        >>> page_among(["photo.jpg", "page.html"])
        'page.html'
    """
    if len(inputs) != 2 or os.path.lexists(inputs[-1]):
        return None
    return inputs[-1] if inputs[-1].lower().endswith((".html", ".htm")) else None


def _reject_missing_output(sources: Sequence[str], last: str, *, is_folder: bool) -> None:
    name = printable(last)
    is_bare_folder = Path(sources[0]).is_dir() and not Path(last).suffix
    if is_folder or (len(sources) == 1 and is_bare_folder):
        raise UsageError(f"{name}: does not exist; for an output folder, pass -o {name}")
    if _is_writable_name(last):
        raise UsageError(
            f"{name}: does not exist; if it is meant as the output, pass -o FOLDER/, because "
            "several images need a folder"
        )
    if len(sources) == 1 and Path(sources[0]).is_file() and not is_image_name(Path(last)):
        _reject_video(sources[0], Path(last))
        raise UsageError(
            f"{name}: does not exist; for an output, pass -o {name}/ (a folder) or -o "
            f"{Path(name).stem}.png (an image)"
        )


def _reject_video(source: str, output: Path) -> None:
    """Name the command for videos if the input is one and the output is not an image."""
    if not is_image_name(output) and is_video(Path(source)):
        command = f"upscale video {shell_word(source)} {shell_word(output)}"
        raise UsageError(f"{printable(source)}: is a video; run: {command}")


def _is_writable_name(name: str) -> bool:
    suffix = Path(name).suffix
    try:
        return bool(suffix) and bool(format_of(suffix))
    except UpscaleError:
        return False


def _default_destination(inputs: Sequence[str], folder: str | None, is_single: bool) -> Destination:
    if folder is not None:
        if folder == inputs[-1] and len(inputs) > 1:
            advice = f"if it is meant as the output, pass -o {printable(folder)}"
            raise UsageError(f"{printable(folder)}: is a folder; {advice}")
        raise UsageError(f"{printable(folder)}: a folder as input needs -o FOLDER for its results")
    if STANDARD_STREAM not in inputs:
        return Destination("beside")
    if not is_single:
        raise UsageError("-: standard input among several inputs needs -o FOLDER")
    return Destination("stdout")


def _file_destination(path: Path, requested_format: str | None) -> Destination:
    if not path.suffix:
        raise UsageError(
            f"-o {printable(path)}: no such folder: append / for a new folder, or .png for a file"
        )
    written = format_argument(f"-o {printable(path)}", path.suffix)
    if requested_format is not None and requested_format != written:
        raise UsageError(
            f"-o {printable(path)} and --format {requested_format} differ in format: pass one"
        )
    return Destination("file", path)


def format_argument(label: str, text: str) -> str:
    """Return the format that an option names; `label` begins the error message.

    Raises:
        UsageError: No such format exists.
    """
    try:
        return format_of(text)
    except UpscaleError as error:
        raise UsageError(f"{label}: {error}") from error


class ClaimedOutputs:
    """The outputs of a batch and the inputs that claimed them."""

    def __init__(self) -> None:
        self._claims: dict[str, list[tuple[str, Source]]] = {}
        self._ignores_case: dict[Path, bool] = {}

    def claim(self, target: Path, source: Source) -> Source | None:
        """Claim an output; return the source that claimed it before, None if it was free."""
        key = file_key(target)
        similar = self._claims.setdefault(key.casefold(), [])
        for claimed, owner in similar:
            if claimed == key or self._is_caseless(target.parent):
                return owner
        similar.append((key, source))
        return None

    def owner(self, path: Path) -> Source | None:
        """Return the source that claimed a file as its output."""
        key = file_key(path)
        similar = self._claims.get(key.casefold(), [])
        return next((source for claimed, source in similar if claimed == key), None)

    def _is_caseless(self, folder: Path) -> bool:
        if folder not in self._ignores_case:
            self._ignores_case[folder] = ignores_case(folder)
        return self._ignores_case[folder]


def ignores_case(folder: Path) -> bool:
    """Whether `A` and `a` are the same file in a folder, which need not exist yet.

    No system call reports this and it differs between drives, so a temporary file is looked up
    under both spellings.
    """
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        with temporary_file(folder) as (probe, _):
            return (folder / probe.name.swapcase()).exists()
    except OSError:  # the folder is not writable at all
        return False
