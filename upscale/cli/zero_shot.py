"""`upscale --zero-shot`: the only link from upscaling to the training package, imported lazily."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from upscale.errors import UsageError
from upscale.jobs.model_info import ModelInfo
from upscale.jobs.trained import SCALES, TrainedUpscaler
from upscale.options import ESTIMATE, EngineOptions, Options, ZeroShotOptions

if TYPE_CHECKING:
    from upscale_training.kernel_files import Kernel

    from upscale.engine.upscaler import Upscaler
    from upscale.jobs.image import Pixels, TileProgress

NAME = "zero-shot"
"""Name of the network in reports and file names."""


def zero_shot_info() -> ModelInfo:
    """Return what planning needs of the network."""
    return ModelInfo(NAME, SCALES[0])


def check_zero_shot(options: Options) -> None:
    """Check the options of the default command that concern a network for one image.

    Raises:
        UsageError: Options cannot be combined.
    """
    training, engine = options.training, options.engine
    if not training.zero_shot:
        if training.kernel is not None:
            raise UsageError("--kernel needs --zero-shot: finished networks cannot use a kernel")
        return
    for flag, is_given in (
        ("--denoise", engine.denoise is not None),
        ("--fidelity", engine.fidelity is not None),
        ("--normal-map", options.texture.normal_map),
        ("--faces-only", options.faces.faces_only),
    ):
        if is_given:
            raise UsageError(f"--zero-shot and {flag} exclude each other: choose one")
    if training.kernel is not None and engine.tta:
        raise UsageError(
            "--kernel and --tta exclude each other: a flipped image has another kernel"
        )


def make_zero_shot(engine: EngineOptions, options: ZeroShotOptions) -> TrainedUpscaler:
    """Return an upscaler that trains a network on each image.

    Args:
        engine: Device, precision and tiles.
        options: Kernel and seed.

    Raises:
        TrainingError: The file of the kernel cannot be read.
        UsageError: The file contains several kernels.
    """
    kernel = None if options.kernel in (None, ESTIMATE) else _read_kernel(Path(options.kernel))

    def train(pixels: Pixels, scale: int, progress: TileProgress | None) -> Upscaler:
        from upscale_training.zero_shot import ZeroShotSettings, train_on

        from upscale.engine.device import pick_device
        from upscale.engine.loading import Model
        from upscale.engine.upscaler import Upscaler

        settings = ZeroShotSettings(
            scale, kernel, seed=options.seed, device=str(pick_device(engine.device)),
            estimates_kernel=options.kernel == ESTIMATE,
        )  # fmt: skip
        network = train_on(pixels, settings, progress)
        return Upscaler(
            Model.from_network(NAME, network.cpu()),
            device=engine.device,
            precision=engine.precision,
            tile=engine.tile,
            tta=engine.tta,
            kernels=engine.kernels,
        )

    return TrainedUpscaler(train)


def _read_kernel(path: Path) -> Kernel:
    from upscale_training.kernel_files import read_kernels

    first, *others = read_kernels(path)
    if others:
        raise UsageError(f"--kernel {path}: contains several kernels; name a file with one")
    return first
