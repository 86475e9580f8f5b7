"""Settings of the page: checked, turned into options, and written as a command line."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from upscale.app.uploads import Upload
from upscale.checkpoints import catalog, face_catalog, imported_names
from upscale.errors import UsageError
from upscale.files.paths import expand_user
from upscale.files.printable import shell_word
from upscale.jobs.naming import BESIDE_BY_SCALE, BESIDE_BY_SIZE
from upscale.options import (
    AUTO,
    NO_FACE_MODEL,
    CompareOptions,
    Options,
    ReportOptions,
    RunOptions,
    Value,
    ZeroShotOptions,
    load_options,
)

VIDEO_SUFFIXES = (".mp4", ".m4v", ".mov", ".mkv", ".webm")
"""Containers that videos are written to."""

MOST_COMPARED = 12
_SHARED_FLAGS = (
    *("model", "scale", "width", "height", "max_side", "denoise", "fidelity", "keep_colour"),
    *("tta", "face", "face_model", "face_strength"),
)
_IMAGE_FLAGS = (
    *("format", "quality", "lossless", "seamless", "normal_map", "strip_metadata"),
    *("keep_damaged", "yes"),
)
_VIDEO_FLAGS = ("steady",)
_NOT_COMPARED = ("model", "format", "quality", "lossless", "overwrite", "skip_existing")
_EXISTING = {"": {}, "overwrite": {"overwrite": True}, "skip": {"skip_existing": True}}
_OTHERS = ("existing", "folder", "container", "models")


@dataclass(frozen=True, slots=True)
class Settings:
    """What the page asks for, checked one by one.

    Attributes:
        flags: Options by their names, such as `max_side`.
        folder: Folder that results are saved to; None to offer them as downloads.
        container: Suffix of videos, such as `.mkv`; empty for that of the input.
        models: Networks to compare.
    """

    flags: Mapping[str, Value]
    folder: Path | None = None
    container: str = ""
    models: tuple[str, ...] = ()

    def of_images(self) -> dict[str, Value]:
        """Return the options that images have."""
        return {name: value for name, value in self.flags.items() if name not in _VIDEO_FLAGS}

    def of_videos(self) -> dict[str, Value]:
        """Return the options that videos have."""
        without = (*_IMAGE_FLAGS, "skip_existing")
        return {name: value for name, value in self.flags.items() if name not in without}


@dataclass(frozen=True, slots=True)
class SettingsReader:
    """Read the settings of the page.

    Attributes:
        environ: Environment variables, which hold defaults as for the command line.
        save_folder: Folder that results may be saved to; None for none.
        any_folder: Whether the page may name any folder of this machine.
    """

    environ: Mapping[str, str]
    save_folder: Path | None = None
    any_folder: bool = False

    def read(self, form: object) -> Settings:
        """Check the settings that a page sent.

        Raises:
            UsageError: A setting is unknown or has an invalid value.
        """
        if not isinstance(form, dict):
            raise UsageError("settings: is not an object")
        values = dict(cast(dict[str, Any], form))
        known = {*_SHARED_FLAGS, *_IMAGE_FLAGS, *_VIDEO_FLAGS, *_OTHERS}
        if unknown := sorted(set(values) - known):
            raise UsageError(f"settings: unknown name {unknown[0]!r}")
        models = self._models(values.pop("models", []))
        for name, value in values.items():
            if not isinstance(value, str | int | float | bool):
                raise UsageError(f"{name}: is not a single value")
        flags: dict[str, Value] = {
            name: value
            for name, value in values.items()
            if name not in _OTHERS and value != "" and value is not False
        }
        existing = values.get("existing", "")
        if existing not in _EXISTING:
            raise UsageError(f"existing: {existing!r} is not one of overwrite and skip")
        flags |= _EXISTING[existing]
        self._check_choices(flags)
        settings = Settings(
            flags, self._folder(values), _container(values.get("container", "")), models
        )
        self.options(settings.of_images())
        self.options(settings.of_videos())
        return settings

    def options(self, flags: Mapping[str, Value]) -> Options:
        """Return the options for some flags, as the command line would have them.

        Raises:
            UsageError: Options exclude each other.
        """
        flags = dict(flags)
        normal = flags.pop("normal_map", None)
        if normal and flags.get("face"):
            raise UsageError("faces and a normal map exclude each other: directions have no faces")
        options = load_options({**flags, "normal_map": normal}, self.environ)
        run = RunOptions(
            jobs=options.run.jobs,
            recursive=True,
            max_pixels=options.run.max_pixels,
            keep_damaged=options.run.keep_damaged,
            max_output_pixels=options.run.max_output_pixels,
            yes=options.run.yes,
        )
        return replace(
            options,
            run=run,
            training=ZeroShotOptions(),
            compare=CompareOptions(),
            report=ReportOptions(),
        )

    def default_model(self) -> str:
        """Return the network that the command line uses if none is named."""
        return load_options({}, self.environ).engine.model

    def _models(self, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or len(cast(list[Any], value)) > MOST_COMPARED:
            raise UsageError(f"models: is not a list of at most {MOST_COMPARED} networks")
        names = tuple(dict.fromkeys(str(name) for name in cast(list[Any], value)))
        for name in names:
            _check_one_of("models", name, self.model_names())
        return names

    def model_names(self) -> list[str]:
        """Return the networks that a page may name; files of this machine are not among them."""
        names = [AUTO, *catalog(), *imported_names()]
        default = self.default_model()
        return names if default in names else [default, *names]

    def _check_choices(self, flags: Mapping[str, Value]) -> None:
        if "model" in flags:
            _check_one_of("model", flags["model"], self.model_names())
        if "face_model" in flags:
            _check_one_of("face_model", flags["face_model"], [*face_catalog(), NO_FACE_MODEL])

    def _folder(self, values: Mapping[str, Any]) -> Path | None:
        name = str(values.get("folder", ""))
        if not name:
            return None
        if not self.any_folder:
            if self.save_folder is None or name != str(self.save_folder):
                raise UsageError("folder: this server saves only to the folder of its --output")
            return self.save_folder
        folder = expand_user(Path(name))
        if "\0" in name or not folder.is_absolute():
            raise UsageError(f"folder: {name!r} is not a full path, such as {Path.home()}")
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"folder: {name!r} is not a folder")
        return folder


def _check_one_of(name: str, value: object, choices: Sequence[str]) -> None:
    if value not in choices:
        raise UsageError(f"{name}: {value!r} is not one of {', '.join(choices)}")


def _container(value: object) -> str:
    if value not in ("", *VIDEO_SUFFIXES):
        raise UsageError(f"container: {value!r} is not one of {', '.join(VIDEO_SUFFIXES)}")
    return str(value)


def name_template(options: Options, uploads: Sequence[Upload]) -> str | None:
    """Return the template of the names of images, None for that of the input.

    Files that were dropped by themselves get the names that the command line gives them next to
    the input. Those of a folder keep theirs.
    """
    if options.output.name is not None or any(upload.folder for upload in uploads):
        return options.output.name
    return BESIDE_BY_SCALE if options.size.is_ratio else BESIDE_BY_SIZE


def video_name(upload: Upload, options: Options, scale: str, container: str) -> str:
    """Return the name of an upscaled video.

    Args:
        upload: The video.
        options: Its options.
        scale: Scale as names have it, such as `4` or `2.5`.
        container: Suffix; empty for that of the input, if it can be written.
    """
    suffix = upload.path.suffix.lower()
    suffix = container or (suffix if suffix in VIDEO_SUFFIXES else ".mp4")
    label = f"x{scale}" if options.size.is_ratio else "upscaled"
    return f"{upload.path.stem}_{label}{suffix}"


def command_lines(
    settings: Settings, uploads: Sequence[Upload], video_names: Sequence[str], template: str | None
) -> list[str]:
    """Return the command lines that do the same, the images first.

    Args:
        settings: Settings of the page.
        uploads: The files.
        video_names: Names of the results of the videos among them.
        template: Template of the names of images; None for the default in a folder.
    """
    images = [upload for upload in uploads if not upload.is_video]
    videos = [upload for upload in uploads if upload.is_video]
    lines: list[str] = []
    if images:
        lines.append(_image_command(settings, images, template))
    for upload, name in zip(videos, video_names, strict=True):
        output = str(settings.folder / name) if settings.folder is not None else name
        words = ["upscale", "video", _word(upload.name), _word(output)]
        lines.append(" ".join([*words, *_flags(settings.of_videos())]))
    return lines


def preview_command(settings: Settings, images: Sequence[Upload]) -> str:
    """Return the command line that compares networks; empty without images.

    Args:
        settings: Settings of the page.
        images: Images to compare on.
    """
    if not images:
        return ""
    words = [_word(image.name, is_first=not place) for place, image in enumerate(images)]
    flags = {k: v for k, v in settings.of_images().items() if k not in _NOT_COMPARED}
    models = ["--models", ",".join(settings.models), "--crop", "auto"]
    return " ".join(["upscale", *words, *models, *_flags(flags)])


def _image_command(settings: Settings, images: Sequence[Upload], template: str | None) -> str:
    names = list(dict.fromkeys(upload.folder or upload.name for upload in images))
    has_folder = any(upload.folder for upload in images)
    words = ["upscale", *(_word(name, is_first=not place) for place, name in enumerate(names))]
    if settings.folder is not None:
        words += ["-o", shell_word(f"{settings.folder}{os.sep}")]
        words += ["--name", shell_word(template)] if template is not None else []
    elif has_folder:
        words += ["-o", "upscaled/"]
    words += ["--recursive"] if has_folder else []
    return " ".join([*words, *_flags(settings.of_images())])


def _word(name: str, *, is_first: bool = False) -> str:
    """Return an input as it is typed; names of commands and of options get a path in front."""
    is_bare = is_first and "." not in name and "/" not in name
    return shell_word(f"./{name}" if name.startswith("-") or is_bare else name)


def _flags(flags: Mapping[str, Value]) -> list[str]:
    words: list[str] = []
    for name, value in flags.items():
        flag = "-n" if name == "model" else f"--{name.replace('_', '-')}"
        words += [flag] if value is True else [flag, shell_word(str(value))]
    return words
