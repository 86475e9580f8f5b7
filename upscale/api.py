"""`Upscaler` of the public interface: arrays, files and PIL images, with transparency.

The engine computes arrays of one or three channels. This module adds what needs the image package:
reading files, PIL images, and transparency, which is handled as on the command line.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, overload

import numpy as np
from numpy.typing import NDArray
from PIL import Image as PilImage

from upscale.engine import upscaler as engine
from upscale.engine.canvas import DEPTHS, as_image, check_tensor
from upscale.engine.choices import KeepColour, Seamless
from upscale.engine.colour_correction import keep_colour, keep_colour_tensor
from upscale.engine.fusion import FusedUpscaler
from upscale.engine.loading import Model
from upscale.engine.report import Progress, ProgressCallback, Report, Result
from upscale.errors import UsageError
from upscale.images import Image, Metadata, read_image
from upscale.jobs.auto import AutoUpscaler, image_sample
from upscale.jobs.colour import keeps_colour_of
from upscale.jobs.image import upscale_image
from upscale.jobs.inputs import reject_address
from upscale.jobs.networks import make_networks
from upscale.options import AUTO, EngineOptions, TextureOptions

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    import torch
    from torch import Tensor

    from upscale.engine.mixing import MixedUpscaler
    from upscale.selection import Choice

File: TypeAlias = "str | PathLike[str] | bytes"
"""Path of an image file, or its content."""

ImageLike: TypeAlias = "NDArray[Any] | PilImage.Image | Image | File"
"""Everything that `Upscaler` takes."""

_GREY_ALPHA, _RGB_ALPHA = 2, 4
_CONVERTED_MODES: Mapping[str, str] = {"1": "L", "PA": "RGBA", "I;16L": "I;16", "I;16B": "I;16"}
_PIL_MODES = ("L", "LA", "RGB", "RGBA", "I;16")


class Upscaler:
    """A model on a device, ready to upscale arrays, files and PIL images.

    Args:
        model: Catalogue name, name of an imported model, checkpoint file, fusion file, or a loaded
            `Model`. With `auto`, networks are chosen for each image, and loaded when they are first
            needed.
        device: Device that computes: `auto`, `cpu`, `cuda`, `cuda:N`, `mps`, `xpu` or `xpu:N`.
        precision: Precision of the network: `fp32`, `fp16`, `bf16` or `auto`, which is fp32 on a
            CPU and on older NVIDIA GPUs, and fp16 on all others.
        tile: Side of a tile in image pixels, at least 16; 0 for no tiles; `auto` for the largest
            that fits into memory. It changes memory and time, never the image.
        tta: Whether to average the results of the eight flips and quarter turns, which softens
            the image and takes eight times as long.
        denoise: Denoising strength for models with a denoising partner, 0..1. None for the model's
            default.
        fidelity: Weight of the network for clean photos against that for damaged ones, from 0
            (most cleaning) to 1 (most faithful), for `auto` only; None to choose by the image.
        kernels: Whether faster convolutions replace torch's where available. The image is the
            same up to rounding.
        keep_colour: Whether results get the colours of their images, which networks shift a
            little; `auto` for images without noise and compression artefacts.

    Raises:
        UsageError: An option has an invalid value.
        DeviceError: The device or precision is not available.
        CheckpointError: There is no such model, or its file cannot be used.
        DownloadError: The weights could not be downloaded.
        DependencyError: The architecture needs the `community` extra.

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

    def __init__(
        self,
        model: str | Path | Model = AUTO,
        *,
        device: str = "auto",
        precision: str = "auto",
        tile: int | Literal["auto"] = "auto",
        tta: bool = False,
        denoise: float | None = None,
        fidelity: float | None = None,
        kernels: bool = True,
        keep_colour: bool | Literal["auto"] = "auto",
    ) -> None:
        engine.check_tile(tile)
        if fidelity is not None and not 0 <= fidelity <= 1:
            raise UsageError(f"a fidelity of {fidelity:g} is outside 0..1")
        name = model.name if isinstance(model, Model) else str(model)
        options = EngineOptions(name, tile, device, precision, tta, denoise, kernels, fidelity)
        self._networks = make_networks(options, model)
        self._keep_colour: KeepColour = "auto"
        if not isinstance(keep_colour, str):
            self._keep_colour = "on" if keep_colour else "off"
        self._for_tensors: _TensorUpscaler | None = None

    @property
    def model_name(self) -> str:
        """The model's name."""
        return self._networks.model_name

    @property
    def model_scale(self) -> int:
        """Output pixels per image pixel and axis before the final resize."""
        return self._networks.model_scale

    @property
    def device(self) -> torch.device:
        """The device that computes."""
        return self._networks.device

    @property
    def device_name(self) -> str:
        """The device as `--device` spells it."""
        return self._networks.device_name

    @property
    def kernels_name(self) -> str:
        """The implementation of the convolutions, for example `torch`; a GPU is autotuned first."""
        return self._networks.kernels_name

    @property
    def precision_name(self) -> str:
        """The precision as `--precision` spells it."""
        return self._networks.precision_name

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
            The report, whose `choice` says which networks `auto` has chosen, and why; and the
            pixels as an array, whose last channel is alpha if there is any.
        """
        if isinstance(array, np.ndarray) and not _has_alpha(array):
            as_image(array)  # raises an error that says what an array must be
            image = Image(np.atleast_3d(array))
            upscaler, choice = self._chosen(lambda: image)
            result = upscaler.run(
                array, scale=scale, size=size, seamless=seamless, progress=progress
            )
            keeps = keeps_colour_of(image, self._keep_colour, choice=choice)
            if keeps:
                keep_colour(np.atleast_3d(result.pixels), image.pixels, seamless)
            return replace(result, report=replace(result.report, choice=choice, colour_kept=keeps))
        large, report = self._upscale_image(_read(array), scale, size, seamless, progress)
        return Result(_joined(large), report)

    def run_tensor(self, image: Tensor, *, size: tuple[int, int] | None = None) -> Tensor:
        """Upscale an image tensor and return the result on the tensor's device.

        The first tensor decides for all later ones about the networks of `auto` and about colours,
        so that the frames of a video do not differ. Make one object for each video.

        Args:
            image: Tensor of shape (1, C, H, W), float32 in 0..1, C = 1 or 3, all values finite.
            size: Output size as (width, height); None for the model's scale.

        Returns:
            Tensor of shape (1, C, H', W'), float32 in 0..1, with the values that `run` computes.

        Raises:
            UsageError: The tensor is not an image, or the size is not positive.
            MemoryExhaustedError: The smallest tile does not fit into memory.
            CheckpointError: The network's output is not finite, even in fp32.
        """
        if self._for_tensors is None:
            check_tensor(image)
            pixels = image[0].permute(1, 2, 0).contiguous().cpu().numpy()
            first = Image(pixels)
            upscaler, choice = self._chosen(lambda: first)
            keeps = bool(keeps_colour_of(first, self._keep_colour, choice=choice))
            self._for_tensors = _TensorUpscaler(upscaler, keeps)
        return self._for_tensors.run(image, size)

    def resolve_tile(self, width: int, height: int, tile: int | None = None) -> int:
        """Pin an automatic tile, so that all further images are computed with the same one.

        Args:
            width: Width of the images.
            height: Height of the images.
            tile: Tile to use in place of `auto`; None chooses it from the available memory now.

        Returns:
            The tile in image pixels, 0 for none. A tile that was given as a number is kept.
        """
        return self._networks.resolve_tile(width, height, tile)

    def _chosen(
        self, image: Callable[[], Image]
    ) -> tuple[engine.Upscaler | MixedUpscaler, Choice | None]:
        """Return the upscaler for an image, which is only made if networks must be chosen."""
        if isinstance(self._networks, FusedUpscaler):
            return self._networks.upscaler_for(image_sample(image()).pixels), None
        if not isinstance(self._networks, AutoUpscaler):
            return self._networks, None
        choice = self._networks.choose_for(image())
        return self._networks.upscaler_for(choice), choice

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

        upscaler, choice = self._chosen(lambda: image)
        texture = TextureOptions(seamless=seamless)
        keeps = keeps_colour_of(image, self._keep_colour, choice=choice)
        large, report = upscale_image(
            image, target, upscaler, relay, texture, keep_colour=bool(keeps)
        )
        return large, replace(report, choice=choice, colour_kept=keeps)


@dataclass(frozen=True, slots=True)
class _TensorUpscaler:
    """The network for tensors, and whether it keeps colours, as the first tensor has decided."""

    upscaler: engine.Upscaler | MixedUpscaler
    keeps_colour: bool

    def run(self, image: Tensor, size: tuple[int, int] | None) -> Tensor:
        """Upscale a tensor; see `Upscaler.run_tensor`."""
        large = self.upscaler.run_tensor(image, size=size)
        return keep_colour_tensor(large, image) if self.keeps_colour else large


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
