"""Decide whether results get the colours of their source."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from upscale.images import Image, ImageSequence
from upscale.jobs.auto import samples_of
from upscale.jobs.image import PLAIN
from upscale.options import TextureOptions

if TYPE_CHECKING:
    from upscale.engine.choices import KeepColour
    from upscale.selection import Choice, Sample


def keeps_colour(
    mode: KeepColour, samples: Callable[[], Sequence[Sample]], choice: Choice | None = None
) -> bool:
    """Return whether the colours of a source are kept.

    Args:
        mode: Mode of the user; `auto` keeps the colours of sources without noise and artefacts,
            which can change colours themselves.
        samples: Function that returns the image, or some frames of a video; called for `auto`
            without a choice.
        choice: Choice of networks, which knows whether the source is clean; None without one.
    """
    if mode != "auto":
        return mode == "on"
    if choice is not None:
        return choice.is_clean
    from upscale.selection import looks_clean

    return looks_clean(samples())


def keeps_colour_of(
    content: Image | ImageSequence,
    mode: KeepColour,
    texture: TextureOptions = PLAIN,
    choice: Choice | None = None,
) -> bool | None:
    """Return whether the colours of an image, or of all frames of a sequence, are kept.

    Args:
        content: Image or sequence.
        mode: Mode of the user.
        texture: Kind of the content.
        choice: Choice of networks, which knows whether the content is clean; None without one.

    Returns:
        The decision; None for normal maps, which have no colours.

    Raises:
        ImageError: A frame cannot be read.
    """
    if texture.normal_map:
        return None
    return keeps_colour(mode, lambda: samples_of(content), choice)
