"""Films: what they are, and their frames, each once and in order. No torch."""

from upscale.video.film import (
    Colour,
    Film,
    HdrMetadata,
    Mastering,
    PlaneFormat,
    VideoFrame,
)

__all__ = ["Colour", "Film", "HdrMetadata", "Mastering", "PlaneFormat", "VideoFrame"]
