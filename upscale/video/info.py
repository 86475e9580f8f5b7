"""What is known of a video before and while its frames are read: plain values, shared by all."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

Matrix = Literal["bt601", "bt709", "bt2020", "rgb"]
Plane = np.ndarray[tuple[int, int], np.dtype[np.uint8 | np.uint16]]

UNSPECIFIED = 2

DEFAULT_MAX_PIXELS = 1 << 27
"""Width times height of frames above which a video is refused before any is decoded."""


@dataclass(frozen=True)
class Colour:
    """How planes become colours; numbers are those of ITU-T H.273, 2 where nothing is said.

    Attributes:
        matrix: Between luma, chroma and red, green, blue; "bt601" covers SMPTE 170M and BT.470 BG.
        full_range: Whether 8 bits run from 0 to 255 rather than from 16 to 235 (240 for chroma).
        primaries: As tagged.
        transfer: As tagged; 16 is PQ, 18 is HLG.
        space: As tagged: the number of the matrix.
        guessed: Whether the video says nothing of its matrix, which was chosen by its height.
        chroma_location: FFmpeg's number: 0 unspecified, 1 left, 2 centre, 3 top left, 4 top,
            5 bottom left, 6 bottom.
    """

    matrix: Matrix
    full_range: bool
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    space: int = UNSPECIFIED
    guessed: bool = False
    chroma_location: int = 0


@dataclass(frozen=True)
class PlaneFormat:
    """A planar pixel format.

    Attributes:
        name: FFmpeg's name of the format that the planes are in, such as "yuv420p10le".
        depth: Bits of a sample; planes are uint8 up to 8 and uint16 above, in the low bits.
        chroma_across: Logarithm of the chroma planes' horizontal reduction: 0 or more.
        chroma_down: The same of the vertical one.
        kind: Planes are Y, U, V; or R, G, B; or Y alone.
        alpha: Whether one more plane, of full size, holds the opacity.
    """

    name: str
    depth: int
    chroma_across: int
    chroma_down: int
    kind: Literal["yuv", "rgb", "grey"]
    alpha: bool = False


@dataclass(frozen=True)
class Mastering:
    """The display on which a video was graded.

    Attributes:
        primaries: x and y of red, green and blue, then of white; None where not said.
        luminance: Of black and of white in candelas per square metre; None where not said.
    """

    primaries: tuple[tuple[Fraction, Fraction], ...] | None
    luminance: tuple[Fraction, Fraction] | None


@dataclass(frozen=True)
class HdrMetadata:
    """HDR10's static metadata.

    Attributes:
        mastering: The display of the grading.
        content_light: MaxCLL and MaxFALL in candelas per square metre.
    """

    mastering: Mastering | None
    content_light: tuple[int, int] | None


@dataclass(frozen=True)
class VideoInfo:
    """A video's video stream, as found by looking through the file once.

    Attributes:
        path: The file.
        stream: Index of the video stream in the file.
        width: In pixels, as stored, before rotation.
        height: The same.
        planes: The format in which frames are handed out.
        source_format: FFmpeg's name of the decoder's own format; `planes.name` unless converted.
        colour: How planes become colours.
        time_base: Seconds in a unit of `plan`.
        plan: Times of all frames that should come, sorted, edit lists respected.
        rate: Average frames a second; a hint, no more.
        duration: Of the whole video in seconds, its last frame included; None where not known.
        sample_aspect: Width of a pixel by its height; None where not said.
        display_matrix: FFmpeg's nine numbers, which turn and mirror the image for display.
        rotation: Degrees, counter-clockwise, by which `display_matrix` turns: -180 to 180.
        interlaced: Whether frames are made of two fields.
        top_first: Whether the upper field of an interlaced video comes first.
        hdr: Static metadata of HDR10.
        timecode: Of the first frame, such as "01:00:00:00".
        codec: FFmpeg's name of the codec, such as "h264".
        container: FFmpeg's name of the container, such as "mov,mp4,m4a,3gp,3g2,mj2".
        keys: Times of frames at which decoding can start; empty where it has to at the beginning.
        sequential: Whether frames are told by their number as they come, not by their time.
        lost: Times, some of them about, of frames known to be missing, which are not in the plan.
        warnings: What is wrong with the file, a line each; none for a sound one.
        open_end: Whether its container does not say where it ends, so that a missing end would not
            be seen.
        max_pixels: The most that width times height of a frame may be.
    """

    path: Path
    stream: int
    width: int
    height: int
    planes: PlaneFormat
    source_format: str
    colour: Colour
    time_base: Fraction
    plan: tuple[int, ...]
    rate: Fraction
    duration: Fraction | None
    sample_aspect: Fraction | None
    display_matrix: tuple[int, ...] | None
    rotation: int
    interlaced: bool
    top_first: bool
    hdr: HdrMetadata | None
    timecode: str | None
    codec: str
    container: str
    keys: tuple[int, ...] = ()
    sequential: bool = False
    lost: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    open_end: bool = False
    max_pixels: int = DEFAULT_MAX_PIXELS


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """A decoded frame.

    Attributes:
        pts: Time in units of the video's time base.
        planes: (height, width) each, uint8 or uint16, contiguous, with memory of their own: Y, U,
            V or R, G, B or Y, and then alpha where the format has it.
        repeats: Whether all planes equal those of the frame that came before.
    """

    pts: int
    planes: tuple[Plane, ...]
    repeats: bool = False
