"""LR images made from HR images outside of training: sampled, described, replayed."""

from __future__ import annotations

import difflib
import hashlib
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from upscale.errors import ImageError, UsageError
from upscale.files.error_mapping import one_line
from upscale.files.parse import parse_json
from upscale.files.printable import printable
from upscale_training.data.pixels import Pixels
from upscale_training.degradation import Degradation, apply, sample, sharpen
from upscale_training.degradation.operations import Mode
from upscale_training.recipe.settings import DegradationRecipe

CHAINS = {
    "real-esrgan": DegradationRecipe("real-esrgan"),
    "classical": DegradationRecipe("classical", sharpen=False),
    "generic": DegradationRecipe("generic", sharpen=False),
}
"""Chains that have a name without a recipe; only Real-ESRGAN sharpens first."""

_RECIPE_SUFFIXES = (".yaml", ".yml")
_DEGRADATION_STREAM = 1
"""Stream of random numbers that training samples degradations from."""


@dataclass(frozen=True, slots=True)
class DegradedSample:
    """The degradation of one HR image.

    Attributes:
        degradation: Operations on the image.
        sharpen: Whether to sharpen the image first, as in the training of Real-ESRGAN.
    """

    degradation: Degradation
    sharpen: bool = False

    def make(self, hr: Pixels) -> Pixels:
        """Return the LR image.

        Args:
            hr: Array of shape (H, W, 3), uint8, RGB.

        Returns:
            Array of shape (h, w, 3), uint8, RGB.
        """
        images = torch.from_numpy(hr.copy()).permute(2, 0, 1)[None].float() / 255
        lr = apply(sharpen(images) if self.sharpen else images, [self.degradation])
        return (lr[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()

    def as_dict(self) -> dict[str, Any]:
        """Return plain values that `from_dict` reads."""
        return {"sharpen": self.sharpen} | self.degradation.as_dict()

    @staticmethod
    def from_dict(values: Any) -> DegradedSample:  # noqa: ANN401 -- whatever JSON held
        """Read the values that `as_dict` returned; unknown keys are ignored.

        Raises:
            UsageError: The values describe no degradation.
        """
        degradation = Degradation.from_dict(values)
        sharpened = values.get("sharpen", False)
        if not isinstance(sharpened, bool):
            raise UsageError(f"not the description of a degradation: sharpen is {sharpened!r}")
        return DegradedSample(degradation, sharpened)


@dataclass(frozen=True, slots=True)
class DegradationSampler:
    """Samples degradations by number or name.

    Attributes:
        recipe: Degradation of a recipe; its chain is not `none`.
        scale: Number that the sides of an image are divided by.
        seed: Seed of all random numbers, at least 0.

    Raises:
        UsageError: The chain is `none`, or does not fit the scale.
    """

    recipe: DegradationRecipe
    scale: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.recipe.settings(self.scale) is None:
            raise UsageError("the chain none degrades nothing; name another one")

    def sample(self, key: int | str) -> DegradedSample:
        """Sample the degradation of an image.

        Args:
            key: A number gives the degradation of the training sample with this number (in the
                mode `official`, of the first sample of a batch). A name always gives the same
                degradation, independently of other names.
        """
        settings = self.recipe.settings(self.scale)
        assert settings is not None, "checked in __post_init__"
        if isinstance(key, str):
            digest = hashlib.sha256(key.encode("utf-8", "surrogateescape")).digest()
            key = int.from_bytes(digest[:8], "big")
        generator = np.random.default_rng((self.seed, _DEGRADATION_STREAM, key))
        return DegradedSample(sample(settings, 1, generator)[0], self.recipe.sharpen)


def find_sampler(
    chain: str, *, mode: Mode | None = None, scale: int | None = None, seed: int | None = None
) -> DegradationSampler:
    """Return the sampler of a named chain or of a recipe file.

    Args:
        chain: Name in `CHAINS`, or path of a recipe.
        mode: Mode of the degradation; None for the recipe's.
        scale: Scale; None for that of the recipe's network, or 4.
        seed: Seed; None for the recipe's, or 0.

    Raises:
        UsageError: There is no such chain, or it does not fit the mode or scale.
        TrainingError: The recipe cannot be used.
        DependencyError: A package that recipes need is not installed.
    """
    recipe, recipe_scale, recipe_seed = CHAINS.get(chain), 4, 0
    if Path(chain).suffix.lower() in _RECIPE_SUFFIXES:
        from upscale_training.recipe.reading import read_recipe

        whole = read_recipe(Path(chain))
        recipe, recipe_scale, recipe_seed = whole.degradation, whole.network.scale, whole.seed
    if recipe is None:
        near = difflib.get_close_matches(chain, CHAINS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"chains are {', '.join(CHAINS)}"
        raise UsageError(f"{chain}: neither a degradation chain nor a recipe (.yaml); {hint}")
    recipe = replace(recipe, mode=mode or recipe.mode)
    return DegradationSampler(recipe, scale or recipe_scale, recipe_seed if seed is None else seed)


@dataclass(frozen=True, slots=True)
class Replayed:
    """A degradation read from a description.

    Attributes:
        sample: The degradation.
        crop: The degraded part of the image as (x, y, width, height), or None for all of it.
    """

    sample: DegradedSample
    crop: tuple[int, int, int, int] | None


def read_descriptions(file: Path) -> list[Replayed]:
    """Read a single description, or several, one per line.

    Raises:
        UsageError: The file cannot be read, or contains something else.
    """
    try:
        return [_replayed(values) for values in _read_json(file.read_text("utf-8"))]
    except OSError as error:
        raise UsageError(f"{printable(file)}: cannot be read ({one_line(error)})") from error
    except (UsageError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{printable(file)}: {one_line(error)}; use the output of --json"
        ) from error


def _replayed(values: Any) -> Replayed:  # noqa: ANN401 -- whatever JSON held
    degraded, crop = DegradedSample.from_dict(values), values.get("crop")
    if crop is None:
        return Replayed(degraded, None)
    if not isinstance(crop, list) or [type(each) for each in crop] != [int] * 4:
        raise UsageError(f"a crop is x, y, width and height, not {crop!r}")
    x, y, width, height = crop
    return Replayed(degraded, (x, y, width, height))


def _read_json(content: str) -> list[Any]:
    """Read one value, or one per line."""
    try:
        return [parse_json(content)]
    except ValueError:
        lines = [line for line in content.split("\n") if line.strip()]
        if len(lines) < 2:
            raise
        return [parse_json(line) for line in lines]


def divisible(pixels: Pixels, scale: int, name: str) -> Pixels:
    """Crop (H, W, 3) at the right and bottom, so that the scale divides both sides.

    Args:
        pixels: Array of shape (H, W, 3).
        scale: Divisor of the sides.
        name: Name of the image, for messages.

    Raises:
        ImageError: The image is smaller than the scale.
    """
    height, width = (side // scale * scale for side in pixels.shape[:2])
    if not height or not width:
        raise ImageError(f"{name}: smaller than {scale} pixels; use a larger image")
    return pixels[:height, :width]
