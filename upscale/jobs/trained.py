"""Networks that are trained on each image itself before they upscale it."""

from __future__ import annotations

from collections.abc import Callable

from upscale.errors import ImageError
from upscale.files.printable import printable
from upscale.images import Image, ImageSequence
from upscale.jobs.auto import samples_of
from upscale.jobs.image import ImageJob, ImageUpscaler, Pixels, TileProgress

SCALES = (2, 4)
"""Scales of the networks; a resize makes up the difference to other sizes."""

Train = Callable[[Pixels, int, TileProgress | None], ImageUpscaler]
"""Trains a network on (H, W, C) pixels, C = 1 or 3, for one of `SCALES`."""


class TrainedUpscaler:
    """Trains a network on each image.

    Args:
        train: Function that trains a network. It calls its last argument with the steps done and
            in total.
    """

    def __init__(self, train: Train) -> None:
        self._train = train

    def upscaler_for(
        self, content: Image | ImageSequence, job: ImageJob, progress: TileProgress | None
    ) -> ImageUpscaler:
        """Return a network that was trained on an image, or on a middle frame of a sequence.

        Raises:
            ImageError: A frame cannot be read, or no network can be trained on the image.
        """
        samples = samples_of(content)
        if not samples:
            raise ImageError(f"{printable(job.label)}: no frame could be decoded")
        scale = SCALES[0] if job.scale <= SCALES[0] else SCALES[1]
        try:
            return self._train(samples[len(samples) // 2].pixels, scale, progress)
        except ImageError as error:
            raise ImageError(f"{printable(job.label)}: {error}") from error
