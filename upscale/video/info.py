"""Plain values that describe a video and its frames."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Literal

import numpy as np

from upscale.video.numbered_images import NumberedImages

Matrix = Literal["bt601", "bt709", "bt2020", "rgb"]
Plane = np.ndarray[tuple[int, int], np.dtype[np.uint8 | np.uint16]]

UNSPECIFIED = 2
"""Value of ITU-T H.273 for colour properties that are not tagged."""

PQ, HLG = 16, 18
"""Transfer functions of HDR videos, numbered as in ITU-T H.273."""

ANIMATION_FORMATS = frozenset({"gif", "apng", "webp_anim", "jpegxl_anim"})
"""FFmpeg's names of the formats of animated images."""

DEFAULT_MAX_PIXELS = 1 << 27
"""Largest width * height of a frame that is decoded by default."""


@dataclass(frozen=True)
class Colour:
    """Colour properties of planes, numbered as in ITU-T H.273.

    Attributes:
        matrix: Conversion between YUV and RGB; "bt601" covers SMPTE 170M and BT.470 BG.
        full_range: True if 8-bit samples span 0..255 rather than 16..235 (chroma 16..240).
        primaries: Tagged colour primaries.
        transfer: Tagged transfer function, such as `PQ` or `HLG`.
        space: Tagged matrix coefficients.
        guessed: True if the matrix is not tagged and was guessed from the height.
        chroma_location: Chroma sample position as numbered by FFmpeg: 0 unspecified, 1 left,
            2 centre, 3 top left, 4 top, 5 bottom left, 6 bottom.
    """

    matrix: Matrix
    full_range: bool
    primaries: int = UNSPECIFIED
    transfer: int = UNSPECIFIED
    space: int = UNSPECIFIED
    guessed: bool = False
    chroma_location: int = 0

    @property
    def is_hdr(self) -> bool:
        """Whether the transfer function is PQ or HLG."""
        return self.transfer in (PQ, HLG)


@dataclass(frozen=True)
class PlaneFormat:
    """A planar pixel format.

    Attributes:
        name: FFmpeg's name of the format, such as "yuv420p10le".
        depth: Bits per sample; planes are uint8 for 8 bits, and uint16 above, in the low bits.
        chroma_across: Base-2 logarithm of the horizontal chroma subsampling, 0 or more.
        chroma_down: Base-2 logarithm of the vertical chroma subsampling, 0 or more.
        kind: Planes of the format: Y, U, V; or R, G, B; or Y alone.
        alpha: True if one more plane, of full size, contains the opacity.
    """

    name: str
    depth: int
    chroma_across: int
    chroma_down: int
    kind: Literal["yuv", "rgb", "grey"]
    alpha: bool = False


@dataclass(frozen=True)
class FrameFormat:
    """Size, planes and colours of frames: everything that a conversion of frames depends on.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        planes: Planar pixel format.
        colour: Colour properties of the planes.
    """

    width: int
    height: int
    planes: PlaneFormat
    colour: Colour

    def plane_shapes(self) -> list[tuple[int, int]]:
        """Return the height and width of each plane."""
        full = (self.height, self.width)
        chroma = (
            -(-self.height >> self.planes.chroma_down),
            -(-self.width >> self.planes.chroma_across),
        )
        rest = [] if self.planes.kind == "grey" else [chroma, chroma]
        return [full, *rest] + [full] * self.planes.alpha


@dataclass(frozen=True)
class FrameShape:
    """Size of frames, and shape of their pixels.

    Attributes:
        width: Width in pixels.
        height: Height in pixels.
        aspect: Width of a pixel divided by its height; 1 if it is not tagged.
    """

    width: int
    height: int
    aspect: Fraction


@dataclass(frozen=True)
class MasteringDisplay:
    """The display on which a video was graded (SMPTE ST 2086).

    Attributes:
        primaries: Chromaticities x and y of red, green, blue and white; None if not tagged.
        luminance: Luminance of black and white in cd/m²; None if not tagged.
    """

    primaries: tuple[tuple[Fraction, Fraction], ...] | None
    luminance: tuple[Fraction, Fraction] | None


@dataclass(frozen=True)
class HdrMetadata:
    """Static HDR10 metadata.

    Attributes:
        mastering: Mastering display.
        content_light: MaxCLL and MaxFALL in cd/m².
    """

    mastering: MasteringDisplay | None
    content_light: tuple[int, int] | None


@dataclass(frozen=True)
class VideoInfo:
    """Properties of the video stream of a file, as returned by `probe`.

    Attributes:
        path: The file.
        stream: Index of the video stream in the file.
        width: Stored width in pixels, before rotation.
        height: Stored height in pixels, before rotation.
        planes: Planar pixel format of the frames that `read_frames` returns.
        source_format: FFmpeg's name of the decoder's pixel format; differs from `planes.name` if
            frames are converted.
        colour: Colour properties of the planes.
        time_base: Duration in seconds of one unit of time.
        frame_times: Presentation times of all expected frames in units of `time_base`, sorted;
            edit lists are applied.
        rate: Average frame rate in frames per second; only a hint.
        duration: Duration in seconds including the last frame; None if unknown.
        sample_aspect: Width of a pixel divided by its height; None if not tagged.
        display_matrix: FFmpeg's nine numbers that rotate and mirror the frames for display.
        rotation: Counter-clockwise rotation by `display_matrix` in degrees, -180..180.
        interlaced: True if frames consist of two fields.
        hdr: Static HDR10 metadata.
        timecode: Timecode of the first frame, such as "01:00:00:00".
        codec: FFmpeg's name of the codec, such as "h264".
        container: FFmpeg's name of the container, such as "mov,mp4,m4a,3gp,3g2,mj2".
        keyframe_times: Times of frames at which decoding can start; empty if it can only start
            at the beginning.
        sequential: True if frames are identified by their position, because their timestamps are
            unusable.
        lost: Approximate times of frames that are known to be missing; not in `frame_times`.
        warnings: Problems of the file, one line each.
        end_unknown: True if the container does not record where it ends, so that truncation cannot
            be detected.
        max_pixels: Largest accepted width * height of a frame.
        offsets: Seconds that were added to the file's own times, in each part between two jumps
            of its clock; empty if nothing was added. See `upscale.video.timeline`.
        embedded: Names of data in the stream beside its frames that no output keeps.
        registered: Names of data in its packets that some codecs keep, such as closed captions.
        progressive: Number of frames that are flagged as progressive although `interlaced` is
            true; None if the codec does not flag each one.
        images: The images if the video consists of numbered ones; `path` is then their pattern.
        pads: Whether frames of another shape get black bars instead of being stretched.
        changes: Changes of the frames' size and of the pixels' shape that the headers announce, one
            line each.
        origin: The video as it is stored, if its fields become other frames; see `conversions`.
        conversion: Kind of filtering that makes these; empty for none.
    """

    path: Path
    stream: int
    width: int
    height: int
    planes: PlaneFormat
    source_format: str
    colour: Colour
    time_base: Fraction
    frame_times: tuple[int, ...]
    rate: Fraction
    duration: Fraction | None
    sample_aspect: Fraction | None
    display_matrix: tuple[int, ...] | None
    rotation: int
    interlaced: bool
    hdr: HdrMetadata | None
    timecode: str | None
    codec: str
    container: str
    keyframe_times: tuple[int, ...] = ()
    sequential: bool = False
    lost: tuple[int, ...] = ()
    warnings: tuple[str, ...] = ()
    end_unknown: bool = False
    max_pixels: int = DEFAULT_MAX_PIXELS
    offsets: tuple[Fraction, ...] = ()
    embedded: tuple[str, ...] = ()
    registered: tuple[str, ...] = ()
    progressive: int | None = None
    images: NumberedImages | None = None
    pads: bool = False
    changes: tuple[str, ...] = ()
    origin: VideoInfo | None = None
    conversion: Literal["", "field", "ivtc"] = ""

    @property
    def source(self) -> Path | NumberedImages:
        """What is opened to read the video."""
        return self.images or self.path

    @property
    def files(self) -> tuple[Path, ...]:
        """All files of the video."""
        return (self.path,) if self.images is None else tuple(self.images.paths())

    @property
    def frame_format(self) -> FrameFormat:
        """Size, planes and colours of the frames that `read_frames` returns."""
        return FrameFormat(self.width, self.height, self.planes, self.colour)


@dataclass(frozen=True, eq=False)
class VideoFrame:
    """A decoded frame.

    Attributes:
        pts: Presentation time in units of the video's time base.
        planes: Contiguous arrays of shape (height, width), uint8 or uint16, that own their memory:
            Y, U, V or R, G, B or Y, and alpha if the format has it.
        repeats: True if the frame counts as equal to the previous one; see `duplicates`.
    """

    pts: int
    planes: tuple[Plane, ...]
    repeats: bool = False
