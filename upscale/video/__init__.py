"""Films: what they are, and their frames, each once and in order. No torch."""

from upscale.video.film import (
    Colour,
    Film,
    HdrMetadata,
    Mastering,
    PlaneFormat,
    VideoFrame,
)
from upscale.video.probe import probe
from upscale.video.reader import FrameReader, ReadReport, read_frames

__all__ = [
    "Colour",
    "Film",
    "FrameReader",
    "HdrMetadata",
    "Mastering",
    "PlaneFormat",
    "ReadReport",
    "VideoFrame",
    "probe",
    "read_frames",
]
