"""Choose, check and configure the encoder of an upscaled video before any frame is computed.

The default quality is meant to be visually transparent. On three clips (live action, animation,
street scene; 24 frames each, upscaled and sharpened) x264 at CRF 17 reached a mean luma SSIM of
0.989 to 0.993 and a PSNR of 46 to 49 dB; the defaults of the other codecs reach the same values.
NVENC was not measured.
"""

from __future__ import annotations

import re
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.logging
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from upscale.errors import OutputError, UsageError
from upscale.files.printable import printable
from upscale.video.codecs import (
    SEGMENT_CONTAINER,
    HdrParameters,
    PresetOption,
    QualityOption,
    VideoCodec,
    codec_names,
    find_codec,
    register_codec,
    unregister_codec,
)
from upscale.video.info import (
    ANIMATION_FORMATS,
    UNSPECIFIED,
    Colour,
    FrameFormat,
    HdrMetadata,
    PlaneFormat,
    VideoInfo,
)
from upscale.video.planes import plane_format
from upscale.video.scheduling import ordinary_priority

__all__ = [
    "CONTAINERS",
    "MP4_CONTAINERS",
    "SEGMENT_CONTAINER",
    "Encoder",
    "HdrParameters",
    "PresetOption",
    "QualityOption",
    "VideoCodec",
    "VideoEncoding",
    "choose_colour",
    "choose_planes",
    "codec_names",
    "configure",
    "container_of",
    "register_codec",
    "resolve_encoder",
    "tag_stream",
    "unregister_codec",
]

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
"""Output suffixes and FFmpeg's names of their containers."""

MP4_CONTAINERS = ("mp4", "mov")
"""FFmpeg's names of the containers of the MP4 family."""


_SPACES = {"bt601": (6, 5), "bt709": (1,), "bt2020": (9,), "rgb": (0,)}
"""H.273 numbers of each matrix; the first is written if nothing is tagged."""

_CHROMA_LEFT = 1
_ROUNDING = 2
_NEARLY_SQUARE = Fraction(1, 100)
_PAL_HEIGHTS = (288, 576)
_UNKNOWN_OPTION = re.compile(r"^(?:Unknown option:?|Error parsing option) '?(.+?)(?: = .*?)?'?\.?$")


@dataclass(frozen=True, slots=True)
class VideoEncoding:
    """Encoding options of a user; None means the default of the codec.

    Attributes:
        codec: Name or alias of a registered codec; by default x264, in WebM vp9, and in WebM with
            more than 8 bits and without transparency svt-av1.
        crf: Quality on the scale of the codec; lower is better.
        preset: Speed preset of the codec (ProRes: the profile).
        pixel_format: FFmpeg's name of the pixel format, such as "yuv420p10le".
        options: Additional options of the encoder, as FFmpeg names them.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pixel_format: str | None = None
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Encoder:
    """All settings of an encoder that was opened successfully.

    Attributes:
        codec: Name of the codec, never an alias.
        ffmpeg_name: FFmpeg's name of the encoder.
        container: FFmpeg's name of the container.
        frame_format: Format of the frames that are passed to it; all colours are tagged.
        pixel_format: Pixel format of the encoder: the same planes, possibly packed.
        options: Options of the encoder.
        tag: Codec tag in the container, or None for the usual one.
        time_base: Duration in seconds of one unit of time, as in the source.
        rate: Frame rate in frames per second; only a hint.
        sample_aspect: Width of a pixel divided by its height; None if not tagged.
        notes: Properties of the source frames that the output cannot preserve, one line each.
    """

    codec: str
    ffmpeg_name: str
    container: str
    frame_format: FrameFormat
    pixel_format: str
    options: tuple[tuple[str, str], ...]
    tag: str | None
    time_base: Fraction
    rate: Fraction
    sample_aspect: Fraction | None
    notes: tuple[str, ...] = ()

    @property
    def standard(self) -> str:
        """FFmpeg's name of the codec itself, such as "h264"."""
        return av.Codec(self.ffmpeg_name, "w").canonical_name


def container_of(output: Path) -> str:
    """Return FFmpeg's name of the container that an output's suffix selects.

    Raises:
        OutputError: Videos cannot be written to files with that suffix.
    """
    try:
        return CONTAINERS[output.suffix.lower()]
    except KeyError:
        raise OutputError(
            f"{printable(output)}: videos cannot be written to files"
            f" {f'that end in {output.suffix}' if output.suffix else 'without a suffix'};"
            f" choose one of {', '.join(CONTAINERS)}"
        ) from None


def resolve_encoder(
    video: VideoInfo, encoding: VideoEncoding, output: Path, size: tuple[int, int]
) -> Encoder:
    """Resolve all settings of an encoder, and open it once to check that they work.

    Args:
        video: Source video.
        encoding: Options of the user.
        output: Output file; its suffix selects the container.
        size: Width and height of the output in pixels.

    Raises:
        UsageError: An option is unknown or not supported by the codec.
        OutputError: The container does not support the codec, or the encoder cannot be opened.
    """
    container = container_of(output)
    requested = encoding.codec or _default_codec(container, video)
    codec = find_codec(requested)
    if codec is None:
        raise UsageError(
            f"--codec {requested}: unknown codec; choose one of {', '.join(codec_names())}"
        )
    name = codec.name
    if container not in codec.containers:
        suffixes = [suffix for suffix, each in CONTAINERS.items() if each in codec.containers]
        raise OutputError(
            f"{printable(output)}: {output.suffix} does not support {name};"
            f" use {', '.join(suffixes)} or another --codec"
        )
    if codec.alpha_containers is not None and container not in codec.alpha_containers:
        codec = replace(codec, alpha=False)
    requested = encoding.pixel_format or _common_format(codec, video, size)
    planes, pixel_format = choose_planes(codec, video.planes, requested)
    _check_size(codec, planes, size)
    options = _merge_options(codec, encoding, planes, video.hdr)
    encoder = Encoder(
        codec=name,
        ffmpeg_name=codec.encoder,
        container=container,
        frame_format=FrameFormat(*size, planes, choose_colour(video, planes, codec)),
        pixel_format=pixel_format,
        options=options,
        tag=_tag(codec, container, dict(options)),
        time_base=video.time_base,
        rate=video.rate,
        sample_aspect=_sample_aspect(video, size),
        notes=tuple(_losses(codec, video, planes)),
    )
    _check_opens(encoder)
    return encoder


def _default_codec(container: str, video: VideoInfo) -> str:
    if container != "webm":
        return "x264"
    # FFmpeg's VP9 encoder takes 8 bits only, and its AV1 encoder no transparency.
    return "svt-av1" if video.planes.depth > 8 and not video.planes.alpha else "vp9"


def configure(context: VideoCodecContext, encoder: Encoder) -> None:
    """Apply all settings to an encoder that is not open yet."""
    context.width, context.height = encoder.frame_format.width, encoder.frame_format.height
    context.pix_fmt = encoder.pixel_format
    context.time_base = encoder.time_base
    context.framerate = encoder.rate
    options = dict(encoder.options)
    codec = find_codec(encoder.codec)
    if codec is not None and codec.adjust is not None:
        codec.adjust(options)
    chroma_location = encoder.frame_format.colour.chroma_location
    if chroma_location:
        options["chroma_sample_location"] = str(chroma_location)
    context.options = options
    if encoder.tag is not None:
        context.codec_tag = encoder.tag
    tag_stream(context, encoder)


def tag_stream(context: VideoCodecContext, encoder: Encoder) -> None:
    """Tag a stream with its colours and pixel aspect ratio."""
    colour = encoder.frame_format.colour
    context.color_range = 2 if colour.full_range else 1
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    context.colorspace = colour.space
    if encoder.sample_aspect:
        context.sample_aspect_ratio = encoder.sample_aspect


def _check_opens(encoder: Encoder) -> None:
    """Open the encoder once, and check that it accepts every option."""
    context = cast("VideoCodecContext", av.CodecContext.create(encoder.ffmpeg_name, "w"))
    configure(context, encoder)
    with _capture_warnings() as logs:
        try:
            with ordinary_priority():
                context.open()
        except (FFmpegError, ValueError) as error:
            raise _map_error(encoder, [text.strip() for _, _, text in logs], error) from error
        matches = [_UNKNOWN_OPTION.search(text.strip()) for _, _, text in logs]
    unknown = [*context.options, *(match[1] for match in matches if match)]
    if unknown:
        raise UsageError(
            f"--encoder-option {', '.join(unknown)}: {encoder.ffmpeg_name} has no such option"
        )


def _map_error(encoder: Encoder, lines: list[str], error: Exception) -> UsageError | OutputError:
    """Return the error to raise when an encoder does not open."""
    reason = lines[-1] if lines else " ".join(str(error).split())
    if reason.startswith("Error setting"):
        return UsageError(f"--encoder-option: {encoder.ffmpeg_name} reports: {reason}")
    frames = encoder.frame_format
    return OutputError(
        f"{encoder.codec} cannot encode {frames.width}x{frames.height} as {encoder.pixel_format}"
        f" on this machine ({reason})"
    )


@contextmanager
def _capture_warnings() -> Generator[list[tuple[int, str, str]]]:
    """Collect FFmpeg's warnings of this thread."""
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture(local=True) as logs:
            yield logs
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)


def choose_planes(
    codec: VideoCodec, source: PlaneFormat, requested: str | None
) -> tuple[PlaneFormat, str]:
    """Choose the planes of an output.

    Args:
        codec: Codec with its pixel formats.
        source: Planes of the source.
        requested: Pixel format that the user named; None for that which loses least.

    Returns:
        The planes, and the pixel format in which the encoder takes them.

    Raises:
        UsageError: The codec does not support the pixel format.
    """
    formats = codec.pixel_formats()
    if requested is not None:
        if requested not in formats:
            raise UsageError(
                f"--pix-fmt {requested}: not supported by {codec.name};"
                f" choose one of {', '.join(formats)}"
            )
        return plane_format(requested), formats[requested]
    candidates = [
        planes
        for planes in map(plane_format, formats)
        if (codec.rgb_and_grey or planes.kind == "yuv") and planes.alpha <= source.alpha
    ]
    best = min(candidates, key=lambda planes: _format_cost(source, planes))
    return best, formats[best.name]


def _common_format(codec: VideoCodec, video: VideoInfo, size: tuple[int, int]) -> str | None:
    """Return the format that plays everywhere for an animation, whose colours are few anyway."""
    is_even = not (size[0] % 2 or size[1] % 2)
    is_animation = video.source_format == "pal8" or video.container in ANIMATION_FORMATS
    return "yuv420p" if is_animation and codec.needs_even_size and is_even else None


def _format_cost(source: PlaneFormat, target: PlaneFormat) -> tuple[int, ...]:
    """Rank a target format: what it loses counts before what it wastes."""
    across, down = source.chroma_across, source.chroma_down
    if source.kind == "grey" and target.kind == "yuv":
        across, down = 1, 1
    lost = max(0, target.chroma_across - across) + max(0, target.chroma_down - down)
    return (
        source.kind != target.kind,
        source.alpha and not target.alpha,
        max(0, source.depth - target.depth),
        lost,
        max(0, across - target.chroma_across) + max(0, down - target.chroma_down),
        max(0, target.depth - source.depth),
    )


def _sample_aspect(video: VideoInfo, size: tuple[int, int]) -> Fraction | None:
    """Return the pixel aspect ratio that shows a video of oblong pixels in its own shape."""
    source = video.sample_aspect
    if source in (None, 1):
        return source
    stretch = Fraction(size[0], video.width) / Fraction(size[1], video.height)
    # A side is rounded to whole pixels, and to even ones.
    if abs(stretch - 1) <= Fraction(_ROUNDING, size[0]) + Fraction(_ROUNDING, size[1]):
        return source
    aspect = source / stretch
    return Fraction(1) if abs(aspect - 1) < _NEARLY_SQUARE else aspect.limit_denominator(255)


def _tag(codec: VideoCodec, container: str, options: Mapping[str, str]) -> str | None:
    """Return the codec tag of an output; None for FFmpeg's default."""
    preset = options.get(codec.presets.option) if codec.presets else None
    by_preset = dict(codec.preset_tags).get(preset or "")
    return by_preset or (codec.mp4_tag if container in MP4_CONTAINERS else None)


def _check_size(codec: VideoCodec, planes: PlaneFormat, size: tuple[int, int]) -> None:
    width, height = size
    if min(size) < codec.least_side:
        raise OutputError(
            f"{codec.name} cannot encode {width}x{height}; its least side is {codec.least_side};"
            " use another --codec or a larger scale"
        )
    is_odd = width % (1 << planes.chroma_across) or height % (1 << planes.chroma_down)
    if codec.needs_even_size and is_odd:
        raise OutputError(
            f"{codec.name} cannot encode {width}x{height} as {planes.name}, which needs an even"
            " width and height; use --pix-fmt yuv444p, --codec vp9 or another scale"
        )


def choose_colour(video: VideoInfo, planes: PlaneFormat, codec: VideoCodec) -> Colour:
    """Return the colours of the source, with everything tagged that the conversion fixes.

    Args:
        video: Source video.
        planes: Planes of the output.
        codec: Codec of the output.
    """
    source = video.colour
    if planes.kind == "rgb":
        return replace(source, matrix="rgb", full_range=True, space=0, chroma_location=0)
    matrix = "bt709" if source.matrix == "rgb" else source.matrix
    spaces = _SPACES[matrix]
    if matrix == "bt601" and video.height in _PAL_HEIGHTS:
        spaces = spaces[::-1]
    location = 0
    if (planes.chroma_across, planes.chroma_down) == (1, 1):
        is_same = (video.planes.chroma_across, video.planes.chroma_down) == (1, 1)
        location = (source.chroma_location if is_same else 0) or _CHROMA_LEFT
    return replace(
        source,
        matrix=matrix,
        full_range=source.full_range and codec.full_range and source.matrix != "rgb",
        space=source.space if source.space in spaces else spaces[0],
        primaries=source.primaries or UNSPECIFIED,
        transfer=source.transfer or UNSPECIFIED,
        chroma_location=location,
    )


def _merge_options(
    codec: VideoCodec, encoding: VideoEncoding, planes: PlaneFormat, hdr: HdrMetadata | None
) -> tuple[tuple[str, str], ...]:
    """Merge the options of the codec with the user's, which take precedence."""
    options = dict(codec.options)
    options |= _quality(codec, encoding.crf)
    options |= _preset(codec, encoding.preset, planes)
    own = codec.parameters
    # Encoders apply the last of several values in such a list.
    parameters = [options.get(own or "", ""), *_hdr_parameters(codec, hdr)]
    for option, value in encoding.options:
        if option == own:
            parameters.append(value)
        else:
            options[option] = value
    if own is not None and any(parameters):
        options[own] = ":".join(filter(None, parameters))
    return tuple(options.items())


def _quality(codec: VideoCodec, crf: float | None) -> dict[str, str]:
    quality = codec.quality
    if quality is None:
        if crf is not None:
            raise UsageError(f"--crf: not supported by {codec.name}")
        return {}
    if crf is not None and not 0 <= crf <= quality.highest:
        raise UsageError(f"--crf {crf:g}: {codec.name} accepts 0 to {quality.highest:g}")
    return {quality.option: f"{quality.default if crf is None else crf:g}"}


def _preset(codec: VideoCodec, preset: str | None, planes: PlaneFormat) -> dict[str, str]:
    presets = codec.presets
    if presets is None:
        if preset is not None:
            raise UsageError(f"--preset: not supported by {codec.name}")
        return {}
    if preset is not None and preset not in presets.choices:
        raise UsageError(f"--preset {preset}: {codec.name} accepts {', '.join(presets.choices)}")
    default_444 = None if planes.chroma_across else presets.default_444
    return {presets.option: preset or default_444 or presets.default}


def _hdr_parameters(codec: VideoCodec, hdr: HdrMetadata | None) -> Iterable[str]:
    """Yield the HDR10 metadata as parameters of the encoder."""
    names = codec.hdr
    if hdr is None or names is None:
        return
    mastering = hdr.mastering
    if mastering is not None and mastering.primaries and mastering.luminance:
        unit = names.chromaticity_unit
        red, green, blue, white = (
            f"({_decimal(x * unit)},{_decimal(y * unit)})" for x, y in mastering.primaries
        )
        black, peak = (_decimal(each * names.luminance_unit) for each in mastering.luminance)
        yield f"{names.display}=G{green}B{blue}R{red}WP{white}L({peak},{black})"
    if hdr.content_light is not None:
        yield f"{names.light}={hdr.content_light[0]},{hdr.content_light[1]}"


def _decimal(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.8f}".rstrip("0")


def _losses(codec: VideoCodec, video: VideoInfo, planes: PlaneFormat) -> Iterable[str]:
    """Yield a line for each property of the source frames that the output cannot preserve."""
    source = video.planes
    if planes.depth < source.depth:
        yield f"{codec.name} reduces the video from {source.depth} to {planes.depth} bits"
    if source.alpha and not planes.alpha:
        yield f"{codec.name} does not preserve transparency"
    coarser = planes.chroma_across > source.chroma_across or planes.chroma_down > source.chroma_down
    if coarser and source.kind != "grey":
        yield f"{codec.name} as {planes.name} reduces the chroma resolution of {source.name}"
    if codec.name == "x264" and planes.chroma_down == 0 and video.codec != "h264":
        yield f"x264 as {planes.name} does not play in browsers; --pix-fmt yuv420p does"
    if video.hdr is not None and not any(_hdr_parameters(codec, video.hdr)):
        yield f"{codec.name} does not preserve HDR10 metadata"
