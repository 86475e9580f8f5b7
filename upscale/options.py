"""What a user asked for: frozen objects, checked once, whatever source a value came from.

A value is taken from the flags, else from the environment (`UPSCALE_<FLAG>`), else from the
configuration file, else from the defaults below. Options that are alternatives to each other (the
ways to give a size; overwrite and skip-existing) are taken together from the first of these
sources that names any of them, so that `--width` on the command line replaces a `scale` in the
configuration file instead of contradicting it.
"""

from __future__ import annotations

import math
import os
import re
import tomllib
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

from upscale.engine.choices import PRECISIONS, SMALLEST_TILE
from upscale.errors import UpscaleError, UsageError

DEFAULT_MODEL = "realesrgan-x4plus"
MOST_JOBS = 64
ENVIRONMENT_PREFIX = "UPSCALE_"

Value = str | int | float | bool
"""A value before it is checked: text from a flag or the environment, or a TOML scalar."""

Crop = tuple[int, int, int, int] | Literal["auto"]
"""Left, top, width and height in input pixels; or where most detail is."""

_DEVICE = re.compile(r"cpu|mps|cuda(:\d+)?")
_TRUE = ("1", "true", "yes", "on")
_FALSE = ("0", "false", "no", "off")
_FAMILIES = (
    frozenset({"model", "models"}),
    frozenset({"scale", "width", "height", "max_side"}),
    frozenset({"overwrite", "skip_existing"}),
    frozenset({"quality", "lossless"}),
)


@dataclass(frozen=True, slots=True)
class SizeOptions:
    """The size of the result: a ratio, a width and/or height, or a longer side, in pixels.

    Nothing given means the model's own scale.
    """

    scale: float | None = None
    width: int | None = None
    height: int | None = None
    max_side: int | None = None

    def __post_init__(self) -> None:
        _refuse_both("scale", self.scale, "width", self.width)
        _refuse_both("scale", self.scale, "height", self.height)
        _refuse_both("scale", self.scale, "max_side", self.max_side)
        _refuse_both("max_side", self.max_side, "width", self.width)
        _refuse_both("max_side", self.max_side, "height", self.height)

    @property
    def is_ratio(self) -> bool:
        """Whether the size follows from a scale (the user's or the model's)."""
        return self.width is None and self.height is None and self.max_side is None

    @property
    def needs_model_scale(self) -> bool:
        """Whether nothing was given, so that the model decides."""
        return self.is_ratio and self.scale is None

    def resolve(self, size: tuple[int, int], model_scale: float) -> tuple[int, int]:
        """Return the (width, height) of the result for an image of `size` = (width, height)."""
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
    """What the network runs on and how.

    `tile` is a side in input pixels, 0 for no tiles; `device` is one, or several with commas;
    `kernels` lets compiled kernels take over from torch.
    """

    model: str = DEFAULT_MODEL
    tile: int | Literal["auto"] = "auto"
    device: str = "auto"
    precision: str = "auto"
    tta: bool = False
    denoise: float | None = None
    kernels: bool = True

    @property
    def devices(self) -> tuple[str, ...]:
        """The devices that share a batch."""
        return tuple(self.device.split(","))


@dataclass(frozen=True, slots=True)
class OutputOptions:
    """Where results go, in which format, with what metadata, and what may be replaced.

    `quality` is 1..100 for formats that lose; `lossless` asks for none of that loss.
    """

    output: str | None = None
    format: str | None = None
    quality: int | None = None
    lossless: bool = False
    strip_metadata: bool = False
    name: str | None = None
    overwrite: bool = False
    skip_existing: bool = False

    def __post_init__(self) -> None:
        if self.overwrite and self.skip_existing:
            raise UsageError("--overwrite and --skip-existing exclude each other: give one")
        if self.lossless and self.quality is not None:
            raise UsageError("--lossless and --quality exclude each other: give one")


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How a batch is run.

    `max_pixels` is the largest input that is read, None the default; `files_from` names a file
    that lists inputs, or `-`.
    """

    files_from: str | None = None
    jobs: int = 2
    recursive: bool = False
    dry_run: bool = False
    max_pixels: int | None = None


@dataclass(frozen=True, slots=True)
class CompareOptions:
    """Networks to try on each input, or on a crop of it, for a page that compares the results."""

    models: tuple[str, ...] = ()
    crop: Crop | None = None


@dataclass(frozen=True, slots=True)
class ReportOptions:
    """What is printed."""

    json: bool = False
    quiet: bool = False
    verbose: bool = False


@dataclass(frozen=True, slots=True)
class Options:
    """Everything that the default command can be told."""

    size: SizeOptions = field(default_factory=SizeOptions)
    engine: EngineOptions = field(default_factory=EngineOptions)
    output: OutputOptions = field(default_factory=OutputOptions)
    run: RunOptions = field(default_factory=RunOptions)
    compare: CompareOptions = field(default_factory=CompareOptions)
    report: ReportOptions = field(default_factory=ReportOptions)


def load_options(flags: Mapping[str, Value | None], environ: Mapping[str, str]) -> Options:
    """Merge flags, environment and configuration file into checked options.

    Args:
        flags: Values by option name (`max_side`); None where the flag was not given.
        environ: The process environment.

    Raises:
        UsageError: A value is wrong, options exclude each other, or the configuration file cannot
            be read or has an unknown key.
    """
    layers = (_flag_layer(flags), _environment_layer(environ), _config_layer(environ))
    merged = _merge(layers)
    _refuse_both("model", merged.get("model"), "models", merged.get("models"))
    return Options(
        size=SizeOptions(**_pick(merged, SizeOptions)),
        engine=EngineOptions(**_pick(merged, EngineOptions)),
        output=OutputOptions(**_pick(merged, OutputOptions)),
        run=RunOptions(**_pick(merged, RunOptions)),
        compare=CompareOptions(**_pick(merged, CompareOptions)),
        report=ReportOptions(**_pick(merged, ReportOptions)),
    )


def option_names() -> tuple[str, ...]:
    """Every option's name, as in `max_side`."""
    return tuple(_PARSERS)


def config_path(environ: Mapping[str, str]) -> Path | None:
    """Return the configuration file to read, or None where there is none.

    `UPSCALE_CONFIG` names the file; empty means that none is read.

    Raises:
        UsageError: The file that `UPSCALE_CONFIG` names does not exist.
    """
    named = environ.get("UPSCALE_CONFIG")
    if named == "":
        return None
    if named is not None:
        if not Path(named).is_file():
            raise UsageError(f"UPSCALE_CONFIG: {named}: no such file")
        return Path(named)
    import platformdirs

    path = platformdirs.user_config_path("upscale", appauthor=False) / "config.toml"
    return path if path.is_file() else None


def _side(length: int, ratio: float) -> int:
    return max(1, round(length * ratio))


def _refuse_both(first: str, one: object, second: str, other: object) -> None:
    if one is not None and other is not None:
        raise UsageError(f"{_flag(first)} and {_flag(second)} exclude each other: give one")


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
            raise UsageError(f"{path}: unknown key {key!r}; known: {', '.join(_PARSERS)}")
        if not isinstance(value, str | int | float | bool):
            raise UsageError(f"{path}: {key} must be one value, not {type(value).__name__}")
        layer[name] = _PARSERS[name](f"{path}: {key}", value)
    return layer


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError) as error:
        raise UsageError(f"{path}: cannot be read as TOML: {error}") from error


def _merge(layers: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """Join layers, the first one strongest; families of alternatives are taken whole."""
    merged: dict[str, Any] = {}
    for layer in layers:
        taken = set(merged).union(
            *(family for family in _FAMILIES if any(merged.get(name) for name in family))
        )
        if "format" in layer and _names_a_image(merged.get("output")):
            taken.add("format")  # `-o out.jpg` outranks the format of a weaker source
        merged |= {name: value for name, value in layer.items() if name not in taken}
    return merged


def _names_a_image(output: str | None) -> bool:
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
        raise UsageError(f"{label}: {value!r} is not a text")
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
    raise UsageError(f"{label}: {value!r} is neither true nor false")


def _scale(label: str, value: Value) -> float:
    number = _number(label, value)
    if number <= 0:
        raise UsageError(f"{label}: {value} is not above 0")
    return number


def _fraction(label: str, value: Value) -> float:
    number = _number(label, value)
    if not 0 <= number <= 1:
        raise UsageError(f"{label}: {value} is outside 0..1")
    return number


def _between(low: int, high: int | None = None) -> Callable[[str, Value], int]:
    def parse(label: str, value: Value) -> int:
        number = _whole(label, value)
        if number < low:
            raise UsageError(f"{label}: {number} is below {low}")
        if high is not None and number > high:
            raise UsageError(f"{label}: {number} is above {high}")
        return number

    return parse


def _tile(label: str, value: Value) -> int | str:
    if value == "auto":
        return "auto"
    number = _whole(label, value)
    if number != 0 and number < SMALLEST_TILE:
        raise UsageError(
            f"{label}: {value} is not a tile size: give auto, 0 for no tiles, "
            f"or {SMALLEST_TILE} and more"
        )
    return number


def _device(label: str, value: Value) -> str:
    if value == "auto":
        return "auto"
    devices = str(value).split(",")
    if not all(_DEVICE.fullmatch(device) for device in devices):
        known = "auto, cpu, cuda, cuda:N, mps"
        raise UsageError(f"{label}: {value!r} is not one of {known}, nor several as cuda:0,cuda:1")
    if len({"cuda:0" if device == "cuda" else device for device in devices}) < len(devices):
        raise UsageError(f"{label}: {value!r} names a device twice")
    return ",".join(devices)


def _models(label: str, value: Value) -> tuple[str, ...]:
    names = tuple(name.strip() for name in _text(label, value).split(","))
    if not all(names):
        raise UsageError(f"{label}: {value!r} has an empty name: give NAME,NAME")
    return tuple(dict.fromkeys(names))


def _crop(label: str, value: Value) -> Crop:
    if value == "auto":
        return "auto"
    parts = str(value).split(",")
    if len(parts) != 4:
        raise UsageError(f"{label}: {value!r} is neither auto nor X,Y,WIDTH,HEIGHT")
    x, y = (_between(0)(label, part) for part in parts[:2])
    width, height = (_between(1)(label, part) for part in parts[2:])
    return x, y, width, height


def _precision(label: str, value: Value) -> str:
    if value not in PRECISIONS:
        raise UsageError(f"{label}: {value!r} is not one of {', '.join(PRECISIONS)}")
    return str(value)


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
    "denoise": _fraction,
    "kernels": _switch,
    "max_pixels": _between(1),
}
