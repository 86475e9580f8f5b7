"""Flags of other programs: exact synonyms work, others are errors that name the right flag.

Flags of this program are kept: `-r 1920x1080` is the output size of upscayl-bin, but `-r` alone is
`--recursive`. The page docs/how-to/coming-from.md contains the table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

from upscale.errors import UsageError
from upscale.files.printable import printable

_NCNN, _UPSCAYL, _WAIFU2X = "realesrgan-ncnn-vulkan", "upscayl-bin", "waifu2x"
_OFFICIAL, _OFFICIAL_VIDEO = "inference_realesrgan.py", "inference_realesrgan_video.py"
_VIDEO2X, _FFMPEG = "video2x", "ffmpeg"
_ANY = r"(?s).+"
_NOT_NEEDED = "leave it out"


@dataclass(frozen=True, slots=True)
class ForeignFlag:
    """A flag of other programs. Either `same` or `advice` is given.

    Attributes:
        flags: Spellings of the flag, separated by spaces.
        metavar: Name of its value; empty for a flag without a value.
        programs: Programs that have the flag.
        same: The words that replace the flag and its value, which is `{0}`.
        advice: Message of an error that names what to use instead.
        value: Regular expression that the value must match.
        command: Command that the row applies to, None for images and videos.
    """

    flags: str
    metavar: str
    programs: tuple[str, ...]
    same: str | None = None
    advice: str | None = None
    value: str = _ANY
    command: Literal["image", "video"] | None = None

    def applies(self, flag: str, value: str | None, command: str) -> bool:
        """Return whether this row is about a flag with the word after it."""
        if flag not in self.flags.split() or self.command not in (None, command):
            return False
        return not self.metavar or (value is not None and bool(re.fullmatch(self.value, value)))


FOREIGN_FLAGS = (
    # --- the same under another name
    ForeignFlag("-i --input", "FILE", (_NCNN, _OFFICIAL, _VIDEO2X, _FFMPEG), same="{0}"),
    ForeignFlag("--outscale", "N", (_OFFICIAL,), same="--scale {0}"),
    ForeignFlag("--scale_ratio --scaling-factor", "N", (_WAIFU2X, _VIDEO2X), same="--scale {0}"),
    ForeignFlag("-dn --denoise_strength", "N", (_OFFICIAL,), same="--denoise {0}"),
    ForeignFlag("--model_name --realesrgan-model", "NAME", (_OFFICIAL, _VIDEO2X),
                same="--model {0}"),
    ForeignFlag("--model_path", "FILE", (_OFFICIAL,), same="--model {0}"),
    ForeignFlag("--fp32", "", (_OFFICIAL,), same="--precision fp32"),
    ForeignFlag("--half", "", (_OFFICIAL,), same="--precision fp16"),
    ForeignFlag("--ext", "auto", (_OFFICIAL,), same="", value="auto", command="image"),
    ForeignFlag("--ext", "FORMAT", (_OFFICIAL,), same="--format {0}", command="image"),
    ForeignFlag("--suffix", "TEXT", (_OFFICIAL,), same="--name {{stem}}_{0}.{{ext}}",
                value=r"[^{}]+", command="image"),
    ForeignFlag("-w", "WIDTH", (_UPSCAYL, _VIDEO2X), same="--width {0}", value=r"\d+"),
    ForeignFlag("-h", "HEIGHT", (_VIDEO2X,), same="--height {0}", value=r"\d+"),
    ForeignFlag("-c -c:v -vcodec -codec:v", "CODEC", (_VIDEO2X, _FFMPEG), same="--codec {0}",
                command="video"),
    ForeignFlag("-e", "KEY=VALUE", (_VIDEO2X,), same="--encoder-option {0}", value=r"(?s)[^=]+=.*",
                command="video"),
    ForeignFlag("-crf", "N", (_FFMPEG,), same="--crf {0}", command="video"),
    ForeignFlag("-preset", "PRESET", (_FFMPEG,), same="--preset {0}", command="video"),
    ForeignFlag("-pix_fmt", "FORMAT", (_FFMPEG,), same="--pix-fmt {0}", command="video"),
    ForeignFlag("-ss", "TIME", (_FFMPEG,), same="--start {0}", command="video"),
    ForeignFlag("-to", "TIME", (_FFMPEG,), same="--end {0}", command="video"),
    ForeignFlag("-frames:v -vframes", "N", (_FFMPEG,), same="--frames {0}", command="video"),
    ForeignFlag("-an", "", (_FFMPEG,), same="--audio none", command="video"),
    ForeignFlag("-sn", "", (_FFMPEG,), same="--subtitle-tracks none", command="video"),
    # --- something else here
    ForeignFlag("-g --gpu-id", "ID", (_NCNN, _UPSCAYL, _OFFICIAL),
                advice="use --device, for example --device cuda:0, cuda:0,cuda:1 or cpu"),
    ForeignFlag("-j", "LOAD:PROC:SAVE", (_NCNN, _UPSCAYL), value=r"\d+(:\d+(,\d+)*)+",
                advice="use -j N (--jobs), one number of threads that read and write"),
    ForeignFlag("-r", "WIDTHxHEIGHT", (_UPSCAYL,), value=r"\d+x\d+(:\w+)?",
                advice="use --width PIXELS and --height PIXELS"),
    ForeignFlag("-c", "COMPRESSION", (_UPSCAYL,), value=r"\d+", command="image",
                advice="use -q 1..100 (--quality), where more is better"),
    ForeignFlag("-m", "FOLDER", (_NCNN, _UPSCAYL),
                advice="use -n FILE (--model) with the checkpoint or the .param file itself"),
    ForeignFlag("-z", "SCALE", (_UPSCAYL,),
                advice=f"the network's scale is read from its file; {_NOT_NEEDED}, or use --scale"),
    ForeignFlag("-n", "NOISE", (_WAIFU2X,), value=r"-?\d",
                advice="-n names the network; use --denoise 0..1 with -n realesr-general-x4v3"),
    ForeignFlag("--noise-level --noise_level", "NOISE", (_WAIFU2X,),
                advice="use --denoise 0..1 with -n realesr-general-x4v3"),
    ForeignFlag("-t", "SIZE,SIZE,...", (_NCNN,), value=r"\d+(,\d+)+",
                advice="use -t N (--tile), one size for all devices, or auto"),
    ForeignFlag("--tile_pad --pre_pad", "N", (_OFFICIAL,),
                advice=f"tiles need no padding, because they are exact; {_NOT_NEEDED}"),
    ForeignFlag("--face_enhance", "", (_OFFICIAL,),
                advice="use --face, which restores them after upscaling"),
    ForeignFlag("--alpha_upsampler", "METHOD", (_OFFICIAL,),
                advice=f"transparency is always upscaled by the network; {_NOT_NEEDED}"),
    ForeignFlag("-p --processor", "NAME", (_VIDEO2X,),
                advice="use -n NAME (--model) to choose the network"),
    ForeignFlag("--num_process_per_gpu", "N", (_OFFICIAL_VIDEO,),
                advice=f"one process keeps a GPU busy; {_NOT_NEEDED}"),
    ForeignFlag("-r", "RATE", (_FFMPEG,), value=r"\d+([./]\d+)?", command="video",
                advice=f"the times of the frames are kept; {_NOT_NEEDED}"),
    ForeignFlag("-vf", "FILTER", (_FFMPEG,), command="video",
                advice="use --scale, --width and --height, or --deinterlace"),
    ForeignFlag("-b:v", "RATE", (_FFMPEG,), command="video",
                advice="use --crf N, or --encoder-option b=RATE"),
    ForeignFlag("-y", "", (_FFMPEG,),
                advice="use --overwrite to replace outputs, --yes to upscale to very large sizes"),
)  # fmt: skip
"""The table; the first row that applies counts."""


def own_flags(arguments: Sequence[str], command: Literal["image", "video"]) -> list[str]:
    """Replace the flags of other programs by the ones of this program.

    Args:
        arguments: Words after the command.
        command: The command that gets them.

    Raises:
        UsageError: A flag has no exact equivalent.

    Example:
        >>> own_flags(["-i", "photo.jpg", "--outscale=2", "--fp32"], "image")
        ['photo.jpg', '--scale', '2', '--precision', 'fp32']
    """
    words = list(_split_values(arguments))
    replaced: list[str] = []
    while words:
        if words[0] == "--":
            break
        row = _row(words, command)
        if row is None:
            replaced.append(words.pop(0))
            continue
        taken = [words.pop(0) for _ in range(2 if row.metavar else 1)]
        if row.same is None:
            raise UsageError(f"{printable(' '.join(taken))}: {row.advice}")
        replaced.extend(word.format(taken[-1]) for word in row.same.split())
    return [*replaced, *words]


def _split_values(arguments: Sequence[str]) -> Iterator[str]:
    """Split `--flag=value` of foreign flags into two words."""
    names = {flag for row in FOREIGN_FLAGS for flag in row.flags.split() if row.metavar}
    for word in arguments:
        flag, sign, value = word.partition("=")
        is_split = bool(sign) and flag.startswith("--") and flag in names
        yield from (flag, value) if is_split else (word,)


def _row(words: Sequence[str], command: str) -> ForeignFlag | None:
    value = words[1] if len(words) > 1 else None
    return next((row for row in FOREIGN_FLAGS if row.applies(words[0], value, command)), None)


def markdown_table() -> str:
    """Return the table of the documentation."""
    lines = ["| flag | program | here |", "|---|---|---|"]
    for row in FOREIGN_FLAGS:
        flags = ", ".join(
            f"`{flag} {row.metavar}`".replace(" `", "`") for flag in row.flags.split()
        )
        here = row.advice or _shown(row)
        scope = f" (`upscale {row.command}`)" if row.command == "video" else ""
        lines.append(f"| {flags} | {', '.join(row.programs)}{scope} | {here} |")
    return "\n".join(lines)


def _shown(row: ForeignFlag) -> str:
    words = (row.same or "").format(row.metavar)
    return f"works: `{words}`" if words else "works: the default"
