"""Parse the values of the options of `upscale video`."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar, overload

from upscale.cli.completion import containers
from upscale.errors import UsageError

if TYPE_CHECKING:
    from upscale.video.conversions import Conversion
    from upscale.video.purposes import Purpose
    from upscale.video.raw_frames import RawFormat
    from upscale.video.track_choice import TrackChoice

T = TypeVar("T", bound=str)

_TIME = re.compile(r"(\d+:){0,2}\d+(\.\d*)?")
_RATE = re.compile(r"\d{1,6}(\.\d{1,6}|/\d{1,6})?")
_SIZE = re.compile(r"(\d{1,6})x(\d{1,6})")
_NTSC = Fraction(1000, 1001)
_MAX_RATE = 1000


def pairs(texts: list[str]) -> tuple[tuple[str, str], ...]:
    """Split the values of `--encoder-option`.

    Args:
        texts: Texts of the form KEY=VALUE.

    Raises:
        UsageError: A text has another form.

    Example:
        >>> pairs(["tune=grain"])
        (('tune', 'grain'),)
    """
    result: list[tuple[str, str]] = []
    for text in texts:
        key, sign, value = text.partition("=")
        if not key or not sign:
            raise UsageError(f"--encoder-option {text}: is not of the form KEY=VALUE")
        result.append((key, value))
    return tuple(result)


def choose(flag: str, value: str, choices: Sequence[T]) -> T:
    """Check a value that is one of a few words.

    Args:
        flag: Name of the option.
        value: Value that the user gave.
        choices: All values.

    Raises:
        UsageError: It is none of them.

    Example:
        >>> choose("--audio", "aac", ("aac", "opus"))
        'aac'
    """
    for choice in choices:
        if choice == value:
            return choice
    raise UsageError(f"{flag} {value}: choose one of {', '.join(choices)}")


def frame_rate(value: str) -> Fraction:
    """Convert a frame rate to frames per second; 23.976 and the like are taken as 24000/1001.

    Args:
        value: Number such as 25 or 23.976, or ratio such as 30000/1001.

    Raises:
        UsageError: It is not a rate between 0 and 1000.

    Example:
        >>> frame_rate("23.976"), frame_rate("12.5")
        (Fraction(24000, 1001), Fraction(25, 2))
    """
    if not _RATE.fullmatch(value):
        raise UsageError(f"--fps {value}: is not a frame rate; use, for example, 24 or 30000/1001")
    try:
        rate = Fraction(value)
    except ZeroDivisionError:
        rate = Fraction(0)
    if not 0 < rate <= _MAX_RATE:
        raise UsageError(f"--fps {value}: is not between 0 and {_MAX_RATE}")
    exact = round(rate / _NTSC) * _NTSC
    places = len(value.partition(".")[2])
    is_rounded = places > 1 and abs(exact - rate) * 2 <= Fraction(1, 10**places)
    return exact if is_rounded else rate


@overload
def seconds(label: str, value: str) -> Fraction: ...
@overload
def seconds(label: str, value: None) -> None: ...
def seconds(label: str, value: str | None) -> Fraction | None:
    """Convert a time such as 5, 0:05, 1:30.25 or 1:02:03 to seconds.

    Args:
        label: Name of the option.
        value: The time; None if the option is not given.

    Raises:
        UsageError: The value is not a time.

    Example:
        >>> seconds("--start", "1:30.5")
        Fraction(181, 2)
    """
    if value is None:
        return None
    if not _TIME.fullmatch(value):
        raise UsageError(f"{label} {value}: is not a time; use seconds or [H:]MM:SS")
    parts = [Fraction(part) for part in reversed(value.split(":"))]
    return sum((part * 60**power for power, part in enumerate(parts)), Fraction(0))


def tracks(flag: str, value: str | None) -> TrackChoice | None:
    """Return the tracks that an option names; None if it is not given.

    Raises:
        UsageError: The value is not a list of tracks.
    """
    from upscale.video.track_choice import parse_tracks

    return None if value is None else parse_tracks(flag, value)


def raw_input(size: str | None, pixel_format: str | None, fps: str | None) -> RawFormat | None:
    """Return the format of frames without headers; None if the options do not name it.

    Args:
        size: Value of `--raw-size`.
        pixel_format: Value of `--raw-format`.
        fps: Value of `--fps`.

    Raises:
        UsageError: An option is missing or wrong.

    Example:
        >>> raw_input("64x48", "rgb24", "25")
        RawFormat(width=64, height=48, pixel_format='rgb24', rate=Fraction(25, 1))
    """
    from upscale.video.raw_frames import RawFormat

    if size is None and pixel_format is None:
        return None
    if size is None or pixel_format is None or fps is None:
        raise UsageError(
            "frames without headers need --raw-size, --raw-format and --fps, for example --raw-size"
            " 640x480 --raw-format rgb24 --fps 25"
        )
    match = _SIZE.fullmatch(size)
    if match is None or not int(match[1]) * int(match[2]):
        raise UsageError(f"--raw-size {size}: is not of the form WIDTHxHEIGHT")
    return RawFormat(int(match[1]), int(match[2]), pixel_format, frame_rate(fps))


def container_suffix(value: str | None) -> str | None:
    """Return the suffix of the container that `--format` names, such as `.mp4`; None without.

    Raises:
        UsageError: There is no such container.
    """
    if value is None:
        return None
    suffix = f".{value.lower().removeprefix('.')}"
    if suffix[1:] not in containers():
        raise UsageError(f"--format {value}: choose one of {', '.join(containers())}")
    return suffix


def conversion(*, deinterlace: bool, double_rate: bool, ivtc: bool) -> Conversion | None:
    """Return what is made of the fields of a video, apart from one frame of two of them.

    Args:
        deinterlace: Whether `--deinterlace` is given.
        double_rate: Whether `--double-rate` is given.
        ivtc: Whether `--ivtc` is given.

    Raises:
        UsageError: More than one of them is given.
    """
    given = {"--deinterlace": deinterlace, "--double-rate": double_rate, "--ivtc": ivtc}
    flags = [flag for flag, is_given in given.items() if is_given]
    if len(flags) > 1:
        raise UsageError(f"{' and '.join(flags)} exclude each other: choose one")
    return "field" if double_rate else "ivtc" if ivtc else None


def find_purpose(value: str | None) -> Purpose | None:
    """Return the preset that `--for` names; None without.

    Raises:
        UsageError: There is no such preset.
    """
    from upscale.video.purposes import PURPOSES

    if value is not None and value not in PURPOSES:
        raise UsageError(f"--for {value}: choose one of {', '.join(PURPOSES)}")
    return None if value is None else PURPOSES[value]


def inputs_and_output(names: Sequence[str], output: str | None) -> tuple[list[str], str | None]:
    """Tell the inputs from the output among the words of a command line.

    Without `-o`, the last word of two is the output, and of more words if it is a folder.

    Args:
        names: All words.
        output: Value of `-o`; None without it.

    Raises:
        UsageError: There is no input, or several without a folder for their outputs.

    Example:
        >>> inputs_and_output(["a.mp4", "b.mp4"], None)
        (['a.mp4'], 'b.mp4')
        >>> inputs_and_output(["a.mp4", "b.mp4", "large/"], None)
        (['a.mp4', 'b.mp4'], 'large/')
    """
    if not names:
        raise UsageError("no input: name a video, or a folder of videos")
    if output is not None or len(names) == 1:
        return list(names), output
    *inputs, last = names
    if len(inputs) > 1 and not (last.endswith(("/", os.sep)) or Path(last).is_dir()):
        raise UsageError("several videos need a folder for their outputs: pass -o FOLDER/")
    return inputs, last
