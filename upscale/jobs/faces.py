"""Faces in jobs: what finds and restores them, and the faces of animations."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING

import numpy as np

from upscale.images import ImageSequence
from upscale.jobs.face_models import FaceModels
from upscale.jobs.image import Pixels, opaque_input
from upscale.options import EngineOptions, FaceOptions

if TYPE_CHECKING:
    from upscale.faces.enhancer import FaceEnhancer
    from upscale.faces.face import Face, FaceDetector
    from upscale.faces.parsing import Parser

FaceFactory = Callable[[str], "FaceEnhancer"]
"""Creates what restores faces, by the user's name of the device."""


def make_enhancer(options: FaceOptions, engine: EngineOptions, models: FaceModels) -> FaceEnhancer:
    """Load the networks for faces on a device.

    Args:
        options: Options for faces.
        engine: Options with the device and the precision.
        models: Result of `find_face_models`.

    Raises:
        DependencyError: A package is missing.
        CheckpointError: A network cannot be used.
        DownloadError: A network cannot be downloaded.
        DeviceError: The device or precision is not available.
    """
    from upscale.faces.enhancer import FaceEnhancer

    detector = _detector(models, options.face_min_size, engine.device)
    if models.restorer is None:
        return FaceEnhancer(detector, None, draws=True)
    from upscale.checkpoints import load_face_network
    from upscale.faces.restorer import NetworkRestorer

    strength = options.face_strength
    fidelity = None if strength is None else 1 - strength
    network = load_face_network(models.restorer.path(), fidelity)
    return FaceEnhancer(
        detector,
        NetworkRestorer(network, engine.device, engine.precision),
        parser=_parser(models, engine.device),
        strength=1.0 if strength is None or network.has_fidelity else strength,
        draws=options.face_debug,
    )


def _detector(models: FaceModels, minimum: int, device: str) -> FaceDetector:
    if models.detector is None:
        from upscale.faces.mtcnn import Mtcnn

        return Mtcnn(minimum)
    from upscale.checkpoints import load_face_detector
    from upscale.faces.retinaface import RetinaFaceDetector

    return RetinaFaceDetector(load_face_detector(models.detector.path()), device, minimum)


def _parser(models: FaceModels, device: str) -> Parser | None:
    if models.parser is None:
        return None
    from upscale.checkpoints import load_face_parser
    from upscale.faces.parsing import NetworkParser

    return NetworkParser(load_face_parser(models.parser.path()), device)


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


def _digest(pixels: Pixels) -> bytes:
    digest = hashlib.blake2b(repr((pixels.shape, pixels.dtype.str)).encode(), digest_size=32)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()
