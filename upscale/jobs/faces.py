"""Faces in jobs: the network that restores them, and the faces of animations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from upscale.checkpoints import (
    CatalogEntry,
    face_catalog,
    forbids_commercial_use,
    known_face_name,
)
from upscale.errors import CheckpointError
from upscale.files.paths import expand_user
from upscale.images import ImageSequence
from upscale.jobs.image import Pixels, opaque_input
from upscale.options import NO_FACE_MODEL, EngineOptions, FaceOptions

if TYPE_CHECKING:
    from upscale.faces.enhancer import FaceEnhancer
    from upscale.faces.face import Face

FaceFactory = Callable[[str], "FaceEnhancer"]
"""Creates what restores faces, by the user's name of the device."""

ByteProgress = Callable[[int, int | None], None]


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


def find_face_model(name: str) -> FaceModel | None:
    """Return the network for faces with a name or path; None for `none`.

    Raises:
        CheckpointError: There is no such network or file.
    """
    if name == NO_FACE_MODEL:
        return None
    known = known_face_name(name)
    if known is not None:
        return FaceModel(known, entry=face_catalog()[known])
    file = expand_user(Path(name))
    if file.is_file():
        return FaceModel(file.name, file=file)
    names = ", ".join([*face_catalog(), NO_FACE_MODEL])
    raise CheckpointError(
        f"--face-model {name}: no network for faces or file has this name; "
        f"choose from {names}, or name a checkpoint file"
    )


def make_enhancer(
    options: FaceOptions,
    engine: EngineOptions,
    model: FaceModel | None,
    progress: ByteProgress | None = None,
) -> FaceEnhancer:
    """Load the detector and the network for faces on a device.

    Args:
        options: Options for faces.
        engine: Options with the device and the precision.
        model: Result of `find_face_model`.
        progress: Function that is called during a download.

    Raises:
        DependencyError: A package is missing.
        CheckpointError: The network cannot be used.
        DownloadError: The network cannot be downloaded.
        DeviceError: The device or precision is not available.
    """
    from upscale.faces.enhancer import FaceEnhancer
    from upscale.faces.mtcnn import Mtcnn

    detector = Mtcnn(options.face_min_size)
    if model is None:
        return FaceEnhancer(detector, None, draws=True)
    from upscale.checkpoints import load_face_network
    from upscale.faces.restorer import NetworkRestorer

    strength = options.face_strength
    network = load_face_network(model.path(progress), None if strength is None else 1 - strength)
    return FaceEnhancer(
        detector,
        NetworkRestorer(network, engine.device, engine.precision),
        strength=1.0 if strength is None or network.has_fidelity else strength,
        draws=options.face_debug,
    )


class FaceStep:
    """The restoration of the faces of one image or animation.

    Args:
        enhancer: Enhancer of the device.

    Attributes:
        count: Number of faces so far.
    """

    def __init__(self, enhancer: FaceEnhancer) -> None:
        self._enhancer = enhancer
        self._known: Mapping[bytes, list[Face]] | None = None
        self.count = 0

    def __call__(self, large: Pixels, source: Pixels) -> None:
        """Restore the faces of an upscaled image, in place; see `FaceEnhancer.apply`."""
        faces = None if self._known is None else self._known.get(_digest(source))
        self.count += self._enhancer.apply(large, source, faces)

    def track(self, sequence: ImageSequence) -> None:
        """Track the faces of a sequence if it is an animation, before its frames are upscaled.

        Identical frames share the faces of the first one.

        Raises:
            ImageError: A frame cannot be read.
        """
        if not sequence.animated:
            return
        from upscale.faces.tracking import track

        found: dict[bytes, list[Face]] = {}
        order: list[bytes] = []
        for frame in sequence.frames():
            pixels = opaque_input(frame.image)
            key = _digest(pixels)
            if key not in found:
                found[key] = self._enhancer.find(pixels)
            order.append(key)
        known: dict[bytes, list[Face]] = {}
        for key, faces in zip(order, track([found[key] for key in order]), strict=True):
            known.setdefault(key, faces)
        self._known = known


def face_identity(options: FaceOptions, model: FaceModel | None) -> str:
    """Return everything about faces that determines the frames of a video, as text."""
    digest = NO_FACE_MODEL if model is None else model.digest()
    return f"{digest} {replace(options, face=True, face_model='')}"


def _digest(pixels: Pixels) -> bytes:
    digest = hashlib.blake2b(repr((pixels.shape, pixels.dtype.str)).encode(), digest_size=32)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()
