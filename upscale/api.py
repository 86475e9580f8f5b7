"""`Upscaler` of the public interface: arrays, files and PIL images, with transparency.

The engine computes arrays of one or three channels. This module adds what needs the image package:
reading files, PIL images, and transparency, which is handled as on the command line.
"""

from __future__ import annotations

from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from upscale.engine import upscaler as engine
from upscale.engine.canvas import DEPTHS
from upscale.engine.choices import Seamless
from upscale.engine.report import Progress, ProgressCallback, Report, Result
from upscale.errors import UsageError
from upscale.images import Image, Metadata, read_image
from upscale.jobs.image import upscale_image
from upscale.jobs.inputs import reject_address
from upscale.options import TextureOptions

if TYPE_CHECKING:
    from collections.abc import Mapping

File: TypeAlias = "str | PathLike[str] | bytes"
"""Path of an image file, or its content."""

ImageLike: TypeAlias = "NDArray[Any] | PilImage.Image | Image | File"
"""Everything that `Upscaler` takes."""

_GREY_ALPHA, _RGB_ALPHA = 2, 4
_CONVERTED_MODES: Mapping[str, str] = {"1": "L", "PA": "RGBA", "I;16L": "I;16", "I;16B": "I;16"}
_PIL_MODES = ("L", "LA", "RGB", "RGBA", "I;16")


class Upscaler(engine.Upscaler):
    """A model on a device, ready to upscale arrays, files and PIL images.

    It takes the arguments of `upscale.engine.upscaler.Upscaler`, and raises the same errors.

    Example:
        >>> import numpy as np
        >>> from PIL import Image
        >>> from upscale import Upscaler
        >>> upscaler = Upscaler("realesr-animevideov3", device="cpu")
        >>> upscaler.upscale(np.zeros((6, 8, 3), np.uint8)).shape
        (24, 32, 3)
        >>> upscaler.upscale(np.zeros((6, 8, 4), np.uint16), scale=1.5).shape
        (9, 12, 4)
        >>> Image.new("RGBA", (8, 6)).save("photo.png")
        >>> upscaler.upscale(Image.open("photo.png")).size
        (32, 24)
        >>> upscaler.upscale("photo.png", size=(16, 12)).alpha.shape
        (12, 16)
    """

    @overload
    def upscale(
        self,
        array: NDArray[Any],
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        seamless: Seamless = "",
        progress: ProgressCallback | None = None,
    ) -> NDArray[Any]: ...
    @overload
    def upscale(
        self,
        array: PilImage.Image,
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        seamless: Seamless = "",
        progress: ProgressCallback | None = None,
    ) -> PilImage.Image: ...
    @overload
    def upscale(
        self,
        array: Image | File,
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        seamless: Seamless = "",
        progress: ProgressCallback | None = None,
    ) -> Image: ...
    def upscale(
        self,
        array: ImageLike,
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        seamless: Seamless = "",
        progress: ProgressCallback | None = None,
    ) -> NDArray[Any] | PilImage.Image | Image:
        """Upscale an image.

        Args:
            array: Array of shape (H, W) or (H, W, C), with C = 1 (grey), 2 (grey and alpha), 3
                (RGB) or 4 (RGB and alpha), uint8, uint16, or float32 in 0..1; a PIL image of mode
                1, L, LA, P, PA, RGB, RGBA or I;16; the path or the content of an image file; or an
                `upscale.images.Image`. Alpha is not premultiplied.
            scale: Ratio of output to input size, any positive number; None for the model's scale.
            size: Output size as (width, height), instead of `scale`.
            seamless: Directions in which the image repeats: `x`, `y` or `xy`; empty for none.
            progress: Callback after each tile, in the calling thread.

        Returns:
            An array for an array, with its dtype, axes and channels; a PIL image for a PIL image;
            for a file, an `upscale.images.Image` with the file's metadata, which
            `upscale.images.write_file` saves.

        Raises:
            UsageError: The image is none of these, or the size is not positive.
            ImageError: The file cannot be read, or contains several frames or pages.
            MemoryExhaustedError: The smallest tile does not fit into memory.
            CheckpointError: The network's output is not finite, even in fp32.
        """
        if isinstance(array, np.ndarray):
            result = self.run(array, scale=scale, size=size, seamless=seamless, progress=progress)
            return result.pixels
        large, _ = self._upscale_image(_read(array), scale, size, seamless, progress)
        return _to_pil(large, array) if isinstance(array, PilImage.Image) else large

    def run(
        self,
        array: ImageLike,
        *,
        scale: float | None = None,
        size: tuple[int, int] | None = None,
        seamless: Seamless = "",
        progress: ProgressCallback | None = None,
    ) -> Result:
        """Upscale an image and report how it was computed; see `upscale` for the arguments.

        Returns:
            The report, and the pixels as an array, whose last channel is alpha if there is any.
        """
        if isinstance(array, np.ndarray) and not _has_alpha(array):
            return super().run(array, scale=scale, size=size, seamless=seamless, progress=progress)
        large, report = self._upscale_image(_read(array), scale, size, seamless, progress)
        return Result(_joined(large), report)

    def _upscale_image(
        self,
        image: Image,
        scale: float | None,
        size: tuple[int, int] | None,
        seamless: Seamless,
        progress: ProgressCallback | None,
    ) -> tuple[Image, Report]:
        ratio = self.model_scale if scale is None else scale
        target = engine.output_size(image.width, image.height, ratio, size)

        def relay(done: int, total: int) -> None:
            if progress is not None:
                progress(Progress(done, total))

        return upscale_image(image, target, self, relay, TextureOptions(seamless=seamless))


def _has_alpha(array: NDArray[Any]) -> bool:
    return array.ndim == 3 and array.shape[2] in (_GREY_ALPHA, _RGB_ALPHA)


def _read(image: ImageLike) -> Image:
    """Return any accepted image as pixels, alpha and metadata."""
    if isinstance(image, Image):
        return image
    if isinstance(image, np.ndarray):
        return _from_array(image)
    if isinstance(image, PilImage.Image):
        return _from_pil(image)
    if isinstance(image, bytes):
        return read_image(image)
    if isinstance(image, str | PathLike):  # pyright: ignore[reportUnnecessaryIsInstance]
        reject_address(str(image))
        return read_image(Path(image))
    raise UsageError(
        f"cannot upscale a {type(image).__name__}: pass a NumPy array, a PIL image, the path or "
        "content of an image file, or an upscale.images.Image"
    )


def _from_array(array: NDArray[Any]) -> Image:
    """Split an array with alpha; other arrays are checked by the engine."""
    if not array.size or array.dtype not in DEPTHS:
        raise UsageError(
            f"an array of shape {array.shape} and type {array.dtype} is not an image: "
            "use uint8, uint16 or float32"
        )
    return Image(np.ascontiguousarray(array[..., :-1]), np.ascontiguousarray(array[..., -1]))


def _from_pil(image: PilImage.Image) -> Image:
    mode = _CONVERTED_MODES.get(image.mode, image.mode)
    if image.mode == "P" or (image.mode in ("L", "RGB") and "transparency" in image.info):
        grey = "LA" if image.mode == "L" else "RGBA"
        mode = grey if "transparency" in image.info else "RGB"
    if mode not in _PIL_MODES:
        raise UsageError(
            f"cannot upscale a PIL image of mode {image.mode}: pass image.convert('RGB'), or a "
            "float32 array in 0..1"
        )
    array = np.array(image if mode == image.mode else image.convert(mode))
    array = array.astype(np.uint16) if mode == "I;16" else array
    metadata = Metadata(icc=image.info.get("icc_profile"))
    if mode in ("LA", "RGBA"):
        return Image(
            np.ascontiguousarray(array[..., :-1]), np.ascontiguousarray(array[..., -1]), metadata
        )
    return Image(np.atleast_3d(array), None, metadata)


def _to_pil(image: Image, source: PilImage.Image) -> PilImage.Image:
    """Return a PIL image with the information of its source, for example its profile."""
    pixels = _joined(image)
    large = PilImage.fromarray(pixels[..., 0] if pixels.shape[2] == 1 else pixels)
    large.info = {key: value for key, value in source.info.items() if key != "transparency"}
    return large


def _joined(image: Image) -> NDArray[Any]:
    return image.pixels if image.alpha is None else np.dstack((image.pixels, image.alpha))
