"""Make the networks that `-n` names: a single one, a fusion of two, or those of `auto`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from upscale.checkpoints import imported_names, known_name
from upscale.checkpoints.fusion import Fusion, fusion_file, read_fusion
from upscale.errors import CheckpointError, UsageError
from upscale.images import Image, ImageSequence
from upscale.jobs.auto import AutoUpscaler, image_sample
from upscale.jobs.image import ImageUpscaler
from upscale.options import AUTO, EngineOptions

if TYPE_CHECKING:
    from upscale.engine.fusion import FusedUpscaler
    from upscale.engine.loading import Model
    from upscale.engine.upscaler import Upscaler


def networks_of(model: str) -> tuple[str, ...]:
    """Return the names or files of the networks that `-n` names, in the order of their use.

    Raises:
        CheckpointError: A fusion file is damaged.
    """
    path = fusion_path(model)
    return (model,) if path is None else read_fusion(path).networks


def make_networks(
    options: EngineOptions, model: str | Path | Model | None = None
) -> Upscaler | FusedUpscaler | AutoUpscaler:
    """Make the upscaler for the options of a command.

    Args:
        options: Network, device, and how the network is computed.
        model: Network to use instead of the one that the options name; a path is always a file.

    Raises:
        UsageError: A denoising strength is given, which the networks do not support.
        DeviceError: The device or precision is not available.
        CheckpointError: There is no such model, or its file cannot be used.
        DownloadError: The weights could not be downloaded.
        DependencyError: The architecture needs the `community` extra.
    """
    model = options.model if model is None else model
    if model == AUTO:
        return AutoUpscaler(options)
    path = fusion_path(model) if isinstance(model, str | Path) else None
    if path is None:
        return _upscaler(options, model)
    return _fused(options, path, read_fusion(path))


def for_content(upscaler: ImageUpscaler, content: Image | ImageSequence) -> ImageUpscaler:
    """Return the upscaler for an image, an animation or pages.

    A fusion mixes its networks by the median luma of an image. The weight does not jump between
    the frames of an animation.
    """
    from upscale.engine.fusion import FusedUpscaler

    if not isinstance(upscaler, FusedUpscaler):
        return upscaler
    if isinstance(content, Image):
        return upscaler.upscaler_for(image_sample(content).pixels)
    return upscaler.for_frames() if content.animated else upscaler


def _fused(options: EngineOptions, path: Path, fusion: Fusion) -> FusedUpscaler:
    from upscale.engine.fusion import FusedUpscaler

    if options.denoise is not None:
        raise UsageError(f"--denoise is not supported by {path.name}, a fusion of two networks")
    first, second = (_upscaler(options, name) for name in fusion.networks)
    try:
        return FusedUpscaler(first, second, fusion, path.name)
    except ValueError as error:
        scales = f"x{first.model_scale} and x{second.model_scale}"
        raise CheckpointError(f"{path}: its networks have the scales {scales}") from error


def _upscaler(options: EngineOptions, model: str | Path | Model) -> Upscaler:
    from upscale.engine.upscaler import Upscaler

    return Upscaler(
        model,
        device=options.device,
        precision=options.precision,
        tile=options.tile,
        tta=options.tta,
        denoise=options.denoise,
        kernels=options.kernels,
    )


def fusion_path(model: str | Path) -> Path | None:
    """Return the path of a fusion file; None for names of networks, and for other files."""
    is_name = isinstance(model, str) and (
        model == AUTO or known_name(model) is not None or model in imported_names()
    )
    return None if is_name else fusion_file(model)
