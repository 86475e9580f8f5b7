"""Batches of videos: which files are upscaled, and the name of each output."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from upscale.errors import OutputError, UsageError, VideoError
from upscale.files.identity import file_ids, file_key, is_same_file
from upscale.files.printable import printable
from upscale.files.regular import is_empty_file
from upscale.files.video_files import is_video_name
from upscale.jobs.inputs import STANDARD_STREAM, Finder, Source
from upscale.jobs.naming import (
    IN_FOLDER,
    NameFields,
    check_template,
    model_label,
    render,
    short_scale,
)
from upscale.jobs.outputs import ClaimedOutputs
from upscale.video.encoders import CONTAINERS, container_of

_FALLBACK = ".mkv"
"""Suffix of the container that holds the most, for inputs whose own container is not written."""

_SIZE_FIELDS = ("{width}", "{height}")


@dataclass(frozen=True, slots=True)
class BatchNaming:
    """How outputs in a folder are named.

    Attributes:
        folder: Folder of the outputs.
        template: Template of the user, such as `{stem}_x{scale}`; None for the input's own name.
        suffix: Suffix of the container that the user chose, such as `.mp4`; None for the input's.
        model: Name of the network.
        scale: Output size divided by input size; None if it differs between videos.
        skips_existing: Whether videos whose output exists are skipped.
    """

    folder: Path
    template: str | None
    suffix: str | None
    model: str
    scale: float | None
    skips_existing: bool = False


@dataclass(frozen=True, slots=True)
class VideoTask:
    """One video of a batch.

    Attributes:
        source: The video.
        output: Its output.
        error: Why it cannot be upscaled; None if that is not known yet.
        origin: Video of which this one is the output, by an earlier run; None if it is none.
    """

    source: Path
    output: Path
    error: VideoError | OutputError | None = None
    origin: str | None = None

    @property
    def is_done(self) -> bool:
        """Whether the output exists; a killed run leaves an empty file on some drives."""
        return self.output.is_file() and not is_empty_file(self.output)


@dataclass(frozen=True, slots=True)
class VideoBatch:
    """The work of a batch.

    Attributes:
        tasks: Videos in order.
        ignored: Number of files in folders that are not videos.
    """

    tasks: tuple[VideoTask, ...]
    ignored: int = 0


def is_batch(inputs: Sequence[str], output: str) -> bool:
    """Return whether outputs go into a folder, because there may be several.

    Example:
        >>> is_batch(["clip.mp4"], "out.mp4"), is_batch(["clip.mp4"], "out/")
        (False, True)
    """
    is_folder = output.endswith(("/", os.sep)) or Path(output).is_dir()
    return is_folder or len(inputs) > 1 or Path(inputs[0]).is_dir()


def plan_batch(inputs: Sequence[str], naming: BatchNaming, *, recursive: bool) -> VideoBatch:
    """Find the videos of a batch, and name their outputs; nothing is read or written.

    Args:
        inputs: Files and folders, as the user named them.
        naming: How outputs are named.
        recursive: Whether subfolders are searched.

    Raises:
        UsageError: The request is impossible for all videos alike.
    """
    if "" in inputs:
        raise UsageError("an input has an empty name")
    if STANDARD_STREAM in inputs:
        raise UsageError("-: standard input needs an output file, not a folder")
    _check_naming(naming)
    finder = Finder(recursive, naming.folder, accepts=is_video_name)
    sources = [source for name in inputs for source in finder.find(name, bytes)]
    tasks = [*_tasks(sources, naming)]
    origins = {file_key(task.output): str(task.source) for task in tasks if task.error is None}
    tasks = [_with_origin(task, origins) for task in tasks]
    tasks += [
        VideoTask(Path(str(each).partition(":")[0]), naming.folder, VideoError(str(each)))
        for each in finder.failures
    ]
    return VideoBatch(tuple(tasks), finder.ignored)


def _with_origin(task: VideoTask, origins: Mapping[str, str]) -> VideoTask:
    """Name the video of which a task's source is the output."""
    origin = origins.get(file_key(task.source))
    return task if origin in (None, str(task.source)) else replace(task, origin=origin)


def _check_naming(naming: BatchNaming) -> None:
    if naming.folder.exists() and not naming.folder.is_dir():
        name = printable(naming.folder)
        raise UsageError(f"{name}: is a file; several videos need a folder as output")
    template = naming.template
    if template is None:
        return
    check_template(template)
    unknown = next((field for field in _SIZE_FIELDS if field in template), None)
    if unknown is None and naming.scale is None and "{scale}" in template:
        unknown = "{scale}"
    if unknown is not None:
        raise UsageError(f"--name: {unknown} is not known before a video is read; leave it out")


def _tasks(sources: Sequence[Source], naming: BatchNaming) -> Iterator[VideoTask]:
    """Yield a task for each source but repeated ones; of equal outputs, the first is kept."""
    outputs = ClaimedOutputs()
    inputs = {each for source in sources for each in file_ids(Path(source.label))}
    for source in sources:
        task = VideoTask(Path(source.label), naming.folder / _name(source, naming))
        earlier = outputs.claim(task.output, source)
        if earlier is not None and earlier.is_same(source):
            continue
        if earlier is not None:
            reason = f"has the same output as {printable(earlier.label)}"
            advice = "pass --name '{stem}_{suffix}', or -o with another folder"
            error = OutputError(f"{printable(source.label)}: {reason}; {advice}")
            task = replace(task, error=error)
        elif is_same_file(task.output, task.source) or (
            not naming.skips_existing and inputs & file_ids(task.output)
        ):
            name = printable(task.output)
            error = OutputError(f"{name}: would replace an input; choose another folder")
            task = replace(task, error=error)
        yield task


def _name(source: Source, naming: BatchNaming) -> Path:
    """Return the path of an output relative to the folder."""
    own = Path(source.label).suffix
    suffix = naming.suffix or (own if own.lower() in CONTAINERS else _FALLBACK)
    fields = NameFields(
        stem=source.stem,
        suffix=own[1:],
        folder=source.parent or "root",
        scale="" if naming.scale is None else short_scale(naming.scale),
        model=model_label(naming.model),
        width=0,
        height=0,
        ext=suffix[1:],
    )
    return source.folder / render(naming.template or IN_FOLDER, fields, _container_of)


def _container_of(suffix: str) -> str:
    return container_of(Path(f"name{suffix}"))
