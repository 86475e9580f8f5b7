"""How an upscaled video is encoded, settled and tried before any frame is computed.

Defaults are meant to be transparent to the eye. On three clips (video, animation, street scene; 24
frames each, upscaled and sharpened) x264's crf 17 gave a mean SSIM of luma of 0.989 to 0.993 and a
PSNR of 46 to 49 dB; the other codecs' numbers are those that gave the same. NVENC's was not
measured.

A video is resumed bit for bit, so an encoder has to give the same bytes for the same frames. That
is why the numbers of threads are fixed where the result depends on them, and why x264 is kept from
AVX-512: with 8 bits, it then read memory that nobody had written, wherever the width in pixels was
no multiple of 64, and gave up to 12 different results in 30 runs.
"""

from __future__ import annotations

import os
import re
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from typing import cast

import av
import av.logging
import cv2
from av.error import FFmpegError
from av.video.codeccontext import VideoCodecContext

from upscale.errors import OutputError, UsageError
from upscale.files.printable import printable
from upscale.video.info import UNSPECIFIED, Colour, HdrMetadata, PlaneFormat, VideoInfo

THREADS = 8
"""Threads of an encoder whose result depends on their number."""

CONTAINERS = {
    ".mp4": "mp4",
    ".m4v": "mp4",
    ".mov": "mov",
    ".mkv": "matroska",
    ".webm": "webm",
}
"""FFmpeg's names of the containers that videos are written to."""

_CHROMA = {"420": (1, 1), "422": (1, 0), "444": (0, 0), "440": (0, 1), "411": (2, 0), "410": (2, 2)}
_FORMAT = re.compile(r"(?:yuv(a?)(4\d\d)p|gbr(a?)p|gray)(9|10|12|14|16)?(?:le)?")
_SPACES = {"bt601": (6, 5), "bt709": (1,), "bt2020": (9,), "rgb": (0,)}
"""Numbers of ITU-T H.273 that mean the same matrix; the first where nothing is tagged."""
_CHROMA_LEFT = 1
_NOT_TAKEN = re.compile(r"^(?:Unknown option:?|Error parsing option) '?(.+?)'?\.?$")
_AVX512 = 13  # OpenCV's number of the feature; its Python package has no name for it
_X26_PRESETS = (
    *("ultrafast", "superfast", "veryfast", "faster", "fast", "medium"),
    *("slow", "slower", "veryslow", "placebo"),
)
_NVENC_PRESETS = tuple(f"p{number}" for number in range(1, 8))


@dataclass(frozen=True, slots=True)
class Encoding:
    """How a user wants a video encoded; None leaves it to the codec's default.

    Attributes:
        codec: One of `CODECS`; x264 by default, and VP9 in WebM.
        crf: Quality, in the codec's own numbers; less is better.
        preset: Effort (ProRes: the profile), in the codec's own words.
        pixel_format: FFmpeg's name, such as "yuv420p10le".
        options: More options of the encoder, as FFmpeg calls them.
    """

    codec: str | None = None
    crf: float | None = None
    preset: str | None = None
    pixel_format: str | None = None
    options: tuple[tuple[str, str], ...] = ()


@dataclass(frozen=True, slots=True)
class Encoder:
    """An encoder that was tried, with all that it has to know.

    Attributes:
        codec: One of `CODECS`.
        encoder: FFmpeg's name of it.
        container: FFmpeg's name of the output's container.
        width: In pixels.
        height: In pixels.
        planes: The format of the frames that it is given.
        pixel_format: The format that the encoder itself takes: the same planes, another packing.
        colour: How the output's planes become colours; all of it is tagged.
        options: Options of the encoder.
        tag: Codec tag in the container, or None for the usual one.
        time_base: Seconds in a unit of time; the source's own.
        rate: Frames a second; a hint.
        sample_aspect: Width of a pixel by its height; None where not said.
        notes: What the output cannot keep of the source's images, a line each.
    """

    codec: str
    encoder: str
    container: str
    width: int
    height: int
    planes: PlaneFormat
    pixel_format: str
    colour: Colour
    options: tuple[tuple[str, str], ...]
    tag: str | None
    time_base: Fraction
    rate: Fraction
    sample_aspect: Fraction | None
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Quality:
    option: str
    default: float
    most: float


@dataclass(frozen=True, slots=True)
class _Presets:
    option: str
    default: str
    choices: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class _Codec:
    """What is known of a codec.

    Attributes:
        encoder: FFmpeg's name.
        containers: Those that hold it, and that players expect it in.
        quality: The option that sets it, if any.
        presets: The option that sets the effort, if any.
        options: More options that are always set.
        packed: Planes that the encoder takes in another packing only, and that packing.
        only_packed: Whether `packed` lists all that shall be used, not what FFmpeg lists.
        other_kinds: Whether RGB and grey videos stay so.
        alpha: Whether it keeps transparency.
        full_range: Whether it can say that planes use all levels.
        even: Whether reduced chroma planes need a size that divides.
    """

    encoder: str
    containers: tuple[str, ...]
    quality: _Quality | None = None
    presets: _Presets | None = None
    options: tuple[tuple[str, str], ...] = ()
    packed: tuple[tuple[str, str], ...] = ()
    only_packed: bool = False
    other_kinds: bool = False
    alpha: bool = False
    full_range: bool = True
    even: bool = False

    def packings(self) -> dict[str, str]:
        """Planar formats, and the format in which the encoder takes each of them."""
        names = [each.name for each in av.Codec(self.encoder, "w").video_formats or []]
        own = [] if self.only_packed else filter(_FORMAT.fullmatch, names)
        packings = {name: name for name in own} | dict(self.packed)
        return {
            name: packing
            for name, packing in packings.items()
            if self.alpha or not plane_format(name).alpha
        }


_NVENC_8 = (("yuv420p", "yuv420p"), ("yuv444p", "yuv444p"))
_NVENC_10 = (("yuv420p10le", "p010le"), ("yuv444p10le", "yuv444p10msble"))


def _nvenc(
    encoder: str, containers: tuple[str, ...], packed: tuple[tuple[str, str], ...]
) -> _Codec:
    return _Codec(
        encoder,
        containers,
        _Quality("cq", 19, 51),
        _Presets("preset", "p5", _NVENC_PRESETS),
        (("tune", "hq"), ("rc", "vbr")),
        packed,
        only_packed=True,
        even=True,
    )


_CODECS = {
    "x264": _Codec(
        "libx264",
        ("mp4", "mov", "matroska"),
        _Quality("crf", 17, 51),
        _Presets("preset", "medium", _X26_PRESETS),
        (("threads", str(THREADS)),),
        even=True,
    ),
    "x265": _Codec(
        "libx265",
        ("mp4", "mov", "matroska"),
        _Quality("crf", 18, 51),
        _Presets("preset", "medium", _X26_PRESETS),
        (("x265-params", "log-level=none:frame-threads=4"),),
        even=True,
    ),
    "svt-av1": _Codec(
        "libsvtav1",
        ("mp4", "matroska", "webm"),
        _Quality("crf", 20, 63),
        _Presets("preset", "6", tuple(map(str, range(14)))),
    ),
    "vp9": _Codec(
        "libvpx-vp9",
        ("mp4", "matroska", "webm"),
        _Quality("crf", 20, 63),
        _Presets("cpu-used", "4", tuple(map(str, range(6)))),
        (("deadline", "good"), ("row-mt", "1"), ("threads", str(THREADS))),
    ),
    "prores": _Codec(
        "prores_ks",
        ("mov", "matroska"),
        presets=_Presets("profile", "hq", ("proxy", "lt", "standard", "hq", "4444", "4444xq")),
        alpha=True,
        full_range=False,
    ),
    "ffv1": _Codec(
        "ffv1",
        ("matroska",),
        options=(("level", "3"), ("g", "1"), ("slicecrc", "1")),
        packed=(("gbrp", "bgr0"), ("gbrap", "bgra")),
        other_kinds=True,
        alpha=True,
    ),
    "h264_nvenc": _nvenc("h264_nvenc", ("mp4", "mov", "matroska"), _NVENC_8),
    "hevc_nvenc": _nvenc("hevc_nvenc", ("mp4", "mov", "matroska"), _NVENC_8 + _NVENC_10),
    "av1_nvenc": _nvenc("av1_nvenc", ("mp4", "matroska", "webm"), (_NVENC_8[0], _NVENC_10[0])),
}

CODECS = tuple(_CODECS)
"""Codecs by the names that a user gives."""


def container_of(output: Path) -> str:
    """FFmpeg's name of the container that an output's suffix stands for.

    Raises:
        OutputError: Videos are not written to files of that suffix.
    """
    try:
        return CONTAINERS[output.suffix.lower()]
    except KeyError:
        choices = ", ".join(CONTAINERS)
        raise OutputError(
            f"{printable(output)}: videos are not written to {output.suffix or 'a name without suffix'};"
            f" choose one of {choices}"
        ) from None


def encoder_for(
    video: VideoInfo, encoding: Encoding, output: Path, size: tuple[int, int]
) -> Encoder:
    """Settle how a video is encoded, and open the encoder once to see that it works.

    Args:
        video: The source.
        encoding: What the user asked for.
        output: The file to be; its suffix names the container.
        size: Width and height of the output in pixels.

    Raises:
        UsageError: An option is unknown, or the codec has nothing of the kind.
        OutputError: The container cannot hold the codec, or the encoder does not work here.
    """
    container = container_of(output)
    name = encoding.codec or ("vp9" if container == "webm" else "x264")
    if name not in _CODECS:
        raise UsageError(f"--codec {name}: unknown; choose one of {', '.join(CODECS)}")
    codec = _CODECS[name]
    if container not in codec.containers:
        fitting = [suffix for suffix, held in CONTAINERS.items() if held in codec.containers]
        raise OutputError(
            f"{printable(output)}: {output.suffix} cannot hold {name}, which goes into"
            f" {', '.join(fitting)}"
        )
    planes, packed = _planes(name, codec, video.planes, encoding.pixel_format)
    _refuse_odd(name, codec, planes, size)
    settled = Encoder(
        codec=name,
        encoder=codec.encoder,
        container=container,
        width=size[0],
        height=size[1],
        planes=planes,
        pixel_format=packed,
        colour=_colour(video, planes, full_range=codec.full_range),
        options=_options(name, codec, encoding, planes, video.hdr),
        tag="hvc1" if name in ("x265", "hevc_nvenc") and container in ("mp4", "mov") else None,
        time_base=video.time_base,
        rate=video.rate,
        sample_aspect=video.sample_aspect,
    )
    _try(settled)
    return replace(settled, notes=tuple(_notes(name, codec, video, planes)))


def configure(context: VideoCodecContext, encoder: Encoder) -> None:
    """Give an encoder that is not open yet all its settings."""
    context.width, context.height = encoder.width, encoder.height
    context.pix_fmt = encoder.pixel_format
    context.time_base = encoder.time_base
    context.framerate = encoder.rate
    context.options = dict(encoder.options)
    if encoder.codec == "svt-av1":
        os.environ.setdefault("SVT_LOG", "1")  # else it writes 30 lines to standard error
    if encoder.codec == "x264" and cv2.checkHardwareSupport(_AVX512):
        own = context.options.get("x264-params")
        context.options["x264-params"] = f"asm=avx2:{own}" if own else "asm=avx2"
    if encoder.colour.chroma_location:
        context.options["chroma_sample_location"] = str(encoder.colour.chroma_location)
    if encoder.tag is not None:
        context.codec_tag = encoder.tag
    tag_image(context, encoder)


def tag_image(context: VideoCodecContext, encoder: Encoder) -> None:
    """Tag colours and the shape of pixels."""
    colour = encoder.colour
    context.color_range = 2 if colour.full_range else 1
    context.color_primaries, context.color_trc = colour.primaries, colour.transfer
    context.colorspace = colour.space
    if encoder.sample_aspect:
        context.sample_aspect_ratio = encoder.sample_aspect


def _try(encoder: Encoder) -> None:
    """Open the encoder, and see that it took every option."""
    context = cast("VideoCodecContext", av.CodecContext.create(encoder.encoder, "w"))
    configure(context, encoder)
    with _said() as logs:
        try:
            context.open()
        except (FFmpegError, ValueError) as error:
            raise _refusal(encoder, [message.strip() for _, _, message in logs], error) from error
        found = [_NOT_TAKEN.search(message.strip()) for _, _, message in logs]
    refused = [*context.options, *(each[1] for each in found if each)]
    if refused:
        raise UsageError(f"--encoder-option: {encoder.encoder} takes no {' and no '.join(refused)}")


def _refusal(encoder: Encoder, lines: list[str], error: Exception) -> UsageError | OutputError:
    """What to say when an encoder does not open."""
    reason = lines[-1] if lines else " ".join(str(error).split())
    if reason.startswith("Error setting"):
        return UsageError(f"--encoder-option: {encoder.encoder} says: {reason}")
    return OutputError(
        f"{encoder.codec} cannot encode {encoder.width}x{encoder.height} as"
        f" {encoder.pixel_format} here ({reason})"
    )


@contextmanager
def _said() -> Generator[list[tuple[int, str, str]]]:
    """Collect what FFmpeg warns of meanwhile in this thread."""
    level, skip = av.logging.get_level(), av.logging.get_skip_repeated()
    av.logging.set_level(av.logging.WARNING)
    av.logging.set_skip_repeated(False)
    try:
        with av.logging.Capture(local=True) as logs:
            yield logs
    finally:
        av.logging.set_level(level)
        av.logging.set_skip_repeated(skip)


def _planes(
    name: str, codec: _Codec, source: PlaneFormat, asked: str | None
) -> tuple[PlaneFormat, str]:
    """The planes of the output, and how the encoder wants them packed."""
    packings = codec.packings()
    if asked is not None:
        if asked not in packings:
            raise UsageError(f"--pix-fmt {asked}: {name} has {', '.join(packings)}")
        return plane_format(asked), packings[asked]
    formats = [plane_format(each) for each in packings]
    usable = [
        each
        for each in formats
        if (codec.other_kinds or each.kind == "yuv") and each.alpha <= source.alpha
    ]
    best = min(usable, key=lambda each: _distance(source, each))
    return best, packings[best.name]


def plane_format(name: str) -> PlaneFormat:
    """What FFmpeg's name of a planar format says, such as "yuv422p10le" or "gbrp"."""
    found = _FORMAT.fullmatch(name)
    if found is None:
        raise ValueError(f"{name} is not a planar format")
    chroma_alpha, chroma, alpha, depth = found.groups()
    across, down = _CHROMA[chroma] if chroma else (0, 0)
    kind = "yuv" if chroma else "grey" if name.startswith("gray") else "rgb"
    return PlaneFormat(name, int(depth or 8), across, down, kind, bool(chroma_alpha or alpha))


def _distance(source: PlaneFormat, target: PlaneFormat) -> tuple[int, ...]:
    """How badly a format suits a source: what is lost counts before what is wasted."""
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


def _refuse_odd(name: str, codec: _Codec, planes: PlaneFormat, size: tuple[int, int]) -> None:
    width, height = size
    if codec.even and (width % (1 << planes.chroma_across) or height % (1 << planes.chroma_down)):
        raise OutputError(
            f"{name} cannot encode {width}x{height} as {planes.name}, which needs even sizes;"
            " choose --pix-fmt yuv444p, --codec vp9 or another scale"
        )


def _colour(video: VideoInfo, planes: PlaneFormat, *, full_range: bool) -> Colour:
    """The source's colours, with everything said that the conversion settles."""
    source = video.colour
    if planes.kind == "rgb":
        return replace(source, matrix="rgb", full_range=True, space=0, chroma_location=0)
    matrix = "bt709" if source.matrix == "rgb" else source.matrix
    spaces = _SPACES[matrix]
    if matrix == "bt601" and video.height in (288, 576):  # the lines of PAL
        spaces = spaces[::-1]
    location = 0
    if (planes.chroma_across, planes.chroma_down) == (1, 1):
        same = (video.planes.chroma_across, video.planes.chroma_down) == (1, 1)
        location = (source.chroma_location if same else 0) or _CHROMA_LEFT
    return replace(
        source,
        matrix=matrix,
        full_range=source.full_range and full_range and source.matrix != "rgb",
        space=source.space if source.space in spaces else spaces[0],
        primaries=source.primaries or UNSPECIFIED,
        transfer=source.transfer or UNSPECIFIED,
        chroma_location=location,
    )


def _options(
    name: str, codec: _Codec, encoding: Encoding, planes: PlaneFormat, hdr: HdrMetadata | None
) -> tuple[tuple[str, str], ...]:
    """The encoder's options; the user's own come last and win."""
    options = dict(codec.options)
    options |= _quality(name, codec, encoding.crf)
    options |= _preset(name, codec, encoding.preset, planes)
    own = f"{codec.encoder.removeprefix('lib')}-params"
    parameters = [options.get(own, ""), *_parameters(name, hdr)]
    for option, value in encoding.options:
        if option == own:
            parameters.append(value)
        else:
            options[option] = value
    if any(parameters):
        options[own] = ":".join(filter(None, parameters))
    return tuple(options.items())


def _quality(name: str, codec: _Codec, crf: float | None) -> dict[str, str]:
    quality = codec.quality
    if quality is None:
        if crf is not None:
            raise UsageError(f"--crf: {name} has no such setting")
        return {}
    if crf is not None and not 0 <= crf <= quality.most:
        raise UsageError(f"--crf {crf:g}: {name} takes 0 to {quality.most:g}")
    return {quality.option: f"{quality.default if crf is None else crf:g}"}


def _preset(name: str, codec: _Codec, preset: str | None, planes: PlaneFormat) -> dict[str, str]:
    presets = codec.presets
    if presets is None:
        if preset is not None:
            raise UsageError(f"--preset: {name} has none")
        return {}
    if preset is not None and preset not in presets.choices:
        raise UsageError(f"--preset {preset}: {name} takes {', '.join(presets.choices)}")
    if preset is None and name == "prores" and planes.chroma_across == 0:
        preset = "4444"
    return {presets.option: preset or presets.default}


def _parameters(name: str, hdr: HdrMetadata | None) -> Iterable[str]:
    """What goes to the encoder's own parser of options, beside the user's."""
    if hdr is None or name not in ("x264", "x265", "svt-av1"):
        return
    display, light = {
        "x264": ("mastering-display", "cll"),
        "x265": ("master-display", "max-cll"),
        "svt-av1": ("mastering-display", "content-light"),
    }[name]
    # x264 and x265 count in units of 0.00002 and 0.0001 cd/m²
    units = (1, 1) if name == "svt-av1" else (50000, 10000)
    mastering = hdr.mastering
    if mastering is not None and mastering.primaries and mastering.luminance:
        red, green, blue, white = (
            f"({_number(x * units[0])},{_number(y * units[0])})" for x, y in mastering.primaries
        )
        darkest, brightest = (_number(each * units[1]) for each in mastering.luminance)
        yield f"{display}=G{green}B{blue}R{red}WP{white}L({brightest},{darkest})"
    if hdr.content_light is not None:
        yield f"{light}={hdr.content_light[0]},{hdr.content_light[1]}"


def _number(value: Fraction) -> str:
    return str(value.numerator) if value.denominator == 1 else f"{float(value):.8f}".rstrip("0")


def _notes(name: str, codec: _Codec, video: VideoInfo, planes: PlaneFormat) -> Iterable[str]:
    """What of the source's images the output cannot keep."""
    source = video.planes
    if planes.depth < source.depth:
        yield f"{name} takes {planes.depth} of the video's {source.depth} bits"
    if source.alpha and not planes.alpha:
        yield f"{name} keeps no transparency"
    coarser = planes.chroma_across > source.chroma_across or planes.chroma_down > source.chroma_down
    if coarser and source.kind != "grey":
        yield f"{name} as {planes.name} keeps less detail of colours than {source.name}"
    if video.hdr is not None and not any(_parameters(name, video.hdr)):
        yield f"{name} carries no HDR10 metadata"
