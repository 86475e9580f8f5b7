"""Read and write videos, each frame once and in order, without PyTorch."""

from upscale.video.encoders import (
    VideoCodec,
    VideoEncoding,
    codec_names,
    register_codec,
    unregister_codec,
)
from upscale.video.info import (
    Colour,
    FrameFormat,
    HdrMetadata,
    MasteringDisplay,
    PlaneFormat,
    VideoFrame,
    VideoInfo,
)
from upscale.video.probe import probe
from upscale.video.reader import FrameReader, ReadReport, read_frames

__all__ = [
    "Colour",
    "FrameFormat",
    "FrameReader",
    "HdrMetadata",
    "MasteringDisplay",
    "PlaneFormat",
    "ReadReport",
    "VideoCodec",
    "VideoEncoding",
    "VideoFrame",
    "VideoInfo",
    "codec_names",
    "probe",
    "read_frames",
    "register_codec",
    "unregister_codec",
]
