"""Output names: templates with a fixed set of fields.

| field | example |
|---|---|
| `{stem}` | `photo` for `photo.jpg` |
| `{suffix}` | `jpg` for `photo.jpg`, in whatever format the output is written |
| `{folder}` | `holiday` for `images/holiday/photo.jpg` |
| `{scale}` | `4` or `2.5` (output width / input width if a size was requested) |
| `{model}` | `realesrgan-x4plus`, or `auto` |
| `{width}` `{height}` | size of the output in pixels |
| `{ext}` | `jpg`, without the dot; `.{ext}` is appended to templates that lack it |
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path, PurePath
from string import Formatter

from upscale.errors import UpscaleError, UsageError
from upscale.images import format_of

BESIDE_BY_SCALE = "{stem}_x{scale}.{ext}"
BESIDE_BY_SIZE = "{stem}_{width}x{height}.{ext}"
IN_FOLDER = "{stem}.{ext}"

_SIZE_SUFFIX = re.compile(r"_(x\d+(\.\d+)?|\d+x\d+)$")


@dataclass(frozen=True, slots=True)
class NameFields:
    """Values of the fields of a template."""

    stem: str
    suffix: str
    folder: str
    scale: str
    model: str
    width: int
    height: int
    ext: str


FIELDS = tuple(NameFields.__dataclass_fields__)


def short_scale(scale: float) -> str:
    """Return a scale with at most four digits: `4`, `2.5`, `3.333`."""
    return f"{scale:.4g}"


def model_label(model: str) -> str:
    """Return a model's name for use in a file name: the stem of a path, without separators."""
    label = Path(model).stem if Path(model).suffix else model
    label = "".join("_" if c in '/\\:*?"<>|' or not c.isprintable() else c for c in label)
    return label if label.strip(". ") else "model"


def strip_size_suffix(stem: str) -> str:
    """Remove what the default names append to a stem: `photo` for `photo_x4` or `photo_640x480`."""
    return _SIZE_SUFFIX.sub("", stem)


def check_template(template: str) -> None:
    """Reject a template that does not name a file safely.

    Raises:
        UsageError: Unknown or decorated fields, unbalanced braces, an absolute path, or `..`.
    """
    for name, spec, conversion in _parse(template):
        if name not in FIELDS:
            known = ", ".join(f"{{{field}}}" for field in FIELDS)
            raise UsageError(f"--name: unknown field {{{name}}}; known fields: {known}")
        if spec or conversion:
            raise UsageError(f"--name: {{{name}}} takes no format or conversion")
    path = PurePath(template)
    if path.is_absolute() or ".." in path.parts or not path.name:
        raise UsageError(f"--name: {template!r} must name a file inside the output folder")


def render(
    template: str, fields: NameFields, format_of_suffix: Callable[[str], str] = format_of
) -> str:
    """Return the output's path relative to the output folder, with its suffix.

    Args:
        template: Template of the user.
        fields: Values of the fields.
        format_of_suffix: Function that returns the format which a suffix names, or raises an
            UpscaleError.

    Raises:
        UsageError: The template is invalid, ends in the suffix of a different format, or would
            lead out of the output folder.
    """
    check_template(template)
    name = template.format(**asdict(fields))
    parts = PurePath(name).parts
    if ".." in parts or PurePath(name).is_absolute() or not PurePath(name).name:
        # A field may be empty or consist of dots, such as the model of `...safetensors`.
        raise UsageError(f"--name: {template!r} would write outside the output folder: {name!r}")
    if any(field == "ext" for field, _, _ in _parse(template)):
        return name
    suffix = PurePath(name).suffix
    try:
        written = format_of_suffix(suffix)
    except UpscaleError:
        return f"{name}.{fields.ext}"
    if written != format_of_suffix(f".{fields.ext}"):
        raise UsageError(
            f"--name: {template!r} names another format than {fields.ext}: "
            f"pass -f {suffix[1:]} or end the name in .{{ext}}"
        )
    return name


def _parse(template: str) -> list[tuple[str, str, str]]:
    """Return (field, format specification, conversion) of each replacement field."""
    try:
        parts = list(Formatter().parse(template))
    except ValueError as error:
        raise UsageError(f"--name: {template!r}: {error}") from error
    return [(name, spec or "", conv or "") for _, name, spec, conv in parts if name is not None]
