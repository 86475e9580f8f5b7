"""Where outputs go: what `-o` means for the inputs that were named."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from upscale.errors import UpscaleError, UsageError
from upscale.images import format_of, is_image_name
from upscale.jobs.inputs import STANDARD_STREAM, Source, file_key


@dataclass(frozen=True, slots=True)
class Destination:
    """Where outputs go; `path` is the file or the folder, None beside the inputs or for stdout."""

    kind: Literal["beside", "folder", "file", "stdout"]
    path: Path | None = None


def choose_destination(output: str | None, inputs: Sequence[str], asked: str | None) -> Destination:
    """Decide what `-o` means for these inputs.

    Raises:
        UsageError: It cannot mean anything: see the messages.
    """
    if not inputs:
        raise UsageError("no input: name images, folders, or - for standard input")
    if "" in inputs:
        raise UsageError("the name of an input is empty")
    if inputs.count(STANDARD_STREAM) > 1:
        raise UsageError("-: standard input can be read only once")
    folder = next((name for name in inputs if Path(name).is_dir()), None)
    single = len(inputs) == 1 and folder is None
    if output is None:
        return _default_destination(inputs, folder, single)
    if output == STANDARD_STREAM:
        if not single:
            raise UsageError("-o -: standard output takes one image: name one input")
        return Destination("stdout")
    path = Path(output)
    if path.is_dir() or output.endswith(("/", os.sep)):
        return Destination("folder", path)
    if single:
        return _file_destination(path, asked)
    if path.exists() or is_image_name(path):
        raise UsageError(f"-o {output}: several images need a folder: give one, ending in /")
    return Destination("folder", path)


def _default_destination(inputs: Sequence[str], folder: str | None, single: bool) -> Destination:
    if folder is not None:
        raise UsageError(f"{folder}: a folder needs -o FOLDER for its results")
    if STANDARD_STREAM not in inputs:
        return Destination("beside")
    if not single:
        raise UsageError("-: standard input among several inputs needs -o FOLDER")
    return Destination("stdout")


def _file_destination(path: Path, asked: str | None) -> Destination:
    if not path.suffix:
        raise UsageError(f"-o {path}: no such folder: end it in / for a folder, in .png for a file")
    written = format_argument(f"-o {path}", path.suffix)
    if asked is not None and asked != written:
        raise UsageError(f"-o {path} and --format {asked} name two formats: give one")
    return Destination("file", path)


def format_argument(label: str, text: str) -> str:
    """Return the format that an option names; `label` stands first in the message.

    Raises:
        UsageError: There is no such format.
    """
    try:
        return format_of(text)
    except UpscaleError as error:
        raise UsageError(f"{label}: {error}") from error


class TakenOutputs:
    """Which outputs are taken, and by which inputs."""

    def __init__(self) -> None:
        self._takers: dict[str, list[tuple[str, Source]]] = {}
        self._caseless: dict[Path, bool] = {}

    def take(self, target: Path, source: Source) -> Source | None:
        """Take an output; return the source that has taken it before, None if it was free."""
        key = file_key(target)
        rivals = self._takers.setdefault(key.casefold(), [])
        for taken, rival in rivals:
            if taken == key or self._ignores_case(target.parent):
                return rival
        rivals.append((key, source))
        return None

    def taker(self, path: Path) -> Source | None:
        """Return the source whose output a file is."""
        key = file_key(path)
        rivals = self._takers.get(key.casefold(), [])
        return next((source for taken, source in rivals if taken == key), None)

    def _ignores_case(self, folder: Path) -> bool:
        if folder not in self._caseless:
            self._caseless[folder] = ignores_case(folder)
        return self._caseless[folder]


def ignores_case(folder: Path) -> bool:
    """Whether `A` and `a` are one file in a folder, or in the one that it will be made in.

    Systems do not tell, and drives differ: a file that lives for a moment is looked for under
    both names.
    """
    while not folder.is_dir() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.NamedTemporaryFile(prefix=".upscale-case-", dir=folder) as probe:
            return (folder / Path(probe.name).name.swapcase()).exists()
    except OSError:  # nothing can be written there at all
        return False
