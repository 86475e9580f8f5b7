"""Find faces in an image, restore them, and paste them into the upscaled image."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from upscale.faces.alignment import aligned_face, alignment
from upscale.faces.drawing import draw_face
from upscale.faces.face import Face, FaceDetector, Pixels
from upscale.faces.pasting import paste, upscaled_alignment
from upscale.images.pixels.depth import full_scale
from upscale.images.pixels.row_chunks import row_chunks

if TYPE_CHECKING:
    from upscale.faces.parsing import Parser
    from upscale.faces.restorer import Restorer


class FaceEnhancer:
    """Restore the faces of images, one image at a time.

    Args:
        detector: Detector of faces.
        restorer: Network that restores them; None to leave them as they are.
        parser: Network that finds the outline of a face; None for a soft square.
        strength: Weight of restored faces against the plain result, 0..1.
        draws: Whether boxes and landmarks are drawn into the result.
    """

    def __init__(
        self,
        detector: FaceDetector,
        restorer: Restorer | None,
        *,
        parser: Parser | None = None,
        strength: float = 1.0,
        draws: bool = False,
    ) -> None:
        self._detector, self._restorer, self._parser = detector, restorer, parser
        self._strength, self._draws = strength, draws

    def find(self, pixels: Pixels) -> list[Face]:
        """Find faces in an image of shape (H, W, 1 or 3), of any type."""
        return self._detector.detect(_as_8_bit_rgb(pixels))

    def apply(self, large: Pixels, source: Pixels, faces: Sequence[Face] | None = None) -> int:
        """Restore the faces of an upscaled image, in place.

        Args:
            large: Upscaled image of shape (H', W', C), C = 1 or 3.
            source: Image that it was upscaled from, shape (H, W, C), of the same type.
            faces: Faces in `source`; None to find them.

        Returns:
            Number of faces.

        Raises:
            MemoryExhaustedError: The device has not enough memory.
            CheckpointError: The network's output is not finite.
        """
        faces = self.find(source) if faces is None else faces
        for face in reversed(faces):  # the best one last, over those that it overlaps
            self._restore(large, source, face)
        for face in faces if self._draws else ():
            draw_face(large, face, (source.shape[1], source.shape[0]))
        return len(faces)

    def _restore(self, large: Pixels, source: Pixels, face: Face) -> None:
        matrix = alignment(face.landmarks)
        if self._restorer is None or matrix is None:
            return
        restored = self._restorer.restore(aligned_face(source, matrix))
        size, size_out = source.shape[1::-1], large.shape[1::-1]
        paste(
            large,
            restored,
            upscaled_alignment(matrix, size, size_out),
            mask=None if self._parser is None else self._parser.mask(restored),
            scale=size_out[0] / size[0],
            strength=self._strength,
        )


def _as_8_bit_rgb(pixels: Pixels) -> NDArray[np.uint8]:
    """Return the image that a detector gets."""
    result = np.empty((*pixels.shape[:2], 3), np.uint8)
    factor = np.float32(255 / full_scale(pixels.dtype))
    for rows in row_chunks(pixels.shape):
        result[rows] = (
            pixels[rows]
            if pixels.dtype == np.uint8
            else np.rint(pixels[rows] * factor).clip(0, 255)
        )
    return result
