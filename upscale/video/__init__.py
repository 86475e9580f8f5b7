"""Videos: what they are, and their frames, each once and in order. No torch."""

from upscale.video.info import (
    Colour,
    HdrMetadata,
    Mastering,
    PlaneFormat,
    VideoFrame,
    VideoInfo,
)
from upscale.video.probe import probe
from upscale.video.reader import FrameReader, ReadReport, read_frames

__all__ = [
    "Colour",
    "FrameReader",
    "HdrMetadata",
    "Mastering",
    "PlaneFormat",
    "ReadReport",
    "VideoFrame",
    "VideoInfo",
    "probe",
    "read_frames",
]
