"""The codecs that videos can be encoded with, and the registry to which other packages add theirs.

An interrupted video resumes with identical output, so the same frames must always give the same
bytes. That is why thread counts are fixed where the output depends on them. It is also why AVX-512
is disabled for x264: with 8 bits and a width that is not a multiple of 64, x264 read uninitialised
memory there, and gave up to 12 different results in 30 runs.
"""

from __future__ import annotations

import io
import os
from collections.abc import Callable
from dataclasses import dataclass

import av
import cv2

from upscale.video.planes import is_planar, plane_format

SEGMENT_CONTAINER = "matroska"
"""FFmpeg's name of the container of segments."""

_THREADS = "8"
"""Threads of encoders whose output depends on their number."""

_AVX512 = 13  # OpenCV's number of this CPU feature; its Python package has no name for it
_X26X_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium"),
    *("slow", "slower", "veryslow", "placebo"),
)
_NVENC_PRESETS = tuple(f"p{number}" for number in range(1, 8))


@dataclass(frozen=True, slots=True)
class QualityOption:
    """The encoder option that sets the quality.

    Attributes:
        option: FFmpeg's name of the option.
        default: Default value.
        highest: Largest value; the smallest is 0.
    """

    option: str
    default: float
    highest: float


@dataclass(frozen=True, slots=True)
class PresetOption:
    """The encoder option that trades speed for compression.

    Attributes:
        option: FFmpeg's name of the option.
        default: Default value.
        choices: All values.
        default_444: Default value for video without chroma subsampling, if it differs.
    """

    option: str
    default: str
    choices: tuple[str, ...]
    default_444: str | None = None


@dataclass(frozen=True, slots=True)
class HdrParameters:
    """How an encoder takes static HDR10 metadata in its `VideoCodec.parameters`.

    Attributes:
        display: Parameter for the mastering display.
        light: Parameter for the content light level.
        chromaticity_unit: Steps per unit of x and y.
        luminance_unit: Steps per cd/m².
    """

    display: str
    light: str
    chromaticity_unit: int = 1
    luminance_unit: int = 1


@dataclass(frozen=True, slots=True)
class VideoCodec:
    """A codec that videos can be encoded with; add it with `register_codec`.

    Attributes:
        name: Name on the command line.
        encoder: FFmpeg's name of the encoder.
        containers: FFmpeg's names of the containers that support it.
        quality: Option that sets the quality, if any.
        presets: Option that sets the speed, if any.
        options: Options that are always set, unless the user sets them.
        parameters: Option that takes a colon-separated list, such as x265-params, if any.
        hdr: Names and units of HDR10 metadata in `parameters`; None if unsupported.
        packings: Pairs of a planar format and the packed format in which the encoder takes it.
        packings_only: True if other formats that FFmpeg lists are not used.
        rgb_and_grey: True if RGB and grey videos are kept as they are.
        alpha: True if transparency is preserved.
        alpha_formats: Pixel formats with transparency that are used; None for all.
        alpha_containers: FFmpeg's names of the containers that hold it; None for all.
        full_range: True if full range can be tagged.
        least_side: Smallest width and height that the encoder takes.
        needs_even_size: True if the size must be divisible by the chroma subsampling.
        mp4_tag: Codec tag in MP4 and MOV; None for FFmpeg's default.
        preset_tags: Pairs of a preset and its codec tag in all containers.
        adjust: Function that changes the options for this machine when the encoder is opened; its
            changes are ignored when a video resumes.
        aliases: Other names on the command line, besides that of FFmpeg's encoder.

    Example:
        >>> codec = VideoCodec("mpeg4", "mpeg4", ("mp4", "matroska"))
        >>> register_codec(codec)
        >>> "mpeg4" in codec_names()
        True
        >>> unregister_codec("mpeg4")
    """

    name: str
    encoder: str
    containers: tuple[str, ...]
    quality: QualityOption | None = None
    presets: PresetOption | None = None
    options: tuple[tuple[str, str], ...] = ()
    parameters: str | None = None
    hdr: HdrParameters | None = None
    packings: tuple[tuple[str, str], ...] = ()
    packings_only: bool = False
    rgb_and_grey: bool = False
    alpha: bool = False
    alpha_formats: tuple[str, ...] | None = None
    alpha_containers: tuple[str, ...] | None = None
    full_range: bool = True
    least_side: int = 1
    needs_even_size: bool = False
    mp4_tag: str | None = None
    preset_tags: tuple[tuple[str, str], ...] = ()
    adjust: Callable[[dict[str, str]], None] | None = None
    aliases: tuple[str, ...] = ()

    def is_called(self, name: str) -> bool:
        """Return whether a name is one of this codec, in upper or lower case."""
        return name.lower() in (self.name, self.encoder, *self.aliases)

    def pixel_formats(self) -> dict[str, str]:
        """Map each supported planar format to the format in which the encoder takes it."""
        supported = [each.name for each in av.Codec(self.encoder, "w").video_formats or []]
        planar = [] if self.packings_only else filter(is_planar, supported)
        formats = {name: name for name in planar} | dict(self.packings)
        return {
            name: packed
            for name, packed in formats.items()
            if not plane_format(name).alpha or self._has_alpha(name)
        }

    def _has_alpha(self, name: str) -> bool:
        return self.alpha and (self.alpha_formats is None or name in self.alpha_formats)


_codecs: dict[str, VideoCodec] = {}


def register_codec(codec: VideoCodec) -> None:
    """Add a codec, which `--codec` and `VideoEncoding.codec` then accept.

    Raises:
        ValueError: A codec of that name exists, FFmpeg has no such encoder, or Matroska, in which
            segments are stored, does not support it.
    """
    names = (codec.name, *codec.aliases)
    taken = next((name for name in names if find_codec(name) is not None), None)
    if taken is not None:
        raise ValueError(f"codec {taken} is already registered")
    try:
        standard = av.Codec(codec.encoder, "w").canonical_name
    except ValueError as error:
        raise ValueError(f"codec {codec.name}: FFmpeg has no encoder {codec.encoder}") from error
    with av.open(io.BytesIO(), "w", format=SEGMENT_CONTAINER) as container:
        if standard not in container.supported_codecs:
            raise ValueError(f"codec {codec.name}: Matroska does not support {standard}")
    _codecs[codec.name] = codec


def unregister_codec(name: str) -> None:
    """Remove a codec.

    Raises:
        KeyError: No codec has that name.
    """
    del _codecs[name]


def codec_names() -> tuple[str, ...]:
    """Return the names of all codecs, in the order of registration."""
    return tuple(_codecs)


def find_codec(name: str) -> VideoCodec | None:
    """Return the codec that has a name or alias; None if there is none.

    Args:
        name: Name, alias, or FFmpeg's name of the encoder; names come before aliases.
    """
    if name in _codecs:
        return _codecs[name]
    return next((codec for codec in _codecs.values() if codec.is_called(name)), None)


def _disable_avx512(options: dict[str, str]) -> None:
    if cv2.checkHardwareSupport(_AVX512):
        parameters = options.get("x264-params")
        options["x264-params"] = f"asm=avx2:{parameters}" if parameters else "asm=avx2"


def _silence_svt(_: dict[str, str]) -> None:
    os.environ.setdefault("SVT_LOG", "1")  # otherwise SVT-AV1 prints 30 lines to standard error


_LEAST_SVT_SIDE = 32
"""SVT-AV1 never returns from narrower frames."""

_PRORES_TAGS = (
    *(("proxy", "apco"), ("lt", "apcs"), ("standard", "apcn"), ("hq", "apch")),
    *(("4444", "ap4h"), ("4444xq", "ap4x")),
    *(("0", "apco"), ("1", "apcs"), ("2", "apcn"), ("3", "apch"), ("4", "ap4h"), ("5", "ap4x")),
)
"""FourCC of each profile of ProRes, by FFmpeg's names and numbers."""

_NVENC_8BIT = (("yuv420p", "yuv420p"), ("yuv444p", "yuv444p"))
_NVENC_10BIT = (("yuv420p10le", "p010le"), ("yuv444p10le", "yuv444p10msble"))


def _nvenc(
    name: str,
    containers: tuple[str, ...],
    packings: tuple[tuple[str, str], ...],
    mp4_tag: str | None = None,
) -> VideoCodec:
    return VideoCodec(
        name,
        name,
        containers,
        QualityOption("cq", 19, 51),
        PresetOption("preset", "p5", _NVENC_PRESETS),
        (("tune", "hq"), ("rc", "vbr")),
        packings=packings,
        packings_only=True,
        needs_even_size=True,
        mp4_tag=mp4_tag,
    )


_codecs.update(
    (codec.name, codec)
    for codec in (
        VideoCodec(
            "x264",
            "libx264",
            ("mp4", "mov", "matroska"),
            QualityOption("crf", 17, 51),
            PresetOption("preset", "medium", _X26X_PRESETS),
            (("threads", _THREADS),),
            parameters="x264-params",
            hdr=HdrParameters("mastering-display", "cll", 50000, 10000),
            needs_even_size=True,
            adjust=_disable_avx512,
            aliases=("h264", "h.264", "avc"),
        ),
        VideoCodec(
            "x265",
            "libx265",
            ("mp4", "mov", "matroska"),
            QualityOption("crf", 18, 51),
            PresetOption("preset", "medium", _X26X_PRESETS),
            (("x265-params", "log-level=none:frame-threads=4"),),
            parameters="x265-params",
            hdr=HdrParameters("master-display", "max-cll", 50000, 10000),
            needs_even_size=True,
            mp4_tag="hvc1",  # the only tag that Apple's players accept
            aliases=("h265", "h.265", "hevc"),
        ),
        VideoCodec(
            "svt-av1",
            "libsvtav1",
            ("mp4", "matroska", "webm"),
            QualityOption("crf", 20, 63),
            PresetOption("preset", "6", tuple(map(str, range(14)))),
            parameters="svtav1-params",
            hdr=HdrParameters("mastering-display", "content-light"),
            adjust=_silence_svt,
            least_side=_LEAST_SVT_SIDE,
            aliases=("av1", "svtav1"),
        ),
        VideoCodec(
            "vp9",
            "libvpx-vp9",
            ("mp4", "matroska", "webm"),
            QualityOption("crf", 20, 63),
            PresetOption("cpu-used", "4", tuple(map(str, range(6)))),
            (("deadline", "good"), ("row-mt", "1"), ("threads", _THREADS)),
            alpha=True,
            alpha_formats=("yuva420p",),
            alpha_containers=("matroska", "webm"),
        ),
        VideoCodec(
            "prores",
            "prores_ks",
            ("mov", "matroska"),
            presets=PresetOption(
                "profile",
                "hq",
                ("proxy", "lt", "standard", "hq", "4444", "4444xq"),
                default_444="4444",
            ),
            preset_tags=_PRORES_TAGS,
            alpha=True,
            full_range=False,
        ),
        VideoCodec(
            "ffv1",
            "ffv1",
            ("matroska",),
            options=(("level", "3"), ("g", "1"), ("slicecrc", "1")),
            packings=(("gbrp", "bgr0"), ("gbrap", "bgra")),
            rgb_and_grey=True,
            alpha=True,
        ),
        _nvenc("h264_nvenc", ("mp4", "mov", "matroska"), _NVENC_8BIT),
        _nvenc("hevc_nvenc", ("mp4", "mov", "matroska"), _NVENC_8BIT + _NVENC_10BIT, "hvc1"),
        _nvenc("av1_nvenc", ("mp4", "matroska", "webm"), (_NVENC_8BIT[0], _NVENC_10BIT[0])),
    )
)
"""Built-in codecs; not checked with `register_codec`, because some FFmpeg builds lack one."""
