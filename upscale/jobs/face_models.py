"""The networks for faces that the user has chosen: they find, restore and outline faces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from upscale.checkpoints import (
    FACE_OPTIONS,
    CatalogEntry,
    Kind,
    availability,
    face_catalog,
    forbids_commercial_use,
    known_face_entry,
)
from upscale.errors import CheckpointError
from upscale.files.paths import expand_user
from upscale.options import AUTO, FACE_DETECTOR, NO_FACE_MODEL, FaceOptions

ByteProgress = Callable[[int, int | None], None]

_BUILT_IN = {
    "face": NO_FACE_MODEL,
    "face-detector": FACE_DETECTOR,
    "face-parser": NO_FACE_MODEL,
}
"""Name in each table of the catalogue that needs no checkpoint."""


@dataclass(frozen=True, slots=True)
class FaceModel:
    """A network for faces that the user has chosen.

    Attributes:
        name: Name for reports.
        entry: Entry of the catalogue; None for a file.
        file: File of the user; None for an entry.
    """

    name: str
    entry: CatalogEntry | None = None
    file: Path | None = None

    @property
    def is_absent(self) -> bool:
        """Whether the network must be downloaded."""
        return self.entry is not None and availability(self.entry) == "absent"

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user must know before using the network, one line each."""
        if self.entry is None or not forbids_commercial_use(self.entry.licence):
            return ()
        return (f"{self.name}: commercial use is not allowed by its licence, {self.entry.licence}",)

    def digest(self) -> str:
        """Return the SHA-256 of the network's file.

        Raises:
            OSError: The user's file cannot be read.
        """
        from upscale.files.hashing import sha256_of

        if self.entry is not None:
            return self.entry.sha256
        assert self.file is not None
        return sha256_of(self.file)

    def path(self, progress: ByteProgress | None = None) -> Path:
        """Return the verified file of the network; download it at first use.

        Raises:
            CheckpointError: The file is not the expected one.
            DownloadError: The network cannot be downloaded.
        """
        from upscale.checkpoints import locate

        if self.entry is not None:
            return locate(self.entry, progress)
        assert self.file is not None
        return self.file


@dataclass(frozen=True, slots=True)
class FaceModels:
    """The networks for faces of a command.

    Attributes:
        restorer: Network that restores faces; None to show only which are found.
        detector: Network that finds faces; None for the one that is installed.
        parser: Network that finds the outline of a face; None for a soft square.
    """

    restorer: FaceModel | None = None
    detector: FaceModel | None = None
    parser: FaceModel | None = None

    @property
    def chosen(self) -> list[FaceModel]:
        """The networks that have a file."""
        return [each for each in (self.restorer, self.detector, self.parser) if each is not None]

    def identity(self, options: FaceOptions) -> str:
        """Return everything about faces that determines the frames of a video, as text.

        Raises:
            OSError: A file of the user cannot be read.
        """
        models = (self.restorer, self.detector, self.parser)
        digests = [NO_FACE_MODEL if model is None else model.digest() for model in models]
        rest = replace(options, face=True, face_model="", face_detector="", face_parser="")
        return " ".join([*digests, repr(rest)])


def find_face_models(options: FaceOptions) -> FaceModels:
    """Return the networks that options name.

    Raises:
        CheckpointError: There is no such network or file.
    """
    restorer = find_face_model(options.face_model)
    parser = find_face_model(resolved_parser(options.face_parser), "face-parser")
    return FaceModels(
        restorer=restorer,
        detector=find_face_model(options.face_detector, "face-detector"),
        parser=None if restorer is None else parser,
    )


def find_face_model(name: str, kind: Kind = "face") -> FaceModel | None:
    """Return the network for faces with a name or path; None for one that needs no checkpoint.

    Args:
        name: Name or path.
        kind: Table of the catalogue.

    Raises:
        CheckpointError: There is no such network or file.
    """
    built_in = _BUILT_IN[kind]
    if name == built_in:
        return None
    entry = known_face_entry(name)
    if entry is not None and entry.kind == kind:
        return FaceModel(entry.name, entry=entry)
    file = expand_user(Path(name))
    if file.is_file():
        return FaceModel(file.name, file=file)
    names = ", ".join([*face_catalog(kind), built_in])
    raise CheckpointError(
        f"{FACE_OPTIONS[kind]} {name}: no such network for faces or file; "
        f"choose from {names}, or name a checkpoint file"
    )


def resolved_parser(name: str) -> str:
    """Return the name of the network for outlines; for `AUTO`, one that is in the cache, if any."""
    if name != AUTO:
        return name
    entries = face_catalog("face-parser").values()
    cached = (entry.name for entry in entries if availability(entry) != "absent")
    return next(cached, NO_FACE_MODEL)


def with_absolute_paths(options: FaceOptions) -> FaceOptions:
    """Return options that name the same networks in every folder and on every machine."""
    return replace(
        options,
        face_model=_absolute(options.face_model, "face"),
        face_detector=_absolute(options.face_detector, "face-detector"),
        face_parser=_absolute(resolved_parser(options.face_parser), "face-parser"),
    )


def _absolute(name: str, kind: Kind) -> str:
    path = expand_user(Path(name))
    return str(path.absolute()) if name != _BUILT_IN[kind] and path.is_file() else name
