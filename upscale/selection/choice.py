"""Choose networks for an image, an animation or a video."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from upscale.selection.evidence import DAMAGED_FROM, MEAN_FROM, NOTHING_FOUND, damage_of
from upscale.selection.probing import findings_of
from upscale.selection.traits import Traits, median_of, traits_of

CLEAN, DAMAGED, DRAWING = "realsr-df2k", "realesrgan-x4plus", "realesrgan-x4plus-anime"
"""Networks for clean photos, damaged photos, and drawings."""

# JPEG quality from which the mean of both networks scores better for drawings than one alone.
_FAITHFUL = 97

Probe = Callable[[str, NDArray[Any]], NDArray[Any]]
"""Upscales an (H, W, C) crop with the network of this name."""


@dataclass(frozen=True, slots=True, eq=False)
class Sample:
    """An image, or one frame of an animation or a video, as the network gets it.

    Attributes:
        pixels: Image of shape (H, W, C), C = 1 or 3, uint8, uint16, or float32 in 0..1.
        quality: JPEG quality, 1..100, of the file's quantisation; None if the file is not lossy or
            its quality is unknown.
    """

    pixels: NDArray[Any]
    quality: int | None = None


@dataclass(frozen=True, slots=True)
class Choice:
    """The networks for an image, and why.

    Attributes:
        weights: Weight of each network's output in the result, by catalogue name; the sum is 1.
        reason: One clause for people, for example `no noise or compression artefacts found`.
        is_clean: Whether the image is free of noise and compression artefacts, so that its colours
            can be trusted.
    """

    weights: Mapping[str, float]
    reason: str
    is_clean: bool


def choose(samples: Sequence[Sample], probe: Probe) -> Choice:
    """Choose the networks for an image, or for all frames of an animation or a video.

    Args:
        samples: The image, or some of the frames.
        probe: Upscales crops of a sample; called only where the samples alone leave doubt.
    """
    traits = _traits_of(samples)
    damage, reason = damage_of(traits, NOTHING_FOUND)
    is_clean = damage < MEAN_FROM
    if _is_crisp_drawing(traits):
        return Choice(
            {CLEAN: 0.5, DRAWING: 0.5}, "a crisp drawing without JPEG artefacts", is_clean=True
        )
    if traits.drawing:
        return Choice({DRAWING: 1.0}, "a drawing: flat colours and hard edges", is_clean)
    if damage < DAMAGED_FROM:
        middle = samples[len(samples) // 2].pixels
        found = findings_of(middle, lambda crop: probe(DAMAGED, crop))
        damage, reason = damage_of(traits, found)
        is_clean = damage < MEAN_FROM
    if damage >= DAMAGED_FROM:
        return Choice({DAMAGED: 1.0}, reason, is_clean)
    if traits.palette:
        return Choice({CLEAN: 0.5, DAMAGED: 0.5}, "a dithered palette", is_clean=False)
    if damage >= MEAN_FROM:
        return Choice({CLEAN: 0.5, DAMAGED: 0.5}, reason, is_clean)
    return Choice({CLEAN: 1.0}, "no noise or compression artefacts found", is_clean)


def looks_clean(samples: Sequence[Sample]) -> bool:
    """Whether an image is free of noise and compression artefacts, without running a network.

    Args:
        samples: The image, or some of the frames of an animation or a video. Without any, the
            result is False.
    """
    if not samples:
        return False
    traits = _traits_of(samples)
    if _is_crisp_drawing(traits):
        return True
    return not traits.palette and damage_of(traits, NOTHING_FOUND)[0] < MEAN_FROM


def _is_crisp_drawing(traits: Traits) -> bool:
    return bool(traits.drawing and traits.crisp) and traits.quality >= _FAITHFUL


def _traits_of(samples: Sequence[Sample]) -> Traits:
    return median_of([traits_of(sample.pixels, sample.quality) for sample in samples])
