"""Options as frozen dataclasses, read from flags, the environment and the configuration file.

A value comes from the command line, else from the environment (`UPSCALE_<OPTION>`), else from the
configuration file, else from the defaults below. Options that exclude each other, such as the ways
to give a size, are taken together from the first source that sets one of them: `--width` on the
command line replaces a `scale` in the configuration file instead of conflicting with it.
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from upscale.engine.choices import KEEP_COLOUR, PRECISIONS, SMALLEST_TILE, KeepColour, Seamless
from upscale.errors import UpscaleError, UsageError
from upscale.files.error_mapping import one_line
from upscale.files.parse import parse_toml
from upscale.shards import Shard, parse_shard, slurm_shard

AUTO = "auto"
"""Model that stands for networks that are chosen by the image."""
DEFAULT_MODEL = AUTO
VIDEO_MODEL, SMALL_VIDEO_MODEL = "upscale-x4-fast", "upscale-x2-fast"
"""Networks for videos if the user names none, above x2 and up to it: about 25 times faster than
those for photos.
"""
ESTIMATE = "estimate"
"""Kernel that is estimated from the image itself."""
NO_FACE_MODEL = "none"
"""Network for faces that stands for none: faces are found and shown, and not restored."""
FACE_DETECTOR = "mtcnn"
"""Detector of faces that is always installed."""
MOST_JOBS = 64
DDS_FORMATS = ("auto", "bc1", "bc3", "bc4", "bc5", "bc7", "rgba8")
ENVIRONMENT_PREFIX = "UPSCALE_"

Value = str | int | float | bool
"""An unchecked value: text from a flag or the environment, or a TOML scalar."""

Crop = tuple[int, int, int, int] | Literal["auto"]
"""Left, top, width and height in input pixels, or `auto` for the part with the most detail."""

_DEVICE = re.compile(r"cpu|mps|(cuda|xpu)(:\d+)?")
_FACTOR = re.compile(r"[xX]([\d.]+)|([\d.]+)[xX]")
"""Other spellings of a scale, such as `x4` and `4x`."""
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_EXCLUSIVE = (
    frozenset({"model", "models", "zero_shot"}),
    frozenset({"scale", "width", "height", "max_side"}),
    frozenset({"overwrite", "skip_existing"}),
    frozenset({"quality", "lossless"}),
)


@dataclass(frozen=True, slots=True)
class SizeOptions:
    """The output size; without any value, the model's scale is used.

    Attributes:
        scale: Output size divided by input size, greater than 0.
        width: Output width in pixels; without `height`, the aspect ratio is kept.
        height: Output height in pixels; without `width`, the aspect ratio is kept.
        max_side: Longer side of the output in pixels.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    max_side: int | None = None

    def __post_init__(self) -> None:
        _check_exclusive("scale", self.scale, "width", self.width)
        _check_exclusive("scale", self.scale, "height", self.height)
        _check_exclusive("scale", self.scale, "max_side", self.max_side)
        _check_exclusive("max_side", self.max_side, "width", self.width)
        _check_exclusive("max_side", self.max_side, "height", self.height)

    @property
    def is_ratio(self) -> bool:
        """Whether the size is given by a scale, the user's or the model's."""
        return self.width is None and self.height is None and self.max_side is None

    @property
    def needs_model_scale(self) -> bool:
        """Whether no size is given, so that the model's scale is used."""
        return self.is_ratio and self.scale is None

    def resolve(self, size: tuple[int, int], model_scale: float) -> tuple[int, int]:
        """Return the output size of an image.

        Args:
            size: Width and height of the input in pixels.
            model_scale: Scale of the model, used if no size is given.

        Returns:
            Width and height of the output in pixels, at least 1.
        """
        width, height = size
        if self.width is not None and self.height is not None:
            return self.width, self.height
        if self.width is not None:
            return self.width, _side(height, self.width / width)
        if self.height is not None:
            return _side(width, self.height / height), self.height
        if self.max_side is not None:
            ratio = self.max_side / max(width, height)
        else:
            ratio = self.scale or model_scale
        return _side(width, ratio), _side(height, ratio)


@dataclass(frozen=True, slots=True)
class EngineOptions:
    """The network, and how it is computed.

    Attributes:
        model: Name of a network, path of a checkpoint, or `AUTO`.
        tile: Tile size in input pixels; 0 disables tiling.
        device: A device name, or several separated by commas.
        precision: One of `PRECISIONS`.
        tta: Average the results of 8 flips and rotations.
        denoise: Denoising strength, 0..1; None for the network's default.
        kernels: Use compiled convolutions where they are faster than PyTorch's.
        fidelity: Weight of the network for clean photos against that for damaged ones, 0..1, for
            `AUTO` only; None to choose by the image.
        keep_colour: Whether results get the colours of their source.

    Raises:
        UsageError: A fidelity is given for a network.
    """

    model: str = DEFAULT_MODEL
    tile: int | Literal["auto"] = "auto"
    device: str = "auto"
    precision: str = "auto"
    tta: bool = False
    denoise: float | None = None
    kernels: bool = True
    fidelity: float | None = None
    keep_colour: KeepColour = "auto"

    def __post_init__(self) -> None:
        if self.fidelity is not None and self.model != AUTO:
            raise UsageError(
                f"--fidelity {self.fidelity:g} needs -n {AUTO}: it mixes networks, "
                f"and {self.model} is a single one"
            )

    @property
    def devices(self) -> tuple[str, ...]:
        """The device names, one by one."""
        return tuple(self.device.split(","))


@dataclass(frozen=True, slots=True)
class ZeroShotOptions:
    """A network that is trained on each image itself.

    Attributes:
        zero_shot: Whether to train one, in place of a finished network.
        kernel: File with the kernel that the image was downscaled with, or `ESTIMATE`; None for
            bicubic interpolation.
        seed: Seed of all random numbers.
    """

    zero_shot: bool = False
    kernel: str | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class FaceOptions:
    """The restoration of faces.

    Attributes:
        face: Whether faces are restored.
        face_model: Name of a network for faces, path of a checkpoint, or `NO_FACE_MODEL`.
        face_detector: `FACE_DETECTOR`, name of another detector, or path of its checkpoint.
        face_parser: Name of a network that finds the outline of a face, path of a checkpoint,
            `NO_FACE_MODEL` for a soft square, or `AUTO` for the network if it is in the cache.
        face_strength: Weight of restored faces against the plain result, 0..1; None for 1, and
            for the default fidelity of networks that have one.
        faces_only: Whether everything else stays as it is.
        face_min_size: Smallest side of a face in input pixels.
        face_debug: Whether boxes and landmarks are drawn into the result.
    """

    face: bool = False
    face_model: str = "gfpgan"
    face_detector: str = FACE_DETECTOR
    face_parser: str = AUTO
    face_strength: float | None = None
    faces_only: bool = False
    face_min_size: int = 20
    face_debug: bool = False

    @property
    def is_on(self) -> bool:
        """Whether faces are looked for."""
        return self.face or self.faces_only or self.face_debug


@dataclass(frozen=True, slots=True)
class TextureOptions:
    """What an image is, apart from a photo.

    Attributes:
        seamless: Directions in which the image repeats: `x`, `y` or `xy`; empty for none.
        normal_map: Whether the colours are the directions of a surface.
    """

    seamless: Seamless = ""
    normal_map: bool = False


@dataclass(frozen=True, slots=True)
class VideoOptions:
    """How frames of a video depend on each other.

    Attributes:
        steady: Strength of the blend of each frame with the previous one, 0..1.
    """

    steady: float = 0.0


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """The output files.

    Attributes:
        output: File, folder, or `-` for standard output; None for a file next to the input.
        format: Name or extension of an image format; None for the input's.
        quality: Quality of lossy formats, 1..100; None for the default.
        lossless: Use lossless compression where the format supports it.
        dds_format: Layout of DDS outputs, one of `DDS_FORMATS`; None for the input's.
        mipmaps: Add mipmaps to DDS outputs; None to do as the input.
        strip_metadata: Remove all metadata except the colour profile.
        name: Template of the file name; None for the default.
        overwrite: Overwrite existing files.
        skip_existing: Skip inputs whose output exists.
    """

    output: str | None = None
    format: str | None = None
    quality: int | None = None
    lossless: bool = False
    dds_format: str | None = None
    mipmaps: bool | None = None
    strip_metadata: bool = False
    name: str | None = None
    overwrite: bool = False
    skip_existing: bool = False

    def __post_init__(self) -> None:
        if self.overwrite and self.skip_existing:
            raise UsageError("--overwrite and --skip-existing exclude each other: choose one")
        if self.lossless and self.quality is not None:
            raise UsageError("--lossless and --quality exclude each other: choose one")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a batch is read and processed.

    Attributes:
        files_from: File with a list of inputs, or `-` for standard input.
        jobs: Number of threads that read and write files, 1..`MOST_JOBS`.
        recursive: Include subfolders.
        dry_run: Plan the outputs without writing them.
        max_pixels: Largest number of pixels of an input; None for the default limit.
        max_input: Largest number of bytes that are read from standard input or a pipe; None for
            the default limit.
        keep_damaged: Upscale what can be read of damaged files.
        max_output_pixels: Number of pixels of an output above which a confirmation is needed; None
            for the default limit of inputs.
        yes: Confirm larger outputs.
        shard: The share of the work to do; None for all of it.
        cluster: Address of a Ray cluster, or `auto`; None for the devices of this machine.
        workers: Largest number of workers in the cluster; None for all that it has room for.
    """

    files_from: str | None = None
    jobs: int = 2
    recursive: bool = False
    dry_run: bool = False
    max_pixels: int | None = None
    max_input: int | None = None
    keep_damaged: bool = False
    max_output_pixels: int | None = None
    yes: bool = False
    shard: Shard | None = None
    cluster: str | None = None
    workers: int | None = None


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """A comparison of networks on an HTML page.

    Attributes:
        models: Networks to compare; empty for a normal run.
        crop: Part of the input to compare on; None for the whole image.
    """

    models: tuple[str, ...] = ()
    crop: Crop | None = None


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What is printed.

    Attributes:
        json: Print results as JSON.
        quiet: Print nothing except errors.
        verbose: Print details, and tracebacks of errors.
    """

    json: bool = False
    quiet: bool = False
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """All options of the default command."""

    size: SizeOptions = field(default_factory=SizeOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    training: ZeroShotOptions = field(default_factory=ZeroShotOptions)
    faces: FaceOptions = field(default_factory=FaceOptions)
    texture: TextureOptions = field(default_factory=TextureOptions)
    video: VideoOptions = field(default_factory=VideoOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    run: RunOptions = field(default_factory=RunOptions)
    compare: CompareOptions = field(default_factory=CompareOptions)
    report: ReportOptions = field(default_factory=ReportOptions)

    def __post_init__(self) -> None:
        if self.faces.is_on and self.texture.normal_map:
            raise UsageError("--face and --normal-map exclude each other: directions have no faces")


def load_options(
    flags: Mapping[str, Value | None], environ: Mapping[str, str], model: str = DEFAULT_MODEL
) -> Options:
    """Merge flags, environment and configuration file into checked options.

    Args:
        flags: Values by option name, such as `max_side`; None for a flag that is not given.
        environ: Environment variables.
        model: Network if none is named, and no fidelity, which needs `AUTO`.

    Raises:
        UsageError: A value is invalid, options exclude each other, or the configuration file
            cannot be read or has an unknown key.
    """
    layers = (_flag_layer(flags), _environment_layer(environ), _config_layer(environ))
    merged = _merge(layers)
    _check_exclusive("model", merged.get("model"), "models", merged.get("models"))
    if merged.get("shard") == AUTO:
        merged["shard"] = slurm_shard(environ)
    for name in ("model", "models"):
        _check_exclusive(name, merged.get(name), "zero_shot", merged.get("zero_shot") or None)
    if "fidelity" not in merged:
        merged.setdefault("model", model)
    return Options(
        size=SizeOptions(**_pick(merged, SizeOptions)),
        engine=EngineOptions(**_pick(merged, EngineOptions)),
        training=ZeroShotOptions(**_pick(merged, ZeroShotOptions)),
        faces=FaceOptions(**_pick(merged, FaceOptions)),
        texture=TextureOptions(**_pick(merged, TextureOptions)),
        video=VideoOptions(**_pick(merged, VideoOptions)),
        output=OutputOptions(**_pick(merged, OutputOptions)),
        run=RunOptions(**_pick(merged, RunOptions)),
        compare=CompareOptions(**_pick(merged, CompareOptions)),
        report=ReportOptions(**_pick(merged, ReportOptions)),
    )


def option_names() -> tuple[str, ...]:
    """Return the names of all options, such as `max_side`."""
    return tuple(_PARSERS)


def config_path(environ: Mapping[str, str]) -> Path | None:
    """Return the path of the configuration file, or None if there is none.

    `UPSCALE_CONFIG` names the file; if the variable is empty, no file is read.

    Raises:
        UsageError: The file that `UPSCALE_CONFIG` names does not exist.
    """
    name = environ.get("UPSCALE_CONFIG")
    if name == "":
        return None
    if name is not None:
        if not Path(name).is_file():
            raise UsageError(f"UPSCALE_CONFIG: {name}: no such file; correct or unset the variable")
        return Path(name)
    import platformdirs

    path = platformdirs.user_config_path("upscale", appauthor=False) / "config.toml"
    return path if path.is_file() else None


def _side(length: int, ratio: float) -> int:
    return max(1, round(length * ratio))


def _check_exclusive(name: str, value: object, other: str, other_value: object) -> None:
    if value is not None and other_value is not None:
        raise UsageError(f"{_flag(name)} and {_flag(other)} exclude each other: choose one")


def _flag(name: str) -> str:
    return "--" + name.replace("_", "-")


# --- sources ---------------------------------------------------------------------------------


def _flag_layer(flags: Mapping[str, Value | None]) -> dict[str, Any]:
    return {
        name: _PARSERS[name](_flag(name), value)
        for name, value in flags.items()
        if value is not None
    }


def _environment_layer(environ: Mapping[str, str]) -> dict[str, Any]:
    layer: dict[str, Any] = {}
    for name, parse in _PARSERS.items():
        variable = ENVIRONMENT_PREFIX + name.upper()
        if environ.get(variable):
            layer[name] = parse(variable, environ[variable])
    return layer


def _config_layer(environ: Mapping[str, str]) -> dict[str, Any]:
    path = config_path(environ)
    if path is None:
        return {}
    layer: dict[str, Any] = {}
    for key, value in _read_toml(path).items():
        name = key.replace("-", "_")
        if name not in _PARSERS:
            raise UsageError(f"{path}: unknown key {key!r}; choose from {', '.join(_PARSERS)}")
        if not isinstance(value, str | int | float | bool):
            raise UsageError(f"{path}: {key} must be a single value, not {type(value).__name__}")
        layer[name] = _PARSERS[name](f"{path}: {key}", value)
    return layer


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return parse_toml(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: is not a valid TOML file: {one_line(error)}") from error


def _merge(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Merge layers; earlier ones take precedence, also over options that exclude theirs."""
    merged: dict[str, Any] = {}
    for layer in layers:
        fixed = set(merged).union(
            *(group for group in _EXCLUSIVE if any(merged.get(name) for name in group))
        )
        if "format" in layer and _has_image_suffix(merged.get("output")):
            fixed.add("format")  # `-o out.jpg` takes precedence over a format from a later layer
        if merged.get("model", AUTO) != AUTO:
            fixed.add("fidelity")  # `-n NAME` takes precedence over a later layer's
        merged |= {name: value for name, value in layer.items() if name not in fixed}
    return merged


def _has_image_suffix(output: str | None) -> bool:
    if not output or output == "-" or output.endswith(("/", os.sep)):
        return False
    from upscale.images import format_of

    try:
        format_of(Path(output).suffix)
    except UpscaleError:
        return False
    return not Path(output).is_dir()


def _pick(merged: Mapping[str, Any], group: type[Any]) -> dict[str, Any]:
    return {item.name: merged[item.name] for item in fields(group) if item.name in merged}


# --- values ----------------------------------------------------------------------------------


def _text(label: str, value: Value) -> str:
    if not isinstance(value, str) or not value:
        raise UsageError(f"{label}: {value!r} is not a non-empty string")
    return value


def _number(label: str, value: Value) -> float:
    try:
        if isinstance(value, bool):
            raise ValueError
        number = float(value)
    except ValueError:
        raise UsageError(f"{label}: {value!r} is not a number") from None
    if not math.isfinite(number):
        raise UsageError(f"{label}: {value!r} is not a finite number")
    return number


def _whole(label: str, value: Value) -> int:
    try:
        if isinstance(value, bool | float):
            raise ValueError
        return int(value)
    except ValueError:
        raise UsageError(f"{label}: {value!r} is not a whole number") from None


def _switch(label: str, value: Value) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).lower()
    if word in _TRUE or word in _FALSE:
        return word in _TRUE
    raise UsageError(f"{label}: {value!r} is not a switch: use true or false")


def _scale(label: str, value: Value) -> float:
    factor = _FACTOR.fullmatch(value) if isinstance(value, str) else None
    number = _number(label, value if factor is None else factor[1] or factor[2])
    if number <= 0:
        raise UsageError(f"{label}: {value} is not greater than 0")
    return number


def _fraction(label: str, value: Value) -> float:
    number = _number(label, value)
    if not 0 <= number <= 1:
        raise UsageError(f"{label}: {value} is not between 0 and 1")
    return number


def _between(low: int, high: int | None = None) -> Callable[[str, Value], int]:
    def parse(label: str, value: Value) -> int:
        number = _whole(label, value)
        if number < low:
            raise UsageError(f"{label}: {number} is less than {low}")
        if high is not None and number > high:
            raise UsageError(f"{label}: {number} is greater than {high}")
        return number

    return parse


def parse_bytes(label: str, value: Value) -> int:
    """Return a size in bytes.

    Args:
        label: Name of the option for messages.
        value: The size, for example `500M`.

    Raises:
        UsageError: It is not a size.

    Example:
        >>> parse_bytes("--max-input", "2K")
        2048
    """
    parts = _BYTES.fullmatch(str(value))
    if parts is None or int(parts[1]) == 0:
        raise UsageError(f"{label}: {value!r} is not a size in bytes: use a number such as 500M")
    return int(parts[1]) << 10 * "KMG".find(parts[2].upper()) + 10 if parts[2] else int(parts[1])


def _tile(label: str, value: Value) -> int | str:
    if value == "auto":
        return "auto"
    number = _whole(label, value)
    if number != 0 and number < SMALLEST_TILE:
        raise UsageError(
            f"{label}: {value} is not a tile size: use auto, 0 to disable tiling, "
            f"or at least {SMALLEST_TILE}"
        )
    return number


def _device(label: str, value: Value) -> str:
    if value == "auto":
        return "auto"
    devices = str(value).split(",")
    if not all(_DEVICE.fullmatch(device) for device in devices):
        raise UsageError(
            f"{label}: unknown device {value!r}; choose from auto, cpu, cuda, cuda:N, mps, "
            "xpu, xpu:N, or a list such as cuda:0,cuda:1"
        )
    if len({f"{each}:0" if each in {"cuda", "xpu"} else each for each in devices}) < len(devices):
        raise UsageError(f"{label}: {value!r} contains a device twice")
    return ",".join(devices)


def _models(label: str, value: Value) -> tuple[str, ...]:
    names = tuple(name.strip() for name in _text(label, value).split(","))
    if not all(names):
        raise UsageError(f"{label}: {value!r} contains an empty name: use NAME,NAME")
    return tuple(dict.fromkeys(names))


def _crop(label: str, value: Value) -> Crop:
    if value == "auto":
        return "auto"
    parts = str(value).split(",")
    if len(parts) != 4:
        raise UsageError(f"{label}: {value!r} is not a crop: use auto or X,Y,WIDTH,HEIGHT")
    x, y = (_between(0)(label, part) for part in parts[:2])
    width, height = (_between(1)(label, part) for part in parts[2:])
    return x, y, width, height


def _precision(label: str, value: Value) -> str:
    if value not in PRECISIONS:
        raise UsageError(
            f"{label}: unknown precision {value!r}; choose from {', '.join(PRECISIONS)}"
        )
    return str(value)


def _keep_colour(label: str, value: Value) -> str:
    word = ("off", "on")[value] if isinstance(value, bool) else str(value)
    if word not in KEEP_COLOUR:
        raise UsageError(f"{label}: {value!r} is not one of {', '.join(KEEP_COLOUR)}")
    return word


def _dds_format(label: str, value: Value) -> str | None:
    name = str(value).lower()
    if name not in DDS_FORMATS:
        raise UsageError(f"{label}: unknown format {value!r}; choose from {', '.join(DDS_FORMATS)}")
    return None if name == "auto" else name


def _shard(label: str, value: Value) -> Shard | str:
    return AUTO if value == AUTO else parse_shard(label, str(value))


def _seamless(label: str, value: Value) -> str:
    if value not in ("x", "y", "xy"):
        raise UsageError(f"{label}: {value!r} is not a direction: use x, y or xy")
    return str(value)


_BYTES = re.compile(r"(\d{1,12})([KMG]?)", re.IGNORECASE)

_PARSERS: Mapping[str, Callable[[str, Value], Any]] = {
    "output": _text,
    "scale": _scale,
    "width": _between(1),
    "height": _between(1),
    "max_side": _between(1),
    "model": _text,
    "models": _models,
    "crop": _crop,
    "tile": _tile,
    "format": _text,
    "quality": _between(1, 100),
    "lossless": _switch,
    "strip_metadata": _switch,
    "device": _device,
    "precision": _precision,
    "tta": _switch,
    "files_from": _text,
    "jobs": _between(1, MOST_JOBS),
    "recursive": _switch,
    "overwrite": _switch,
    "skip_existing": _switch,
    "name": _text,
    "dry_run": _switch,
    "json": _switch,
    "quiet": _switch,
    "verbose": _switch,
    "zero_shot": _switch,
    "kernel": _text,
    "seed": _between(0),
    "denoise": _fraction,
    "fidelity": _fraction,
    "kernels": _switch,
    "keep_colour": _keep_colour,
    "steady": _fraction,
    "face": _switch,
    "face_model": _text,
    "face_detector": _text,
    "face_parser": _text,
    "face_strength": _fraction,
    "faces_only": _switch,
    "face_min_size": _between(12),
    "face_debug": _switch,
    "max_pixels": _between(1),
    "max_input": parse_bytes,
    "keep_damaged": _switch,
    "seamless": _seamless,
    "normal_map": _switch,
    "max_output_pixels": _between(1),
    "yes": _switch,
    "shard": _shard,
    "cluster": _text,
    "workers": _between(1),
    "dds_format": _dds_format,
    "mipmaps": _switch,
}
