"""How one bad image is made of a good one: chosen, drawn, described, replayed."""

from __future__ import annotations

import difflib
import hashlib
import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from upscale.errors import ImageError, UsageError
from upscale.files.error_mapping import one_line
from upscale.files.printable import printable
from upscale_training.data.pixels import Pixels
from upscale_training.degradation import Degradation, apply, draw, sharpen
from upscale_training.degradation.operations import Mode
from upscale_training.recipe.settings import DegradationRecipe

CHAINS = {
    "real-esrgan": DegradationRecipe("real-esrgan"),
    "classical": DegradationRecipe("classical", sharpen=False),
    "generic": DegradationRecipe("generic", sharpen=False),
}
"""What can be named without a recipe; only Real-ESRGAN sharpens first."""

_RECIPES = (".yaml", ".yml")
_DEGRADATIONS = 1
"""The stream of random numbers that upscale_training draws degradations from."""


@dataclass(frozen=True, slots=True)
class DegradedSample:
    """What is done to a good image.

    Attributes:
        degradation: what happens to it.
        sharpen: sharpen it first, as Real-ESRGAN's upscale_training does.
    """

    degradation: Degradation
    sharpen: bool = False

    def make(self, good: Pixels) -> Pixels:
        """Make a bad image (h, w, 3) of a good one (H, W, 3)."""
        images = torch.from_numpy(good.copy()).permute(2, 0, 1)[None].float() / 255
        found = apply(sharpen(images) if self.sharpen else images, [self.degradation])
        return (found[0] * 255).round().byte().permute(1, 2, 0).contiguous().numpy()

    def as_dict(self) -> dict[str, Any]:
        """Plain values that `from_dict` reads."""
        return {"sharpen": self.sharpen} | self.degradation.as_dict()

    @staticmethod
    def from_dict(found: Any) -> DegradedSample:  # noqa: ANN401 -- whatever JSON held
        """Read what `as_dict` gave; other keys beside its own are passed over.

        Raises:
            UsageError: it describes no degradation.
        """
        degradation = Degradation.from_dict(found)
        sharpened = found.get("sharpen", False)
        if not isinstance(sharpened, bool):
            raise UsageError(f"not the description of a degradation: sharpen is {sharpened!r}")
        return DegradedSample(degradation, sharpened)


@dataclass(frozen=True, slots=True)
class DegradationSampler:
    """What treatments are drawn from.

    Attributes:
        recipe: the chain; not `none`.
        scale: what sides are divided by.
        seed: of all draws, at least 0.
    """

    recipe: DegradationRecipe
    scale: int = 4
    seed: int = 0

    def __post_init__(self) -> None:
        if self.recipe.settings(self.scale) is None:
            raise UsageError("chain none degrades nothing; name another one")

    def treatment(self, sample: int | str) -> DegradedSample:
        """Draw what is done to an image.

        Args:
            sample: a number draws what upscale_training does to its sample of that number (with mode
                `official`, to the first of a batch that begins with it); a name draws the same
                for it whatever other names there are.
        """
        settings = self.recipe.settings(self.scale)
        assert settings is not None, "checked above"
        if isinstance(sample, str):
            digest = hashlib.sha256(sample.encode("utf-8", "surrogateescape")).digest()
            sample = int.from_bytes(digest[:8], "big")
        generator = np.random.default_rng((self.seed, _DEGRADATIONS, sample))
        return DegradedSample(draw(settings, 1, generator)[0], self.recipe.sharpen)


def find_sampler(
    chain: str, *, mode: Mode | None = None, scale: int | None = None, seed: int | None = None
) -> DegradationSampler:
    """Find what a chain's name, or a recipe's file, stands for.

    Args:
        chain: one of `CHAINS`, or the path of a recipe.
        mode: default: the recipe's.
        scale: default: that of the recipe's network, or 4.
        seed: default: the recipe's, or 0.

    Raises:
        UsageError: there is no such chain, or it cannot be used so.
        TrainingError: the recipe cannot be used.
        DependencyError: a package that recipes need is not installed.
    """
    found = (CHAINS.get(chain), 4, 0)
    if Path(chain).suffix.lower() in _RECIPES:
        from upscale_training.recipe.reading import read_recipe

        whole = read_recipe(Path(chain))
        found = whole.degradation, whole.network.scale, whole.seed
    recipe, own_scale, own_seed = found
    if recipe is None:
        near = difflib.get_close_matches(chain, CHAINS, n=1)
        hint = f"did you mean {near[0]}?" if near else f"there are {', '.join(CHAINS)}"
        raise UsageError(f"chain {chain}: is none, nor a recipe's .yaml file; {hint}")
    recipe = replace(recipe, mode=mode or recipe.mode)
    return DegradationSampler(recipe, scale or own_scale, own_seed if seed is None else seed)


@dataclass(frozen=True, slots=True)
class Replayed:
    """What a description says: what is done, and the part (x, y, width, height) it was done to."""

    treatment: DegradedSample
    crop: tuple[int, int, int, int] | None


def read_descriptions(file: Path) -> list[Replayed]:
    """Read descriptions, one a line, or a single one.

    Raises:
        UsageError: the file cannot be read, or holds something else.
    """
    try:
        return [_replayed(found) for found in _read_json(file.read_text("utf-8"))]
    except OSError as error:
        raise UsageError(f"{printable(file)}: cannot be read ({one_line(error)})") from error
    except (UsageError, ValueError, RecursionError) as error:
        raise UsageError(
            f"{printable(file)}: {one_line(error)}; give what --json printed"
        ) from error


def _replayed(found: Any) -> Replayed:  # noqa: ANN401 -- whatever JSON held
    treatment, crop = DegradedSample.from_dict(found), found.get("crop")
    if crop is None:
        return Replayed(treatment, None)
    if not isinstance(crop, list) or [type(each) for each in crop] != [int] * 4:
        raise UsageError(f"a crop is x, y, width and height, not {crop!r}")
    x, y, width, height = crop
    return Replayed(treatment, (x, y, width, height))


def _read_json(content: str) -> list[Any]:
    """Read one value, or one a line."""
    try:
        return [json.loads(content)]
    except ValueError:
        lines = [line for line in content.split("\n") if line.strip()]
        if len(lines) < 2:
            raise
        return [json.loads(line) for line in lines]


def divisible(pixels: Pixels, scale: int, name: str) -> Pixels:
    """Cut (H, W, 3) at the right and at the bottom, so that both sides divide by the scale.

    Raises:
        ImageError: nothing would be left of the image called `name`.
    """
    height, width = (side // scale * scale for side in pixels.shape[:2])
    if not height or not width:
        raise ImageError(f"{name}: is less than {scale} pixels wide or high; take a larger one")
    return pixels[:height, :width]
