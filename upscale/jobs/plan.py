"""What will be done, found before any work: inputs, outputs, sizes, formats and clashes."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path

from upscale.errors import ImageError, OutputError, UpscaleError, UsageError
from upscale.images import (
    DEFAULT_MAX_PIXELS,
    can_hold,
    can_write,
    format_of,
    label_of,
    read_size,
)
from upscale.jobs.events import JobResult, Status, error_text, path_text, traceback_text
from upscale.jobs.image import ImageJob
from upscale.jobs.inputs import (
    FALLBACK_FORMAT,
    Finder,
    Source,
    extension,
    file_key,
    own_format,
)
from upscale.jobs.naming import (
    BESIDE_BY_SCALE,
    BESIDE_BY_SIZE,
    IN_FOLDER,
    NameFields,
    check_template,
    model_label,
    render,
    short_scale,
)
from upscale.jobs.outputs import (
    Destination,
    TakenOutputs,
    choose_destination,
    format_argument,
)
from upscale.options import Options


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """What planning needs of a model: its name, and its scale where the size depends on it."""

    name: str
    scale: float = 1.0


@dataclass(frozen=True, slots=True)
class Plan:
    """The jobs in order; those that need no work, or cannot be done, are results already."""

    items: tuple[ImageJob | JobResult, ...]
    ignored: int = 0


def make_plan(
    inputs: Sequence[str], options: Options, model: ModelFacts, stdin: Callable[[], bytes]
) -> Plan:
    """Find the inputs and decide their outputs; nothing is written.

    Args:
        inputs: Files, folders, or `-`, as the user named them.
        options: What was asked for.
        model: The model that will be used.
        stdin: Reads all of standard input; called only for `-`.

    Raises:
        UsageError: The request is impossible for all inputs alike.
    """
    asked = options.output.format
    if asked is not None:
        asked = format_argument("--format", asked)
    if options.output.name is not None:
        check_template(options.output.name)
    destination = choose_destination(options.output.output, inputs, asked)
    finder = Finder(options.run.recursive, destination.path)
    sources = [source for name in inputs for source in finder.find(name, stdin)]
    planner = _Planner(options, model, destination, asked, sources)
    claimed = [planner.claim(source) for source in sources]
    items = tuple(planner.decide(item) for item in claimed if item is not None)
    return Plan((*items, *(_failure(e, model.name) for e in finder.failures)), finder.ignored)


class _Planner:
    """Decides one input after another, remembering which outputs are taken."""

    def __init__(
        self,
        options: Options,
        model: ModelFacts,
        destination: Destination,
        asked: str | None,
        sources: Sequence[Source],
    ) -> None:
        self._options = options
        self._model = model
        self._destination = destination
        self._asked = asked
        self._inputs = {
            mark for s in sources if isinstance(s.data, Path) for mark in _marks(s.data)
        }
        self._taken = TakenOutputs()
        self._writable: set[Path] = set()

    def claim(self, source: Source) -> ImageJob | JobResult | None:
        """Return a job that has an output of its own, or a failure; None for a repetition."""
        try:
            job = self._job(source)
        except UsageError:
            raise
        except (UpscaleError, OSError) as error:
            return replace(_failure(error, self._model.name), input=source.label)
        earlier = None if job.target is None else self._taken.take(job.target, source)
        if earlier is None:
            return job
        if earlier.is_same(source):
            return None
        hint = self._how_to_differ(source, earlier)
        return _refusal(job, f"{source.label}: has the same output as {earlier.label}: {hint}")

    def decide(self, item: ImageJob | JobResult) -> ImageJob | JobResult:
        """Return the job, or its result where there is nothing to do; all have been claimed."""
        if isinstance(item, JobResult):
            return item
        try:
            return self._result_of_before(item) or self._existing(item) or self._dry(item)
        except OSError as error:
            return settled(item, Status.FAILED, error)

    def _how_to_differ(self, source: Source, earlier: Source) -> str:
        template = self._template()
        if "{stem}" not in template:
            return "put {stem} into --name"
        if source.suffix.lower() != earlier.suffix.lower():
            return f"give --name '{template.replace('{stem}', '{stem}_{suffix}')}'"
        if source.parent.lower() != earlier.parent.lower():
            return f"give --name '{{folder}}/{template}'"
        return "do it apart, with another -o"

    def _result_of_before(self, job: ImageJob) -> JobResult | None:
        """Pass over an output of this batch that an earlier run made and a pattern now names."""
        if not self._options.output.skip_existing or not isinstance(job.source, Path):
            return None
        maker = self._taken.taker(job.source)
        if maker is None or maker.data == job.source:
            return None
        result = settled(job, Status.SKIPPED)
        return replace(result, notes=(*result.notes, f"is the output of {maker.label}"))

    def _job(self, source: Source) -> ImageJob:
        size_in = read_size(source.data)
        self._check_pixels(source, size_in)
        size_out = self._options.size.resolve(size_in, self._model.scale)
        format, note = self._format(source, size_out)
        job = ImageJob(
            label=source.label,
            source=source.data,
            target=None,
            format=format,
            size_in=size_in,
            size_out=size_out,
            model=self._model.name,
            note=note,
        )
        return replace(job, target=self._target(source, job))

    def _check_pixels(self, source: Source, size: tuple[int, int]) -> None:
        limit = self._options.run.max_pixels or DEFAULT_MAX_PIXELS
        if size[0] * size[1] > limit:
            raise ImageError(
                f"{source.label}: {size[0]}x{size[1]} is more than the limit of {limit} pixels: "
                "give a higher --max-pixels if you trust the file"
            )

    def _format(self, source: Source, size: tuple[int, int]) -> tuple[str, str | None]:
        """Return the format to write, and a note where it is not the expected one."""
        path = self._destination.path
        chosen = self._asked
        if chosen is None and self._destination.kind == "file" and path is not None:
            chosen = format_of(path.suffix)
        if chosen is not None:
            if reason := _too_large(chosen, size):
                raise OutputError(f"{source.label}: {reason}: give -f {FALLBACK_FORMAT}")
            return chosen, None
        own = own_format(source)
        if own is None or not can_write(own):
            # The only read-only format with floats.
            other = "tiff" if own == "pnm" and _suffix(source) == ".pfm" else FALLBACK_FORMAT
            return other, own and f"{label_of(own)} is only read, so it is written as {other}"
        if reason := _too_large(own, size):
            return FALLBACK_FORMAT, f"{reason}, so it is written as {FALLBACK_FORMAT}"
        return own, None

    def _target(self, source: Source, job: ImageJob) -> Path | None:
        kind, path = self._destination.kind, self._destination.path
        if kind == "stdout":
            return None
        if kind == "file":
            return path
        if path is None:
            folder = source.data.parent if isinstance(source.data, Path) else Path()
        else:
            folder = path / source.folder
        return folder / render(self._template(), self._fields(source, job))

    def _template(self) -> str:
        if self._options.output.name is not None:
            return self._options.output.name
        if self._destination.kind == "folder":
            return IN_FOLDER
        return BESIDE_BY_SCALE if self._options.size.is_ratio else BESIDE_BY_SIZE

    def _fields(self, source: Source, job: ImageJob) -> NameFields:
        size = self._options.size
        scale = (size.scale or self._model.scale) if size.is_ratio else job.scale
        width, height = job.size_out
        return NameFields(
            stem=source.stem,
            suffix=source.suffix,
            folder=source.parent or "root",
            scale=short_scale(scale),
            model=model_label(self._model.name),
            width=width,
            height=height,
            ext=extension(source, job.format),
        )

    def _existing(self, job: ImageJob) -> JobResult | None:
        """Return the result for a target that must not be written, None if it may be."""
        target, output = job.target, self._options.output
        if target is None:
            return None
        if not _is_there(target):
            return self._unwritable(job, target)
        if reason := self._unreplaceable(job, target):
            return _refusal(job, f"{target}: {reason}")
        if output.skip_existing:
            return settled(job, Status.SKIPPED)
        if not output.overwrite:
            hint = "give --overwrite or --skip-existing"
            return _refusal(job, f"{target}: exists already: {hint}")
        return self._unwritable(job, target)

    def _unreplaceable(self, job: ImageJob, target: Path) -> str | None:
        """Return why a target that exists can neither be replaced nor passed over."""
        if target.is_dir():
            return "is a folder"
        if not target.exists():
            return "is a link to nothing: remove it"
        itself = isinstance(job.source, Path) and target.samefile(job.source)
        if itself or (not self._options.output.skip_existing and self._inputs & _marks(target)):
            return "would replace an input: give another -o"
        return None

    def _unwritable(self, job: ImageJob, target: Path) -> JobResult | None:
        """Refuse before the computing what could not be written after it."""
        folder = target.parent
        if folder in self._writable:
            return None
        while not folder.exists() and folder != folder.parent:
            folder = folder.parent
        if folder.is_dir() and os.access(folder, os.W_OK):
            self._writable.add(target.parent)
            return None
        reason = "may not be written" if folder.is_dir() else "is not a folder"
        return _refusal(job, f"{target}: {folder} {reason}")

    def _dry(self, job: ImageJob) -> ImageJob | JobResult:
        return settled(job, Status.PLANNED) if self._options.run.dry_run else job


def _suffix(source: Source) -> str:
    return source.data.suffix.lower() if isinstance(source.data, Path) else ""


def _too_large(format: str, size: tuple[int, int]) -> str | None:
    """Return why a format cannot hold an image of `size`; alpha and depth show when it is read."""
    reason = can_hold(format, alpha=False, depth=8, width=size[0], height=size[1])
    return reason and f"{size[0]}x{size[1]}: {reason}"


def _is_there(path: Path) -> bool:
    """Whether a name is taken, by a link to nothing, too; OSError for impossible names."""
    try:
        path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    return True


def _marks(path: Path) -> set[object]:
    """Return what tells a file from others: its place, and where it lies on its drive.

    Neither is enough: links and spellings lead to one file, and some drives do not number files.
    """
    marks: set[object] = {file_key(path)}
    with suppress(OSError):
        status = path.stat()
        if status.st_ino:
            marks.add((status.st_dev, status.st_ino))
    return marks


def settled(job: ImageJob, status: Status, error: Exception | None = None) -> JobResult:
    """Return the result of a job that is not computed, or that an exception ended."""
    return JobResult(
        input=job.label,
        output=path_text(job.target),
        status=status,
        model=job.model,
        scale=job.scale,
        size_in=job.size_in,
        size_out=job.size_out,
        notes=() if job.note is None or error is not None else (job.note,),
        error=None if error is None else error_text(error),
        trace=None if error is None else traceback_text(error),
    )


def _refusal(job: ImageJob, message: str) -> JobResult:
    return settled(job, Status.FAILED, OutputError(message))


def _failure(error: UpscaleError | OSError, model: str) -> JobResult:
    return JobResult(
        input=str(error).partition(":")[0],
        output=None,
        status=Status.FAILED,
        model=model,
        error=error_text(error),
        trace=traceback_text(error),
    )
